"""Measuring the checkpoints that any training writes into a folder, also while it is still writing them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

from ntklens.dynamics.tracker import KernelTracker
from ntklens.errors import InputError
from ntklens.networks import STATE_SUFFIXES, epoch_of, is_saved_by_lightning, is_weights_file, load_state

_SECONDS_TO_WRITE = 2.0
"""Seconds since its last change after which a file that does not load counts as damaged, not as still being written."""


def checkpoints(folder: str | Path) -> list[tuple[float, Path]]:
    """Return the checkpoints in a folder with the epochs in their names, in the order of the epochs.

    Files without an epoch in their name are left out. Lightning counts from 0 and saves after the epoch: its `epoch=0`,
    named so, is a network of one epoch, and has epoch 1 here, as for `KernelCallback`.

    Raises:
        InputError: the folder does not exist, or two files have the same epoch.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the one that your training writes checkpoints to.")
    by_epoch: dict[float, Path] = {}
    for path in sorted(folder.iterdir()):
        epoch = epoch_of(path) if path.is_file() and is_weights_file(path) else None
        if epoch is None:
            continue
        if is_saved_by_lightning(path):
            epoch += 1
        if epoch in by_epoch:
            raise InputError(
                f"{by_epoch[epoch].name} and {path.name} are both of epoch {epoch:g}. Give each training its own folder."
            )
        by_epoch[epoch] = path
    return sorted(by_epoch.items())


def watch(
    tracker: KernelTracker,
    module: nn.Module,
    folder: str | Path,
    *,
    scores: Callable[[nn.Module], dict[str, float]] | None = None,
    patience: float = 0.0,
    poll: float = 1.0,
    on_record: Callable[[float], None] | None = None,
) -> int:
    """Record every checkpoint of a folder that is later than the tracker's last record; return how many were recorded.

    Args:
        tracker: the tracker; if it has a folder, this may be interrupted and called again at any time.
        module: a network of the checkpoints' architecture.
        folder: the folder of the checkpoints, which have their epochs in their names.
        scores: computes further figures for the row of a network, such as accuracies.
        patience: seconds to wait for another checkpoint after the last one; with 0 only the present files are measured.
        poll: seconds between two looks at the folder.
        on_record: called with the epoch of each record.

    Raises:
        InputError: the folder still holds no checkpoint when the patience is over, or a checkpoint does not load.
    """
    count = 0
    deadline = time.monotonic() + patience
    while True:
        last_epoch = tracker.epochs[-1] if tracker.epochs else float("-inf")
        for epoch, path in checkpoints(folder):
            if epoch <= last_epoch:
                continue
            try:
                network = load_state(module, path)
            except InputError:
                if not path.exists():
                    continue  # the training has removed it
                if patience and time.time() - path.stat().st_mtime < _SECONDS_TO_WRITE:
                    # The training may still be writing it: look again, even if the patience would be over by then.
                    deadline = max(deadline, time.monotonic() + _SECONDS_TO_WRITE)
                    break
                raise
            tracker.record(network, epoch, **(scores(network) if scores else {}))
            count += 1
            deadline = time.monotonic() + patience
            if on_record:
                on_record(epoch)
        if time.monotonic() >= deadline:
            break
        time.sleep(poll)
    if not tracker.epochs:
        suffixes = ", ".join(STATE_SUFFIXES)
        raise InputError(
            f"{folder} holds no checkpoint with an epoch in its name ({suffixes}), such as epoch-3.safetensors."
        )
    return count
