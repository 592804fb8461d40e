"""IDX files: gzipped, plain and damaged."""

import gzip
import struct

import numpy as np
import pytest

from ntklens.data.idx import read_idx
from ntklens.errors import InputError


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


def test_idx_files_gzipped_and_plain(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (6, 4, 5)).astype(np.uint8)
    (tmp_path / "plain").write_bytes(idx_bytes(array))
    (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes(array)))
    assert np.array_equal(read_idx(tmp_path / "plain"), array)
    assert np.array_equal(read_idx(tmp_path / "packed"), array)


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
