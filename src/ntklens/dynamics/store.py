"""Records of a tracker on disk: a folder with one small npz file per recorded epoch, each written whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ntklens.errors import InputError
from ntklens.files import written_whole

_PATTERN = "record-*.npz"
_PROBE = "probe.npz"


@dataclass(frozen=True)
class EpochRecord:
    """The record of one epoch.

    Attributes:
        epoch: number of epochs that the network has been trained for.
        kernel: (n, n), on the CPU.
        scalars: other figures of that epoch, by name.
        network: fingerprint of the shapes of the network's parameters; empty where it is not known.
        probe: fingerprint of the probe set and the outputs, of a record that was read.
    """

    epoch: float
    kernel: Tensor
    scalars: dict[str, float]
    network: str = ""
    probe: str = ""


def make_folder(folder: Path) -> None:
    """Make the folder unless it exists.

    Raises:
        InputError: there is a file of that name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"expected a folder for the records; {folder} is a file, or lies in one.") from None


def write(folder: Path, number: int, record: EpochRecord, probe: str) -> None:
    """Write one record; a record with that number is replaced as a whole.

    Args:
        folder: an existing folder.
        number: place in the sequence of records, from 0.
        record: the record.
        probe: fingerprint of the probe set and the outputs that the kernel is made of.
    """
    names = sorted(record.scalars)
    with written_whole(folder / _file_name(number)) as partial, open(partial, "wb") as file:
        np.savez_compressed(
            file,
            kernel=record.kernel.numpy(),
            epoch=np.array(record.epoch),
            names=np.array(names, dtype=str),
            scalars=np.array([record.scalars[n] for n in names], dtype=np.float64),
            probe=np.array(probe),
            network=np.array(record.network),
        )


def write_all(folder: Path, records: Sequence[EpochRecord], probe: str) -> None:
    """Write a sequence of records into a folder, in place of earlier records of the same probe set.

    Raises:
        InputError: the folder is a file, or holds something else under the name of a record.
    """
    make_folder(folder)
    read_all(folder, probe)  # refuses to replace records of another probe set
    # The earlier records go first: whenever this is interrupted, the folder holds the beginning of one sequence.
    remove_from(folder, 0)
    for number, record in enumerate(records):
        write(folder, number, record, probe)


def read_all(folder: Path, probe: str | None) -> list[EpochRecord]:
    """Return all records in a folder, in order.

    Args:
        folder: the folder.
        probe: fingerprint of the probe set and the outputs; None takes the records of any.

    Raises:
        InputError: a file is not a record, or is one of another probe set, or the files are not one sequence.
    """
    paths = sorted(folder.glob(_PATTERN))
    records = [_read(path, probe) for path in paths]
    for number, (path, record) in enumerate(zip(paths, records, strict=True)):
        if path.name != _file_name(number) or (number and record.epoch < records[number - 1].epoch):
            raise InputError(
                f"expected the records of one sequence, numbered from 0 and with ascending epochs; got {path} at place "
                f"{number}. Two trackers have written into one folder: choose another one, or make the tracker with "
                "fresh=True."
            )
    return records


def has_records(folder: Path) -> bool:
    """Return whether a folder holds records of a tracker."""
    return any(folder.glob(_PATTERN))


def set_aside(folder: Path) -> None:
    """Move the records in a folder, if any, into the first of FOLDER.before, FOLDER.before-2, ... that does not exist.

    Nothing is deleted, and other files in the folder stay.
    """
    # Where torchrun starts several processes of one training, the first one alone moves what is there.
    if not has_records(folder) or os.environ.get("RANK", "0") != "0":
        return
    folder = folder.resolve()
    numbers = itertools.count(2)
    target = folder.with_name(f"{folder.name}.before")
    while target.exists():
        target = folder.with_name(f"{folder.name}.before-{next(numbers)}")
    target.mkdir(exist_ok=True)
    # From the last one backwards: whenever this is interrupted, the folder holds the beginning of one sequence.
    for path in [*sorted(folder.glob(_PATTERN), reverse=True), folder / _PROBE]:
        # Another process of the same training may have moved it.
        with contextlib.suppress(FileNotFoundError):
            path.rename(target / path.name)


@dataclass(frozen=True)
class Probe:
    """What the measures of stored kernels are computed with.

    Attributes:
        classes: (n,), of the probe images.
        top_k: number of leading eigenvectors that span the top eigenspace.
    """

    classes: Tensor
    top_k: int


def write_probe(folder: Path, probe: Probe) -> None:
    """Write the classes of the probe set beside the records, so that they can be read without the images."""
    with written_whole(folder / _PROBE) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, classes=probe.classes.cpu().numpy(), top_k=np.array(probe.top_k))


def has_probe(folder: Path) -> bool:
    """Return whether the classes of the probe set stand beside the records."""
    return (folder / _PROBE).is_file()


def read_probe(folder: Path) -> Probe:
    """Return the classes of the probe set of the records in a folder.

    Raises:
        InputError: the file with them is missing, as in folders of an earlier version, or damaged.
    """
    path = folder / _PROBE
    try:
        with open(path, "rb") as stored, np.load(stored, allow_pickle=False) as file:
            return Probe(torch.from_numpy(file["classes"]), int(file["top_k"]))
    except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{folder} holds records of a KernelTracker without the classes of their images (probe.npz), as those of an "
            "earlier version. Make a KernelTracker with the same images and this folder once, which writes them."
        ) from error


def remove_from(folder: Path, number: int) -> None:
    """Remove the records from a number on."""
    # From the last one backwards: whenever this is interrupted, the folder holds the beginning of the sequence.
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        if path.name >= _file_name(number):
            path.unlink()


def _file_name(number: int) -> str:
    return _PATTERN.replace("*", f"{number:06d}")


def _read(path: Path, probe: str | None) -> EpochRecord:
    try:
        with open(path, "rb") as stored, np.load(stored, allow_pickle=False) as file:
            network = str(file["network"]) if "network" in file.files else ""  # records of an earlier version lack it
            kernel, epoch, saved_probe = torch.from_numpy(file["kernel"]), float(file["epoch"]), str(file["probe"])
            scalars = dict(zip([str(n) for n in file["names"]], map(float, file["scalars"]), strict=True))
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a record of a KernelTracker. Remove it or choose another folder.") from error
    if probe is not None and saved_probe != probe:
        raise InputError(
            f"{path} was recorded with other probe images, classes or outputs. Give the tracker the same ones, or choose "
            "another folder."
        )
    return EpochRecord(epoch, kernel, scalars, network, saved_probe)
