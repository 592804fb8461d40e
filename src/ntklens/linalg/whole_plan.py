"""What a kernel matrix that is kept whole will take, told before any work."""

from __future__ import annotations

from dataclasses import dataclass

from ntklens.linalg.tiles.base import Entries
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.plan import Plan, duration, entries_seconds, fits_in_memory, room, size
from ntklens.memory import available_memory


@dataclass(frozen=True, kw_only=True)
class WholePlan(Plan):
    """What a matrix that is kept whole takes in memory.

    Attributes:
        matrix_bytes: of the matrix.
    """

    matrix_bytes: int

    @property
    def fits(self) -> bool:
        """Whether everything finds room in memory."""
        return fits_in_memory(self.matrix_bytes + self.working_bytes, self.available)

    def refusal(self) -> str:
        """Return why it does not fit, and what to do."""
        assert self.available is not None
        return (
            f"the kernel matrix of {self.n:,} inputs takes {size(self.matrix_bytes)} and {size(self.working_bytes)} "
            f"beside it, and {size(self.available)} are available. Take fewer inputs, or keep the matrix in a store "
            "on disk: --store folder."
        )

    def __str__(self) -> str:
        times = "".join(
            f"; {what} takes about {duration(seconds)}"
            for what, seconds in (("computing it", self.matrix_seconds), ("its decomposition", self.factor_seconds))
            if seconds is not None
        )
        return (
            f"{self.n:,} inputs: the whole kernel matrix takes {size(self.matrix_bytes)} and "
            f"{size(self.working_bytes)} beside it{room(self.available)}{times}."
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
    matrix_bytes = 8 * n * n
    return WholePlan(
        n=n,
        matrix_bytes=matrix_bytes,
        working_bytes=round((matrices - 1) * matrix_bytes) + more,
        available=available_memory(),
        factor_seconds=factor_seconds,
        matrix_seconds=None if entries is None else entries_seconds(entries, Layout(n)),
    )
