"""Tiles in memory, factored in place."""

from ntklens.linalg.tiles.memory.home import MemoryHome
from ntklens.linalg.tiles.memory.packed import PackedMatrix

__all__ = ["MemoryHome", "PackedMatrix"]
