"""Symmetric matrices in tiles: in memory, in a store on disk, and on a cluster. Knows no kernel."""

from ntklens.linalg.tiles.base import Entries, Home, Solution, TiledMatrix
from ntklens.linalg.tiles.layout import TILE, Layout

__all__ = ["TILE", "Entries", "Home", "Layout", "Solution", "TiledMatrix"]
