"""CIFAR-10 in its binary version (Krizhevsky 2009): the tar.gz archive or the folder inside it.

A record is one byte with the class and 3072 bytes with the pixels, channel by channel and row by row.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ntklens.data.arrays import images
from ntklens.data.dataset import Dataset, Split
from ntklens.data.labels import labels
from ntklens.errors import InputError
from ntklens.files import first_line

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
"""This is the checksum of the published archive."""
LICENCE = "unstated; research use, cite Krizhevsky 2009"
_RECORD = 1 + 3 * 32 * 32
"""Bytes of one record."""
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)


def read_cifar10(path: Path) -> Dataset:
    """Read the data set from the archive or from the extracted folder; a note says where it is not the published one.

    Raises:
        InputError: files missing, damaged or of a wrong size.
    """
    if path.is_dir():
        return _assemble(lambda name: _read_file(path / name), path, is_published=None)
    again = f"fetch {ARCHIVE} again"
    try:
        packed = path.read_bytes()
        # Unpacking the whole archive first compares its checksum, which reading single members does not.
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed)), mode="r:") as tar:
            members = {Path(m.name).name: m for m in tar.getmembers() if m.isfile()}

            def member(name: str) -> bytes:
                if name not in members or (stream := tar.extractfile(members[name])) is None:
                    raise InputError(f"{path} has no {name}; fetch the archive {ARCHIVE} again.")
                return stream.read()

            return _assemble(member, path, is_published=hashlib.sha256(packed).hexdigest() == SHA256)
    except InputError:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error, struct.error, ValueError) as error:
        raise InputError(f"{path} is not a readable tar.gz ({first_line(error)}); {again}.") from error


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path} does not exist; extract the whole archive {ARCHIVE}.")
    return path.read_bytes()


def _assemble(read: Callable[[str], bytes], path: Path, *, is_published: bool | None) -> Dataset:
    """Build the data set from the contents of its files, which `read` returns by name.

    Args:
        read: from a file's name to its content.
        path: the archive or the folder.
        is_published: whether the archive has the published checksum; None for a folder, which has none.
    """

    def split(names: tuple[str, ...]) -> Split:
        records = np.concatenate([_records(read(name), f"{path}, {name}") for name in names])
        pixels = records[:, 1:].reshape(-1, 3, 32, 32)
        return Split(images(pixels, str(path)), labels(records[:, 0], str(path)))

    try:
        classes = tuple(read("batches.meta.txt").decode("ascii").split())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, batches.meta.txt: expected names of classes; got other bytes ({error}).") from error
    train, test = split(_TRAIN), split(_TEST)
    if is_published or (is_published is None and (len(train), len(test)) == (50_000, 10_000)):
        notes: tuple[str, ...] = ()
    else:
        notes = (
            f"Not the published CIFAR-10: {path.name} has {len(train)} + {len(test)} images and another checksum.",
        )
        if is_published is None:
            notes = (f"Not the published CIFAR-10: {path.name} has {len(train)} + {len(test)} images.",)
    return Dataset(train, test, classes, "cifar10", LICENCE, notes)


def _records(content: bytes, where: str) -> np.ndarray:
    """Return one row of bytes per record."""
    if not content or len(content) % _RECORD:
        raise InputError(f"{where}: expected whole records of {_RECORD} bytes; got {len(content)} bytes.")
    return np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
