"""Tiles on a cluster, in the memory of Dask's workers."""

from ntklens.linalg.tiles.cluster.home import ClusterHome
from ntklens.linalg.tiles.cluster.matrix import ClusterMatrix

__all__ = ["ClusterHome", "ClusterMatrix"]
