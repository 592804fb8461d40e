"""IDX files: gzipped, plain and damaged."""

import gzip
import struct

import numpy as np
import pytest

from ntklens.data import load_dataset
from ntklens.data.idx import read_idx
from ntklens.errors import InputError

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def tiny_mnist(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (6, 4, 4)), np.arange(6), rng.integers(0, 256, (3, 4, 4)), np.arange(3)]
    for stem, array in zip(STEMS, arrays, strict=True):
        (tmp_path / f"{stem}.gz").write_bytes(gzip.compress(idx_bytes(array.astype(np.uint8))))
    return tmp_path, arrays


def test_idx_files_gzipped_and_plain(tiny_mnist):
    folder, arrays = tiny_mnist
    data = load_dataset("mnist", data_dir=folder)
    assert np.array_equal((data.train.x[:, 0] * 255).round().numpy(), arrays[0])
    packed = folder / f"{STEMS[0]}.gz"
    (folder / STEMS[0]).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert load_dataset("mnist", data_dir=folder).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an idx file", "not an IDX file"),
        (gzip.compress(idx_bytes(np.zeros((2, 3), np.uint8)), mtime=0)[:-9], "damaged gzip"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], "expected 6 bytes after the header .*got 5"),
        (b"\0\0\x08\x03\0", "cut short"),
    ],
    ids=["not idx", "damaged gzip", "too few bytes", "cut header"],
)
def test_damaged_idx_files(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_idx(path)
