"""How long a factorisation takes on this machine, from a small one."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

_SMALL = 400
_GAIN = 2.0
"""By how much an eigendecomposition of a large matrix is faster per operation than one of 400 rows, measured."""


def factor_seconds(n: int, *, by_cholesky: bool) -> float:
    """Estimate the seconds of a Cholesky decomposition, or of an eigendecomposition, of an (n, n) matrix in float64.

    The cost is n³, scaled up from a matrix of 400 rows at most, which takes a hundredth of a second once in a process.
    """
    small = min(n, _SMALL)
    gain = 1.0 if n == small or by_cholesky else min(_GAIN, (n / small) ** 0.5)
    return _measured(small, by_cholesky) * (n / small) ** 3 / gain


@lru_cache(maxsize=16)
def _measured(n: int, by_cholesky: bool) -> float:
    factor = torch.linalg.cholesky if by_cholesky else torch.linalg.eigh
    draw = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = draw @ draw.T + n * torch.eye(n, dtype=torch.float64)
    seconds = []
    for _ in range(3):  # the first one starts threads and loads code
        start = time.perf_counter()
        factor(matrix)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
