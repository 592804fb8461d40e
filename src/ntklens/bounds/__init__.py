"""Rigorous bounds of what kernel machines return over balls around images."""

from ntklens.bounds.agreement import check_sound
from ntklens.bounds.kernel_bounds import BallBounds, KernelBounds

__all__ = ["BallBounds", "KernelBounds", "check_sound"]
