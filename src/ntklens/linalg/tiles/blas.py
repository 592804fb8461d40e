"""Products and triangular solutions of tiles, in place, by the faster of the two BLAS libraries that are installed.

Tiles are small, a few megabytes: libraries for processors that they do not know well have failed on large matrices, and
never on these.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

_STRIP = 256
"""Rows of a strip of a diagonal tile: what lies above the diagonal within a strip is computed for nothing."""
_TRIAL = 768
"""Rows of the tiles by which the two libraries are compared; a product takes ten milliseconds."""


@runtime_checkable
class TileBlas(Protocol):
    """What a blocked Cholesky decomposition asks of a library; tiles are contiguous, float32 or float64."""

    name: str

    def subtract(self, c: Tensor, a: Tensor, b: Tensor) -> None:
        """Compute C - A Bᵀ in place of C."""
        ...

    def subtract_square(self, c: Tensor, a: Tensor) -> None:
        """Compute C - A Aᵀ in place of C, for the lower triangle; what is above is left undefined."""
        ...

    def divide(self, a: Tensor, factor: Tensor) -> None:
        """Compute A L⁻ᵀ in place of A, for a lower triangular factor L."""
        ...

    def factor(self, c: Tensor) -> int:
        """Compute L with L Lᵀ = C in place of the lower triangle of C, with zeros above.

        Returns:
            0; or the row, counted from 1, whose pivot is not positive, which is then in its place on the diagonal.
        """
        ...


class TorchBlas:
    """The library that torch is built with."""

    name = "torch"

    def subtract(self, c: Tensor, a: Tensor, b: Tensor) -> None:
        """Compute C - A Bᵀ in place of C."""
        c.addmm_(a, b.T, alpha=-1.0)

    def subtract_square(self, c: Tensor, a: Tensor) -> None:
        """Compute C - A Aᵀ in place of C, strip by strip, so that little is computed above the diagonal."""
        for start in range(0, len(c), _STRIP):
            stop = min(len(c), start + _STRIP)
            strip = c[start:stop, :stop].contiguous()
            c[start:stop, :stop] = strip.addmm_(a[start:stop], a[:stop].T, alpha=-1.0)

    def divide(self, a: Tensor, factor: Tensor) -> None:
        """Compute A L⁻ᵀ in place of A."""
        a.copy_(torch.linalg.solve_triangular(factor.T, a, upper=True, left=False))

    def factor(self, c: Tensor) -> int:
        """Compute the factor of a tile in place."""
        lower, info = torch.linalg.cholesky_ex(c)
        c.copy_(lower)
        return int(info)


class ScipyBlas:
    """The library of SciPy, an OpenBLAS, which uses instructions that torch's does not use on every processor.

    Its methods call nothing of torch: threads of the two libraries that wait for work disturb each other.
    """

    name = "SciPy"

    def __init__(self) -> None:
        from scipy.linalg import blas, lapack  # slow to import

        double, single = torch.float64, torch.float32
        self._gemm = {double: blas.dgemm, single: blas.sgemm}
        self._syrk = {double: blas.dsyrk, single: blas.ssyrk}
        self._trsm = {double: blas.dtrsm, single: blas.strsm}
        self._potrf = {double: lapack.dpotrf, single: lapack.spotrf}

    # BLAS counts by columns, so that a tile is its own transpose there: Cᵀ - B Aᵀ is computed, the upper triangle is the
    # lower one, and L X = Aᵀ is solved.

    def subtract(self, c: Tensor, a: Tensor, b: Tensor) -> None:
        """Compute C - A Bᵀ in place of C."""
        gemm = self._gemm[c.dtype]
        gemm(-1.0, b.numpy().T, a.numpy().T, 1.0, c.numpy().T, trans_a=True, overwrite_c=True)

    def subtract_square(self, c: Tensor, a: Tensor) -> None:
        """Compute C - A Aᵀ in place of C."""
        self._syrk[c.dtype](-1.0, a.numpy().T, 1.0, c.numpy().T, trans=True, lower=False, overwrite_c=True)

    def divide(self, a: Tensor, factor: Tensor) -> None:
        """Compute A L⁻ᵀ in place of A."""
        self._trsm[a.dtype](1.0, factor.numpy().T, a.numpy().T, lower=False, trans_a=True, overwrite_b=True)

    def factor(self, c: Tensor) -> int:
        """Compute the factor of a tile in place."""
        _, info = self._potrf[c.dtype](c.numpy().T, lower=False, clean=True, overwrite_a=True)
        return int(info)


Library = TorchBlas | ScipyBlas


@lru_cache(maxsize=8)
def fastest(dtype: torch.dtype, threads: int) -> Library:
    """Return the library that factors tiles faster with so many threads, found by a trial of a tenth of a second."""
    libraries: list[Library] = [ScipyBlas(), TorchBlas()]
    return min(libraries, key=lambda library: _seconds(library, dtype, threads)[1])


def multiply_rate(library: Library, dtype: torch.dtype, threads: int) -> float:
    """Return the floating-point operations per second of a product of tiles, measured."""
    return 2.0 * _TRIAL**3 / _seconds(library, dtype, threads)[0]


@lru_cache(maxsize=16)
def _seconds(library: Library, dtype: torch.dtype, threads: int) -> tuple[float, float]:
    """Measure a product of tiles, and all that is done with a tile."""
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(_TRIAL, _TRIAL, generator=generator, dtype=dtype) for _ in range(3))
    square = a @ a.T
    square.diagonal().add_(_TRIAL)
    products, wholes = [], []
    with limited_threads(threads):
        for _ in range(4):  # the first one starts threads
            factored = square.clone()
            start = time.perf_counter()
            library.factor(factored)
            library.divide(b, factored)
            library.subtract_square(c, b)
            before = time.perf_counter()
            library.subtract(c, a, b)
            stop = time.perf_counter()
            products.append(stop - before)
            wholes.append(stop - start)
    return min(products), min(wholes)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let SciPy's library use as many threads as torch does; by itself it uses all cores."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(threads, user_api="blas"):
        yield


def faster_blas_advice() -> str | None:
    """Return a line of advice where OpenBLAS runs its kernels for Haswell on a processor with AVX-512; None elsewhere.

    It does so where it does not know the processor, which happens on virtual ones, and where the environment tells it to.
    With those for AVX-512 a decomposition has been 1.6 times as fast.
    """
    if "avx512f" not in _processor():
        return None
    from threadpoolctl import threadpool_info

    ScipyBlas()  # which loads its library
    if not any(
        library.get("internal_api") == "openblas" and library.get("architecture") == "Haswell"
        for library in threadpool_info()
    ):
        return None
    chosen = os.environ.get("OPENBLAS_CORETYPE")
    reason = "" if chosen is None else f", as OPENBLAS_CORETYPE={chosen} in the environment says"
    return (
        f"this processor has AVX-512, and OpenBLAS runs its kernels for Haswell{reason}: with OPENBLAS_CORETYPE=SkylakeX "
        "the factor is faster."
    )


def _processor() -> str:
    """Return what Linux tells of the processor; nothing elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
