"""How the empirical kernel moves over training."""

from ntklens.dynamics import measures
from ntklens.dynamics.tracker import KernelTracker

__all__ = ["KernelTracker", "measures"]
