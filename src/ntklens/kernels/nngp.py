"""The covariance of a network's outputs before training, as a kernel of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from ntklens.kernels.analytic import AnalyticKernel


@dataclass(frozen=True)
class NNGPKernel:
    """The NNGP of an analytic kernel (Lee et al. 2018): a machine on it is the Bayesian network of infinite width.

    Attributes:
        ntk: the analytic kernel.
    """

    ntk: AnalyticKernel

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Matrix (n1, n2)."""
        return self.ntk(x1, x2, "nngp")

    def diagonal(self, x: Tensor) -> Tensor:
        """K(x_i, x_i): (n,)."""
        return self.ntk.diagonal(x, "nngp")

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """d/dx1 of sum(weights * K(x1, x2)), in the shape of x1."""
        return self.ntk.gradient(x1, x2, weights, "nngp")

    @property
    def prior(self) -> NNGPKernel:
        """Itself."""
        return self
