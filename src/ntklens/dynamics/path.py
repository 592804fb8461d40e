"""The path of a kernel over training: what the measures say of every epoch, each eigendecomposition made once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.dynamics import measures


class Spectrum(NamedTuple):
    """Eigenvalues of a kernel, ascending, and its leading eigenvectors, in float64."""

    values: Float[Tensor, " n"]
    top: Float[Tensor, "n k"]


class KernelPath:
    """Kernels on one probe set, in the order of their epochs.

    Args:
        y: classes of the probe set.
        top_k: how many eigenvectors count as the top ones.

    Attributes:
        epochs: of each kernel.
        kernels: (n, n) each, on the CPU.
    """

    def __init__(self, y: Int[Tensor, " n"], top_k: int) -> None:
        self.y, self.top_k = y.long().cpu(), top_k
        self.epochs: list[float] = []
        self.kernels: list[Tensor] = []
        self._spectra: list[Spectrum | None] = []

    def append(self, epoch: float, kernel: Float[Tensor, "n n"]) -> None:
        """Add the kernel of a later epoch."""
        self.epochs.append(epoch)
        self.kernels.append(kernel)
        self._spectra.append(None)

    def cut(self, kept: int) -> None:
        """Keep the first so many."""
        del self.epochs[kept:], self.kernels[kept:], self._spectra[kept:]

    def row(self, t: int) -> dict[str, float]:
        """Measures of the kernel with number t; its cost does not grow with the length of the path."""
        t = range(len(self.epochs))[t]
        kernel, values = self.kernels[t], self._spectrum(t).values
        targets = nn.functional.one_hot(self.y).double()
        row = {
            "epoch": self.epochs[t],
            "velocity": self._velocity(t),
            "concentration": measures.concentration(values, self.top_k),
            "effective_rank": measures.effective_rank(values),
            "trace": float(values.sum()),
            "alignment": measures.alignment(kernel, targets),
            "specialisation": float(np.mean(measures.specialisation(kernel, self.y))),
        }
        parts = [self._parts(i) for i in (0, t, len(self.epochs) - 1)]
        for name, through in zip(("", "_top", "_bottom"), zip(*parts, strict=True), strict=True):
            polar = measures.polar(torch.stack(through))
            row |= {f"radius{name}": polar.radius[1], f"angle{name}": polar.angle[1]}
        return row

    def velocities(self) -> list[float]:
        """Kernel distance of each epoch from the one before, a unit of time; NaN for the first."""
        return [self._velocity(t) for t in range(len(self.epochs))]

    def _velocity(self, t: int) -> float:
        first = max(t - 1, 0)
        pair = torch.stack(self.kernels[first : t + 1])
        return measures.velocity(pair, self.epochs[first : t + 1])[-1]

    def _spectrum(self, t: int) -> Spectrum:
        known = self._spectra[t]
        if known is None:
            values, vectors = torch.linalg.eigh(self.kernels[t].double())
            known = self._spectra[t] = Spectrum(values, vectors[:, -self.top_k :].clone())
        return known

    def _parts(self, t: int) -> tuple[Tensor, Tensor, Tensor]:
        """The whole kernel, its part in its own top eigenspace, and the rest."""
        values, top = self._spectrum(t)
        kernel, upper = self.kernels[t].double(), (top * values[-self.top_k :]) @ top.T
        return kernel, upper, kernel - upper
