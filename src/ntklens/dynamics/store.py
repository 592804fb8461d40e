"""Records of a tracker on disk: one small npz an epoch, each written whole or not at all."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ntklens.errors import InputError

_PATTERN = "record-*.npz"


@dataclass(frozen=True)
class Entry:
    """What is kept of one epoch.

    Attributes:
        epoch: when.
        kernel: (n, n), on the CPU.
        scalars: other figures of that epoch, by name.
    """

    epoch: float
    kernel: Tensor
    scalars: dict[str, float]


def name(number: int) -> str:
    """The file name of a record, from 0 on."""
    return _PATTERN.replace("*", f"{number:06d}")


def write(path: Path, entry: Entry, probe: str) -> None:
    """Write one record; a file of that name is replaced as a whole."""
    names = sorted(entry.scalars)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez_compressed(
            file,
            kernel=entry.kernel.numpy(),
            epoch=np.array(entry.epoch),
            names=np.array(names, dtype=str),
            scalars=np.array([entry.scalars[n] for n in names], dtype=np.float64),
            probe=np.array(probe),
        )
    os.replace(part, path)


def read_all(folder: Path, probe: str) -> list[Entry]:
    """All records in a folder, in order.

    Raises:
        InputError: a file that is no record, or one of other probe images.
    """
    return [_read(path, probe) for path in sorted(folder.glob(_PATTERN))]


def forget(folder: Path, first: int) -> None:
    """Remove the records from a number on, the last first, so that what is left is always a beginning."""
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        if path.name >= name(first):
            path.unlink()


def _read(path: Path, probe: str) -> Entry:
    try:
        with open(path, "rb") as stored, np.load(stored, allow_pickle=False) as file:
            kernel, epoch, theirs = torch.from_numpy(file["kernel"]), float(file["epoch"]), str(file["probe"])
            scalars = dict(zip([str(n) for n in file["names"]], map(float, file["scalars"]), strict=True))
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a record of a KernelTracker; remove it or choose another folder.") from error
    if theirs != probe:
        raise InputError(
            f"{path} is of other probe images, classes or outputs; give the tracker those that it was made with, or "
            "choose another folder."
        )
    return Entry(epoch, kernel, scalars)
