"""What a matrix in tiles will take, told before any work: bytes, seconds, whether it fits, and what to do if not."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ntklens.errors import InputError
from ntklens.linalg.tiles.base import Entries
from ntklens.linalg.tiles.blas import ScipyBlas, fastest, multiply_rate
from ntklens.linalg.tiles.layout import Layout
from ntklens.memory import available_memory

_SMALL = 1 << 28
"""Bytes below which nothing is refused."""
_WORKING = 1 << 28
"""Bytes beside the tiles: blocks of kernel values, probes, right-hand sides."""
_TRIAL_SIDE = 16
"""Rows of the first block that is timed for it."""
WORKER_SHARE = 0.6
"""Of its memory, what a worker of a cluster may hold in tiles; Dask moves data to disk from there on."""
_TRIAL_SECONDS = 0.2
"""Seconds of the block from which the time of all tiles is estimated."""


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
        blas: the name of the library that it runs on.
        matrix_seconds: of the tiles; None where it was not measured.
    """

    n: int
    precision: str
    tile_bytes: int
    working_bytes: int
    available: int | None
    factor_seconds: float
    blas: str
    matrix_seconds: float | None = None

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
        matrix = "" if self.matrix_seconds is None else f"; the tiles take about {duration(self.matrix_seconds)}"
        refined = "" if self.precision == "float64" else ", refined to float64 by conjugate gradients"
        return (
            f"{self.n:,} training inputs: the lower triangle of the kernel matrix takes {self.tile_bytes / 1e9:.2f} GB in "
            f"{self.precision} and {self.working_bytes / 1e9:.2f} GB beside it{room}{matrix}; its Cholesky "
            f"decomposition in place takes about {duration(self.factor_seconds)} ({self.blas}){refined}."
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
        blas=library.name,
    )


@dataclass(frozen=True)
class WholePlan:
    """What a matrix that is kept whole takes.

    Attributes:
        n: rows.
        matrix_bytes: of the matrix.
        working_bytes: beside it, of its factors.
        available: bytes that this process may still take; None where the system does not tell.
        factor_seconds: of its decomposition; None where there is none.
        matrix_seconds: of its entries; None where it was not measured.
    """

    n: int
    matrix_bytes: int
    working_bytes: int
    available: int | None
    factor_seconds: float | None = None
    matrix_seconds: float | None = None

    @property
    def fits(self) -> bool:
        """Whether everything finds room in memory."""
        return self.available is None or self.matrix_bytes + self.working_bytes <= max(self.available, _SMALL)

    def check(self) -> None:
        """Raise InputError, with what to do, unless it fits."""
        if not self.fits:
            assert self.available is not None
            raise InputError(
                f"the kernel matrix of {self.n:,} inputs takes {_size(self.matrix_bytes)} and {_size(self.working_bytes)} "
                f"beside it, and {_size(self.available)} are available. Take fewer inputs, or keep the matrix in a store "
                "on disk: --store folder."
            )

    def __str__(self) -> str:
        return (
            f"{self.n:,} inputs: the whole kernel matrix takes {_size(self.matrix_bytes)} and "
            f"{_size(self.working_bytes)} beside it{_room(self.available)}"
            f"{_times(self.matrix_seconds, self.factor_seconds)}."
        )


