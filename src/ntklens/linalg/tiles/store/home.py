"""Tiles in a folder on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ntklens.arguments import as_count, as_path
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg.tiles.base import Entries, Home
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.plan import entries_seconds
from ntklens.linalg.tiles.store.matrix import PER_TILE, StoredMatrix
from ntklens.linalg.tiles.store.plan import StorePlan, store_plan


@dataclass(frozen=True)
class StoreHome(Home):
    """Tiles in a folder. A run that was interrupted continues from what is there.

    Attributes:
        path: the folder, which holds one matrix. It is a Zarr array, which other programs can read.
        memory_limit: bytes that products and solutions take beside the vectors that they are given and return.
        checkpoint_seconds: how often the state of a solution is kept in the folder.
        method: "factor", an exact factor from disk to disk, which takes as much room on the disk again; "iterate",
            conjugate gradients; or "auto", a factor where the ridge is below 1e-5 of the trace and the disk has room.
    """

    path: str | Path
    memory_limit: int = 1 << 30
    checkpoint_seconds: float = 60.0
    method: str = "auto"

    def __post_init__(self) -> None:
        if self.method not in ("auto", "factor", "iterate"):
            raise InputError(f'expected method "auto", "factor" or "iterate"; got {self.method!r}.')
        as_path(self.path, "path")
        as_count(self.memory_limit, "memory_limit")

    def plan(self, layout: Layout, entries: Entries | None = None) -> StorePlan:
        """Return what a matrix of this layout takes on the disk, in memory and in time; the disk is measured for it.

        Raises:
            InputError: the disk cannot be written to.
        """
        self._check_limit(layout)
        seconds = None if entries is None else entries_seconds(entries, layout)
        try:
            return store_plan(Path(self.path), layout, self.memory_limit, seconds)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {first_line(error)}.") from error

    def matrix(self, layout: Layout, entries: Entries, identity: str) -> StoredMatrix:
        """Return the matrix with these entries; no tile is computed yet.

        Raises:
            InputError: the folder holds something else, or the memory limit has no room for a few tiles.
        """
        self._check_limit(layout)
        return StoredMatrix(self, layout, entries, identity)

    def _check_limit(self, layout: Layout) -> None:
        least = (1 + PER_TILE) * 8 * layout.side**2
        if self.memory_limit < least:
            raise InputError(
                f"expected memory_limit (--memory-limit) as {least:,} bytes or more, three tiles of {layout.side} rows; "
                f"got {self.memory_limit:,}."
            )

    def apart(self, name: str) -> StoreHome:
        """Return the home of a further matrix, a folder within this one."""
        return replace(self, path=Path(self.path) / name)
