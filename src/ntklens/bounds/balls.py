"""The images that an attacker may reach, in the coordinates in which their set is smallest.

A ball in linf is clipped to the bounds of the pixels first and described about the centre of what is left: a black pixel
can only rise, so its interval is half as long. A ball in l2 is left whole, which is sound: the clipped one lies within.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.attacks import Threat


@dataclass(frozen=True)
class Balls:
    """One ball per image, over flattened pixels in float64.

    Attributes:
        centres: (m, d).
        half: (m, d), the half-widths of the boxes in linf; None in l2.
        radius: of the balls in l2, (m,); None in linf.
    """

    centres: Tensor
    half: Tensor | None
    radius: Tensor | None

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, rows: slice | Tensor) -> Balls:
        half, radius = (None if part is None else part[rows] for part in (self.half, self.radius))
        return Balls(self.centres[rows], half, radius)

    @property
    def square(self) -> Tensor:
        """The largest |δ|² about each centre, (m,)."""
        if self.half is not None:
            return self.half.square().sum(1)
        assert self.radius is not None
        return self.radius.square()

    def reach(self, directions: Tensor) -> Tensor:
        """Return the largest <u, δ> over each ball, for directions (m, ..., d): (m, ...)."""
        middle = [1] * (directions.ndim - 2)
        if self.half is not None:
            half = self.half.reshape(len(self), *middle, -1)
            total: Tensor = (directions.abs() * half).sum(-1)
            return total
        assert self.radius is not None
        length: Tensor = directions.norm(dim=-1)
        return self.radius.reshape(len(self), *middle) * length


def balls(x: Tensor, threat: Threat, radii: Tensor | None = None) -> Balls:
    """Return the balls of a threat around images.

    Args:
        x: (m, *shape).
        threat: the norm, the bounds of the pixels, and the radius.
        radii: (m,), a radius for each image in place of the threat's.
    """
    flat = x.detach().flatten(1).to(torch.float64)
    radius = torch.full((len(flat),), threat.eps, dtype=torch.float64) if radii is None else radii.to(torch.float64)
    if threat.norm == "l2":
        return Balls(flat, None, radius)
    low, high = threat.bounds
    lowest, highest = (flat - radius[:, None]).clamp(min=low), (flat + radius[:, None]).clamp(max=high)
    return Balls((lowest + highest) / 2, (highest - lowest) / 2, None)
