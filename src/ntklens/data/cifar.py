"""CIFAR-10 in its binary version (Krizhevsky 2009): the tar.gz archive or the folder inside it.

A record is one byte with the class and 3072 bytes with the pixels, channel by channel and row by row.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ntklens.data.arrays import images, labels
from ntklens.data.dataset import Dataset, Split
from ntklens.errors import InputError

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
LICENCE = "unstated; research use, cite Krizhevsky 2009"
_RECORD = 1 + 3 * 32 * 32
"""Bytes of one record."""
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)


def read_cifar10(path: Path) -> Dataset:
    """Read the data set from the archive or from the extracted folder.

    Raises:
        InputError: files missing or of a wrong size.
    """
    if path.is_dir():
        return _assemble(lambda name: _read_file(path / name), path)
    try:
        with tarfile.open(path, "r:gz") as tar:
            members = {Path(m.name).name: m for m in tar.getmembers() if m.isfile()}

            def member(name: str) -> bytes:
                if name not in members or (stream := tar.extractfile(members[name])) is None:
                    raise InputError(f"{path} has no {name}; fetch the archive {ARCHIVE} again.")
                return stream.read()

            return _assemble(member, path)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path} is not a readable tar.gz ({error}); fetch {ARCHIVE} again.") from error


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path} does not exist; extract the whole archive {ARCHIVE}.")
    return path.read_bytes()


def _assemble(read: Callable[[str], bytes], path: Path) -> Dataset:
    """Build the data set from the contents of its files, which `read` returns by name."""

    def split(names: tuple[str, ...]) -> Split:
        records = np.concatenate([_records(read(name), f"{path}, {name}") for name in names])
        pixels = records[:, 1:].reshape(-1, 3, 32, 32)
        return Split(images(pixels, str(path)), labels(records[:, 0], str(path)))

    classes = tuple(read("batches.meta.txt").decode("ascii").split())
    return Dataset(split(_TRAIN), split(_TEST), classes, "cifar10", LICENCE)


def _records(content: bytes, where: str) -> np.ndarray:
    """Return one row of bytes per record."""
    if not content or len(content) % _RECORD:
        raise InputError(f"{where}: expected whole records of {_RECORD} bytes; got {len(content)} bytes.")
    return np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
