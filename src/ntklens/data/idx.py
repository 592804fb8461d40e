"""IDX files, the format of MNIST and Fashion-MNIST (LeCun et al. 1998), gzipped or plain."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ntklens.errors import InputError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file.

    Raises:
        InputError: not an IDX file of bytes, or one that is cut short.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is a damaged gzip file; fetch it again.") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != _UNSIGNED_BYTE:
        raise InputError(f"{path} is not an IDX file of bytes; the published .gz files are expected.")
    dimensions = raw[3]
    start = 4 + 4 * dimensions
    if len(raw) < start:
        raise InputError(f"{path} is cut short; fetch it again.")
    shape = struct.unpack(f">{dimensions}I", raw[4:start])
    if len(raw) - start != math.prod(shape):
        raise InputError(
            f"{path} holds {len(raw) - start} bytes where its header says {math.prod(shape)}; fetch it again."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
