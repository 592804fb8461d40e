"""What a matrix in tiles will take, told before any work: bytes, seconds, whether it fits, and what to do if not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ntklens.errors import InputError
from ntklens.linalg.tiles.blas import fastest, multiply_rate
from ntklens.linalg.tiles.layout import Layout
from ntklens.memory import available_memory

_SMALL = 1 << 28
"""Bytes below which nothing is refused."""
_WORKING = 1 << 28
"""Bytes beside the tiles: blocks of kernel values, probes, right-hand sides."""


@dataclass(frozen=True)
class Plan:
    """What a matrix in tiles takes.

    Attributes:
        n: rows.
        precision: of the tiles, "float64" or "float32".
        tile_bytes: of all tiles; their factor takes their place.
        working_bytes: beside them.
        available: bytes that this process may still take; None where the system does not tell.
        factor_seconds: of a Cholesky decomposition.
        library: the BLAS that it runs on.
    """

    n: int
    precision: str
    tile_bytes: int
    working_bytes: int
    available: int | None
    factor_seconds: float
    library: str

    @property
    def fits(self) -> bool:
        """Whether everything finds room in memory."""
        total = self.tile_bytes + self.working_bytes
        return self.available is None or total <= max(self.available, _SMALL)

    def check(self) -> None:
        """Raise InputError, with what to do, unless it fits."""
        if not self.fits:
            assert self.available is not None
            per_row = self.tile_bytes / self.n**2
            largest = int((max(0, self.available - self.working_bytes) / per_row) ** 0.5)
            raise InputError(
                f"fitting on {self.n:,} inputs takes {self.tile_bytes / 1e9:.1f} GB for the lower triangle of the kernel "
                f"matrix in {self.precision} and {self.working_bytes / 1e9:.1f} GB beside it, and "
                f"{self.available / 1e9:.1f} GB are available. Fit on at most {largest:,} inputs, or keep the matrix in a "
                "store on disk: fit(x, y, home=nl.StoreHome(folder)), or ntklens fit --store folder."
            )

    def __str__(self) -> str:
        room = "" if self.available is None else f" of {self.available / 1e9:.1f} GB that are available"
        refined = "" if self.precision == "float64" else ", refined to float64 by conjugate gradients"
        return (
            f"{self.n:,} training inputs: the lower triangle of the kernel matrix takes {self.tile_bytes / 1e9:.2f} GB in "
            f"{self.precision} and {self.working_bytes / 1e9:.2f} GB beside it{room}; its Cholesky decomposition in place "
            f"takes about {_duration(self.factor_seconds)} ({self.library}){refined}."
        )


def memory_plan(layout: Layout, precision: str = "auto") -> Plan:
    """Return the plan of a matrix in memory; "auto" is float64 where that fits, and float32 elsewhere."""
    if precision != "auto":
        return _plan(layout, precision)
    whole = _plan(layout, "float64")
    if whole.fits:
        return whole
    half = _plan(layout, "float32")
    return half if half.fits else whole


def _plan(layout: Layout, precision: str) -> Plan:
    dtype = torch.float64 if precision == "float64" else torch.float32
    threads = torch.get_num_threads()
    library = fastest(dtype, threads)
    seconds = layout.n**3 / 3 / multiply_rate(library, dtype, threads) / 0.9
    return Plan(
        n=layout.n,
        precision=precision,
        tile_bytes=layout.entries * dtype.itemsize,
        working_bytes=_WORKING,
        available=available_memory(),
        factor_seconds=seconds,
        library=library.name,
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
