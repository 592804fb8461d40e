"""The NNGP of a network as a kernel of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ntklens.errors import InputError
from ntklens.kernels.base import Kernel
from ntklens.kernels.expansion import Pullback
from ntklens.progress import Report

if TYPE_CHECKING:
    from ntklens.kernels.analytic import AnalyticKernel


@dataclass(frozen=True)
class NNGPKernel(Kernel):
    """The NNGP of an analytic kernel (Lee et al. 2018): a machine on it is the Bayesian network of infinite width.

    Attributes:
        ntk: the analytic kernel whose outputs before training have this covariance.
    """

    ntk: AnalyticKernel

    def __post_init__(self) -> None:
        from ntklens.kernels.analytic import AnalyticKernel  # which has this kernel as its prior

        if not isinstance(self.ntk, AnalyticKernel):
            raise InputError(f"expected ntk as an AnalyticKernel; got {type(self.ntk).__name__}.")

    def identity(self) -> str:
        """Return the text by which a file tells this kernel from others."""
        return f"NNGPKernel(ntk={self.ntk.identity()})"

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Compute the matrix (n1, n2)."""
        return self.ntk(x1, x2, "nngp")

    def gram(self, x: Tensor, progress: Report | None = None) -> Tensor:
        """Compute the matrix of x with itself, (n, n)."""
        return self.ntk(x, None, "nngp", progress=progress)

    def diagonal(self, x: Tensor) -> Tensor:
        """Compute K(x_i, x_i): (n,)."""
        return self.ntk.diagonal(x, "nngp")

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)), in the shape of x1."""
        return self.ntk.gradient(x1, x2, weights, "nngp")

    def vjp(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute the matrix (n1, n2) and its pullback, which share their inner products."""
        return self.ntk.vjp(x1, x2, "nngp")

    def vjp_between(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute what `vjp` does for tensors that are known to fit."""
        return self.ntk._vjp(x1, x2, "nngp")

    @property
    def prior(self) -> NNGPKernel:
        """This kernel: the NNGP is its own prior."""
        return self