@dataclass(frozen=True)
class ClusterPlan:
    """What a matrix on a cluster takes.

    Attributes:
        n: rows.
        tile_bytes: of all tiles, in the memory of the workers.
        workers: number of them.
        room: bytes of tiles that the workers can hold; None where one has no limit.
        working_bytes: that a solution takes in this process.
        available: bytes that this process may still take; None where the system does not tell.
        matrix_seconds: of the tiles, on all workers; None where it was not measured.
    """

    n: int
    tile_bytes: int
    workers: int
    room: int | None
    working_bytes: int
    available: int | None
    matrix_seconds: float | None = None

    @property
    def fits(self) -> bool:
        """Whether the workers have room for the tiles."""
        return self.room is None or self.tile_bytes <= self.room

    def check(self) -> None:
        """Raise InputError, with what to do, unless it fits."""
        if not self.fits:
            assert self.room is not None
            raise InputError(
                f"the lower triangle of the kernel matrix takes {_size(self.tile_bytes)}, and {self.workers} workers can "
                f"hold {_size(self.room)} of tiles. Start more workers, or keep the matrix in a store: --store folder."
            )

    def __str__(self) -> str:
        holds = "" if self.room is None else f", which can hold {_size(self.room)}"
        taken = "" if not self.matrix_seconds else f"; computing them takes about {duration(self.matrix_seconds)}"
        count = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return (
            f"{self.n:,} training inputs: the lower triangle of the kernel matrix takes {_size(self.tile_bytes)} on "
            f"{count}{holds}, and a solution {_size(self.working_bytes)} here{_room(self.available)}{taken}."
        )


def whole_plan(
    n: int, matrices: float, *, entries: Entries | None = None, factor_seconds: float | None = None, more: int = 0
) -> WholePlan:
    """Return the plan of a matrix that is kept whole.

    Args:
        n: rows.
        matrices: how many matrices (n, n) in float64 are held at once.
        entries: of the matrix, for its time; without them it is not measured.
        factor_seconds: of its decomposition.
        more: further bytes that are held beside it.
    """
    size = 8 * n * n
    return WholePlan(
        n=n,
        matrix_bytes=size,
        working_bytes=round((matrices - 1) * size) + more,
        available=available_memory(),
        factor_seconds=factor_seconds,
        matrix_seconds=None if entries is None else entries_seconds(entries, Layout(n)),
    )


def cluster_plan(
    layout: Layout, limits: Sequence[int], working_bytes: int, seconds: float | None = None
) -> ClusterPlan:
    """Return the plan of a matrix on a cluster.

    Args:
        layout: of the tiles.
        limits: the memory of each worker in bytes; 0 for one without a limit.
        working_bytes: that a solution takes in this process.
        seconds: what one worker would take to compute all tiles.
    """
    return ClusterPlan(
        n=layout.n,
        tile_bytes=8 * layout.entries,
        workers=len(limits),
        room=round(WORKER_SHARE * sum(limits)) if limits and all(limits) else None,
        working_bytes=working_bytes,
        available=available_memory(),
        matrix_seconds=None if seconds is None else seconds / max(1, len(limits)),
    )


def entries_seconds(entries: Entries, layout: Layout) -> float:
    """Estimate the seconds of all tiles from a block of them, whose side is doubled until it takes a fifth of a second."""
    side = min(_TRIAL_SIDE, layout.n)
    entries(slice(0, side), slice(0, side))  # which loads and compiles code
    while True:
        start = min(side, layout.n - side)
        began = time.perf_counter()
        entries(slice(start, start + side), slice(0, side))
        seconds = time.perf_counter() - began
        if seconds > _TRIAL_SECONDS or 2 * side > min(layout.side, layout.n):
            return seconds * layout.entries / side**2
        side *= 2


def faster_blas_advice() -> str | None:
    """Return a line of advice where OpenBLAS runs its kernels for Haswell on a processor with AVX-512; None elsewhere.

    It does so where it does not know the processor, which happens on virtual ones, and where the environment tells it to.
    With those for AVX-512 a decomposition has been 1.6 times as fast.
    """
    if "avx512f" not in _processor():
        return None
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

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


def _size(count: int) -> str:
    """Return a number of bytes in the unit that people would use."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


def _room(available: int | None) -> str:
    return "" if available is None else f", of {_size(available)} that are available"


def _times(matrix: float | None, factor: float | None) -> str:
    parts = [
        f"{what} takes about {duration(seconds)}"
        for what, seconds in (("computing it", matrix), ("its decomposition", factor))
        if seconds is not None
    ]
    return "".join(f"; {part}" for part in parts)


def duration(seconds: float) -> str:
    """Return a time in the unit that people would use, short."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
