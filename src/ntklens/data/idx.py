"""IDX files, the format of MNIST and Fashion-MNIST (LeCun et al. 1998), gzipped or plain.

The header has two zero bytes, one for the type of the entries, one for the number of axes, and then the length of each
axis as a big-endian 32-bit integer. The entries follow.
"""

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
    """Read the array of unsigned bytes in an IDX file.

    Raises:
        InputError: not an IDX file of bytes, or one that is cut short.
    """
    return parse_idx(unpacked(path), path)


def unpacked(path: Path) -> bytes:
    """Return the content of a file, without gzip where it is packed.

    Raises:
        InputError: a file that cannot be read, or a damaged gzip file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if content[:2] != b"\x1f\x8b":  # the first bytes of every gzip file
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"{path} is a damaged gzip file; fetch it again.") from error


def parse_idx(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Return the array in the content of an IDX file.

    Args:
        content: the unpacked bytes.
        path: the file, for error messages.

    Raises:
        InputError: not an IDX file of bytes, or one that is cut short.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise InputError(f"{path} is not an IDX file of bytes; give the published .gz file.")
    axes = content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise InputError(f"{path} is cut short; fetch it again.")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise InputError(
            f"expected {math.prod(shape)} bytes after the header of {path}; got {len(content) - start}. Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
