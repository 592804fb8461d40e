"""Tiles in the memory of this process."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ntklens.errors import InputError
from ntklens.linalg.tiles.base import Entries, Home
from ntklens.linalg.tiles.layout import Layout
from ntklens.linalg.tiles.memory.packed import PackedMatrix
from ntklens.linalg.tiles.memory.plan import MemoryPlan, memory_plan
from ntklens.linalg.tiles.plan import entries_seconds


@dataclass(frozen=True)
class MemoryHome(Home):
    """Tiles in this process's memory.

    Attributes:
        precision: of the tiles: "float64"; "float32", which takes half the memory, and whose solutions are refined to
            residuals of float64 by conjugate gradients; or "auto", float64 where it fits into memory.
    """

    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "float64", "float32"):
            raise InputError(f'expected precision "auto", "float64" or "float32"; got {self.precision!r}.')

    def plan(self, layout: Layout, entries: Entries | None = None) -> MemoryPlan:
        """Return what a matrix of this layout takes in memory and in time."""
        return memory_plan(layout, self.precision, None if entries is None else entries_seconds(entries, layout))

    def matrix(self, layout: Layout, entries: Entries, identity: str) -> PackedMatrix:
        """Return the matrix with these entries; nothing is computed yet.

        Raises:
            InputError: it does not fit into memory.
        """
        plan = self.plan(layout)
        plan.check()
        return PackedMatrix(layout, entries, torch.float64 if plan.precision == "float64" else torch.float32)
