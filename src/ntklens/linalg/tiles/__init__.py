"""Symmetric matrices in tiles: in memory, in a store on disk, and on a cluster. Knows no kernel."""

from ntklens.linalg.tiles.base import Entries, Home, Solution, TiledMatrix
from ntklens.linalg.tiles.cluster import ClusterHome
from ntklens.linalg.tiles.factorisation import TiledFactorisation
from ntklens.linalg.tiles.layout import TILE, Layout
from ntklens.linalg.tiles.memory import MemoryHome
from ntklens.linalg.tiles.plan import Plan
from ntklens.linalg.tiles.store import StoreHome

__all__ = [
    "TILE",
    "ClusterHome",
    "Entries",
    "Home",
    "Layout",
    "MemoryHome",
    "Plan",
    "Solution",
    "StoreHome",
    "TiledFactorisation",
    "TiledMatrix",
]
