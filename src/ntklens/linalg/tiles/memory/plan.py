"""What a matrix in tiles in memory will take, told before any work."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ntklens.linalg.tiles.blas import fastest, multiply_rate
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.plan import Plan, duration, fits_in_memory, room
from ntklens.memory import available_memory

_WORKING = 1 << 28
"""Bytes beside the tiles: blocks of kernel values, probes, right-hand sides."""
_SHARE_OF_PRODUCTS = 0.9
"""The rate of the blocked factorisation over that of products of tiles."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan(Plan):
    """What a matrix in tiles takes in memory.

    Attributes:
        precision: of the tiles, "float64" or "float32".
        tile_bytes: of all tiles; their factor takes their place.
        blas: the name of the library that the decomposition runs on.
    """

    precision: str
    tile_bytes: int
    blas: str

    @property
    def fits(self) -> bool:
        """Whether everything finds room in memory."""
        return fits_in_memory(self.tile_bytes + self.working_bytes, self.available)

    def refusal(self) -> str:
        """Return why it does not fit, and what to do."""
        assert self.available is not None
        per_row = self.tile_bytes / self.n**2
        largest = int((max(0, self.available - self.working_bytes) / per_row) ** 0.5)
        return (
            f"fitting on {self.n:,} inputs takes {self.tile_bytes / 1e9:.1f} GB for the lower triangle of the kernel "
            f"matrix in {self.precision} and {self.working_bytes / 1e9:.1f} GB beside it, and "
            f"{self.available / 1e9:.1f} GB are available. Fit on at most {largest:,} inputs, or keep the matrix in a "
            "store on disk: fit(x, y, home=nl.StoreHome(folder)), or ntklens fit --store folder."
        )

    def __str__(self) -> str:
        assert self.factor_seconds is not None
        matrix = "" if self.matrix_seconds is None else f"; the tiles take about {duration(self.matrix_seconds)}"
        refined = "" if self.precision == "float64" else ", refined to float64 by conjugate gradients"
        return (
            f"{self.n:,} training inputs: the lower triangle of the kernel matrix takes {self.tile_bytes / 1e9:.2f} GB in "
            f"{self.precision} and {self.working_bytes / 1e9:.2f} GB beside it{room(self.available)}{matrix}; its Cholesky "
            f"decomposition in place takes about {duration(self.factor_seconds)} ({self.blas}){refined}."
        )


def memory_plan(layout: Layout, precision: str = "auto", matrix_seconds: float | None = None) -> MemoryPlan:
    """Return the plan of a matrix in memory; "auto" is float64 where that fits, and float32 elsewhere."""
    if precision != "auto":
        return _plan(layout, precision, matrix_seconds)
    whole = _plan(layout, "float64", matrix_seconds)
    if whole.fits:
        return whole
    half = _plan(layout, "float32", matrix_seconds)
    return half if half.fits else whole


def _plan(layout: Layout, precision: str, matrix_seconds: float | None) -> MemoryPlan:
    dtype = torch.float64 if precision == "float64" else torch.float32
    threads = torch.get_num_threads()
    library = fastest(dtype, threads)
    return MemoryPlan(
        n=layout.n,
        precision=precision,
        tile_bytes=layout.entries * dtype.itemsize,
        working_bytes=_WORKING,
        available=available_memory(),
        matrix_seconds=matrix_seconds,
        factor_seconds=layout.n**3 / 3 / multiply_rate(library, dtype, threads) / _SHARE_OF_PRODUCTS,
        blas=library.name,
    )
