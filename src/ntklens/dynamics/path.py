"""The path of a kernel over training: the measures of every record, with one eigendecomposition per kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.dynamics import measures
from ntklens.dynamics.settling import Settling, settling

NAMES = (
    *("epoch", "velocity", "concentration", "effective_rank", "centred_rank", "distance_to_end", "distance_with_noise"),
    *("trace", "alignment", "specialisation"),
    *("radius", "angle", "radius_top", "angle_top", "radius_bottom", "angle_bottom"),
)
"""Names of the measures of a kernel, in the order of `KernelPath.row`."""


class Eigensystem(NamedTuple):
    """All eigenvalues of a kernel, in descending order, and the eigenvectors of the largest ones, in float64."""

    eigenvalues: Float[Tensor, " n"]
    top_eigenvectors: Float[Tensor, "n k"]


class KernelPath:
    """Kernels on one probe set, in the order of their epochs.

    Args:
        y: classes of the probe set.
        top_k: number of leading eigenvectors that span the top eigenspace.

    Attributes:
        epochs: the epoch of each kernel.
        kernels: matrices (n, n), on the CPU.
    """

    def __init__(self, y: Int[Tensor, " n"], top_k: int) -> None:
        self.y, self.top_k = y.long().cpu(), top_k
        self.epochs: list[float] = []
        self.kernels: list[Tensor] = []
        self._eigensystems: list[Eigensystem | None] = []
        # Centred cosine kernels in the dtype of the kernels: in double precision they would take most of the memory.
        self._units: list[Tensor] = []
        self._settling: Settling | None = None

    def append(self, epoch: float, kernel: Float[Tensor, "n n"]) -> None:
        """Add the kernel of a later epoch."""
        self.epochs.append(epoch)
        self.kernels.append(kernel)
        self._eigensystems.append(None)
        self._units.append(measures.centred_cosine(kernel).to(kernel.dtype))
        self._settling = None

    def truncate(self, length: int) -> None:
        """Keep the first `length` kernels."""
        del self.epochs[length:], self.kernels[length:], self._eigensystems[length:], self._units[length:]
        self._settling = None

    def settling(self) -> Settling:
        """Return when the path settles, from all its kernels; it is computed once for each length of the path."""
        if self._settling is None:
            self._settling = settling([unit.double() for unit in self._units], self.epochs)
        return self._settling

    def row(self, t: int) -> dict[str, float]:
        """Return the measures of kernel number t; only the distances to the end ask all kernels."""
        t = range(len(self.epochs))[t]
        kernel, eigenvalues = self.kernels[t], self._eigensystem(t).eigenvalues
        targets = nn.functional.one_hot(self.y).double()
        row = {
            "epoch": self.epochs[t],
            "velocity": self._velocity(t),
            "concentration": measures.concentration(eigenvalues, self.top_k),
            "effective_rank": measures.effective_rank(eigenvalues),
            "centred_rank": measures.centred_rank(kernel),
            "distance_to_end": self.settling().distance[t],
            "distance_with_noise": self.settling().with_noise[t],
            "trace": float(eigenvalues.sum()),
            "alignment": measures.alignment(kernel, targets),
            "specialisation": float(np.mean(measures.specialisation(kernel, self.y))),
        }
        # Radius and angle of kernel t need three kernels only: the first is the origin, and the last has radius 1.
        first, this, last = (self._parts(i) for i in (0, t, len(self.epochs) - 1))
        for suffix, *kernels in zip(("", "_top", "_bottom"), first, this, last, strict=True):
            polar = measures.polar(torch.stack(kernels))
            row |= {f"radius{suffix}": polar.radius[1], f"angle{suffix}": polar.angle[1]}
        return row

    def velocities(self) -> list[float]:
        """Return the kernel distance per epoch between each kernel and the one before it; NaN for the first."""
        return [self._velocity(t) for t in range(len(self.epochs))]

    def _velocity(self, t: int) -> float:
        previous = max(t - 1, 0)
        pair = torch.stack(self.kernels[previous : t + 1])
        return measures.velocity(pair, self.epochs[previous : t + 1])[-1]

    def _eigensystem(self, t: int) -> Eigensystem:
        eigensystem = self._eigensystems[t]
        if eigensystem is None:
            ascending, eigenvectors = torch.linalg.eigh(self.kernels[t].double())
            # A flip copies, so that the other n - k eigenvectors are freed.
            eigensystem = Eigensystem(ascending.flip(0), eigenvectors[:, -self.top_k :].flip(1))
            self._eigensystems[t] = eigensystem
        return eigensystem

    def _parts(self, t: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return kernel t, its part in its own top eigenspace, and the rest."""
        eigenvalues, top_eigenvectors = self._eigensystem(t)
        kernel = self.kernels[t].double()
        return kernel, *measures.split(kernel, eigenvalues[: self.top_k], top_eigenvectors)
