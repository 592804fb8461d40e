"""The movement of the empirical kernel over training: recorded, measured, and what it advises."""

from ntklens.dynamics import measures
from ntklens.dynamics.advice import Advice, advice, overfitting_alarm
from ntklens.dynamics.settling import Settling, settling
from ntklens.dynamics.tracker import KernelTracker
from ntklens.dynamics.watch import checkpoints, watch

__all__ = [
    "Advice",
    "KernelTracker",
    "Settling",
    "advice",
    "checkpoints",
    "measures",
    "overfitting_alarm",
    "settling",
    "watch",
]
