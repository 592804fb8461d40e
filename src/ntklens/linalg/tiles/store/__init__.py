"""Tiles in a folder on disk, for matrices that are larger than memory."""

from ntklens.linalg.tiles.store.home import StoreHome
from ntklens.linalg.tiles.store.matrix import StoredMatrix

__all__ = ["StoreHome", "StoredMatrix"]
