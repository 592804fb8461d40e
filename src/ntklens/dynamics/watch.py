"""Measuring the checkpoints that any training writes into a folder, also while it is still writing them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

from ntklens.dynamics.tracker import KernelTracker
from ntklens.errors import InputError
from ntklens.networks import STATE_SUFFIXES, epoch_of, load_state

_SETTLED = 2.0
"""Seconds after which a file that does not load is taken for damaged, not for half written."""


def checkpoints(folder: str | Path) -> list[tuple[float, Path]]:
    """Checkpoints in a folder with the epochs in their names, in order of these; files without a number are left out.

    Raises:
        InputError: no such folder, or two files of one epoch.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the one that your training writes checkpoints to.")
    found: dict[float, Path] = {}
    for path in sorted(folder.iterdir()):
        epoch = epoch_of(path) if path.suffix in STATE_SUFFIXES else None
        if epoch is None:
            continue
        if epoch in found:
            raise InputError(
                f"{found[epoch].name} and {path.name} are both of epoch {epoch:g}; put one training in one folder."
            )
        found[epoch] = path
    return sorted(found.items())


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
    """Record every checkpoint of a folder that is later than what the tracker has; returns how many were recorded.

    Args:
        tracker: with a folder of its own it can be stopped, and called again, at any time.
        module: of the checkpoints' architecture.
        folder: of the checkpoints; the epochs are in their names.
        scores: further figures of each network for its row, such as accuracies.
        patience: seconds to wait for a further checkpoint, counted from the last one; 0 measures what is there.
        poll: seconds between two looks.
        on_record: called with each epoch.

    Raises:
        InputError: the folder holds no checkpoint when the patience is over, or one that does not load.
    """
    count, last = 0, time.monotonic()
    while True:
        after = tracker.epochs[-1] if tracker.epochs else float("-inf")
        waiting = [(epoch, path) for epoch, path in checkpoints(folder) if epoch > after]
        for epoch, path in waiting:
            try:
                network = load_state(module, path)
            except InputError:
                if not path.exists():
                    continue  # its training has removed it
                if patience and time.time() - path.stat().st_mtime < _SETTLED:
                    last = max(last, time.monotonic() - patience + _SETTLED)  # still being written
                    break
                raise
            tracker.record(network, epoch, **(scores(network) if scores else {}))
            count, last = count + 1, time.monotonic()
            if on_record:
                on_record(epoch)
        if time.monotonic() - last >= patience:
            break
        time.sleep(poll)
    if not tracker.epochs:
        raise InputError(
            f"{folder} holds no checkpoint with an epoch in its name ({', '.join(STATE_SUFFIXES)}), as epoch-3.safetensors."
        )
    return count
