"""The record of trainings that trackers followed, made of the folders of these trackers alone."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ntklens.dynamics import advice, measures, store
from ntklens.dynamics.path import KernelPath
from ntklens.errors import InputError
from ntklens.record import FILE, Record
from ntklens.statistics import proportion
from ntklens.study.context import Rows
from ntklens.study.stages.dynamics.settled import settling_row
from ntklens.vocabulary import TRACKED

_COLUMNS = {"training", "seed", "accuracy", "robust_accuracy"}
"""Columns of a run's tables that a figure of a user must not be taken for."""
THRESHOLD = 0.01
"""Velocity, in kernel distance per epoch, below which the noise of the steps counts as small."""


def is_tracker_folder(folder: Path) -> bool:
    """Return whether a folder holds records of a `KernelTracker`, and is not that of a run."""
    return folder.is_dir() and not (folder / FILE).is_file() and store.has_records(folder)


@contextmanager
def opened(folder: Path) -> Iterator[Record]:
    """Yield the record of a run, or that of a tracker's folder, whose training is called "tracked".

    Raises:
        InputError: as `Record.open` and `tracked_record`.
    """
    if not is_tracker_folder(folder):
        yield Record.open(folder)
        return
    with tracked_record([folder], [TRACKED]) as record:
        yield record


@contextmanager
def tracked_record(folders: Sequence[Path], names: Sequence[str] | None = None) -> Iterator[Record]:
    """Yield a record of the kernels in trackers' folders, with the tables of a training that is watched.

    Its arrays lie in a temporary folder that is removed at the end.

    Args:
        folders: the folders, one per training, all of one probe set.
        names: what the trainings are called; None for the names of the folders.

    Raises:
        InputError: a folder holds no records or lacks the classes of the probe set, two have one name, or the probe sets
            differ.
    """
    names = [folder.resolve().name for folder in folders] if names is None else names
    if len(set(names)) < len(names):
        raise InputError(f"expected folders of different names, by which trainings are called; got {', '.join(names)}.")
    tables: dict[str, Rows] = {}
    arrays = {}
    probes = [store.read_probe(folder) for folder in folders]
    # Trackers made by hand may share classes and not images; the fingerprint is of both, and of the outputs.
    if len({record.probe for folder in folders for record in store.read_all(folder, None)}) > 1:
        raise InputError(
            "expected trackers with the same probe images and outputs; got folders of different ones. Give one at a time."
        )
    for name, folder, probe in zip(names, folders, probes, strict=True):
        path, rows = _path_and_rows(folder, probe)
        distance = measures.distance_map(torch.stack(path.kernels))
        run: dict[str, Any] = {"training": name, "seed": 0}
        found = {
            "dynamics": [run | row for row in rows],
            "settling": [run | settling_row(rows, path.settling())],
            "lazy_epochs": [
                run | {"threshold": THRESHOLD, "epoch": measures.lazy_epoch(path.velocities(), path.epochs, THRESHOLD)}
            ],
            "advice": [run | piece.row() for piece in advice(rows, THRESHOLD, distance)],
        }
        for table, more in found.items():
            tables.setdefault(table, []).extend(more)
        arrays[f"distance_{name}"] = distance.numpy()
    classes = probes[0].classes
    meta: dict[str, Any] = {
        "top_k": probes[0].top_k,
        "probe": len(classes),
        "seeds": 1,
        "lazy_threshold": THRESHOLD,
        "eps": None,
    }
    meta |= {"architecture": "the network", "attack_steps": None, "scored": len(classes)}
    tables["dynamics_meta"] = [meta]
    several = len(folders) > 1
    tables["summary"] = [
        {"text": f"{row['training']}: {row['text']}" if several else row["text"]} for row in tables["advice"]
    ]
    title = f"The kernel over {'trainings' if several else 'a training'}: {', '.join(names)}"
    with tempfile.TemporaryDirectory(prefix="ntklens-") as scratch:
        record = Record(Path(scratch), "dynamics", title, {}, {})
        record.add_stage("dynamics", tables=tables, arrays=arrays)
        yield record


def _column(name: str) -> str:
    """Return the column of a figure that a user recorded: its name, unless a table has a column of that name."""
    taken = name in _COLUMNS or name.endswith(("_low", "_high"))
    return f"recorded_{name}" if taken else name


def _path_and_rows(folder: Path, probe: store.Probe) -> tuple[KernelPath, list[dict[str, float]]]:
    """Return the path of the stored kernels, and its rows with the figures that were recorded beside."""
    records = store.read_all(folder, None)
    if not records:
        raise InputError(f"{folder} holds no records of a KernelTracker. Give the folder that one was made with.")
    path = KernelPath(probe.classes, probe.top_k)
    for record in records:
        path.append(record.epoch, record.kernel)
    names = sorted({name for record in records for name in record.scalars})
    rows = []
    for t, record in enumerate(records):
        own = {_column(name): record.scalars.get(name, math.nan) for name in names}
        row = path.row(t) | own
        share = row.get("probe_accuracy", math.nan)
        if not math.isnan(share):
            n = len(probe.classes)
            row = proportion(round(share * n), n).row("accuracy") | row
        rows.append(row)
    return path, rows
