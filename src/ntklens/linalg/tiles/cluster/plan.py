"""What a matrix on a cluster will take, told before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.plan import Plan, duration, room, size
from ntklens.memory import available_memory

_WORKER_SHARE = 0.6
"""Of its memory, what a worker of a cluster may hold in tiles; Dask moves data to disk from there on."""


@dataclass(frozen=True, kw_only=True)
class ClusterPlan(Plan):
    """What a matrix on a cluster takes. What is available is in this process, where a solution is computed.

    Attributes:
        tile_bytes: of all tiles, in the memory of the workers.
        workers: number of them.
        held: bytes of tiles that the workers can hold; None where one has no limit.
    """

    tile_bytes: int
    workers: int
    held: int | None

    @property
    def fits(self) -> bool:
        """Whether the workers have room for the tiles."""
        return self.held is None or self.tile_bytes <= self.held

    def refusal(self) -> str:
        """Return why it does not fit, and what to do."""
        assert self.held is not None
        return (
            f"the lower triangle of the kernel matrix takes {size(self.tile_bytes)}, and {_counted(self.workers)} can hold "
            f"{size(self.held)} of tiles, {_WORKER_SHARE:.0%} of their memory. Start more workers, or keep the matrix in a "
            "store on disk: fit(x, y, home=nl.StoreHome(folder)), or --store folder."
        )

    def __str__(self) -> str:
        holds = "" if self.held is None else f", which can hold {size(self.held)}"
        taken = "" if not self.matrix_seconds else f"; computing them takes about {duration(self.matrix_seconds)}"
        return (
            f"{self.n:,} training inputs: the lower triangle of the kernel matrix takes {size(self.tile_bytes)} on "
            f"{_counted(self.workers)}{holds}, and a solution {size(self.working_bytes)} here{room(self.available)}{taken}."
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
        held=round(_WORKER_SHARE * sum(limits)) if limits and all(limits) else None,
        working_bytes=working_bytes,
        available=available_memory(),
        matrix_seconds=None if seconds is None else seconds / max(1, len(limits)),
    )


def _counted(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"
