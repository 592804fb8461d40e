"""Kernels without a network: controls to compare a tangent kernel with, and closed forms for tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.arguments import as_images, as_number
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel, KernelByPullback, checked_both, checked_pair, checked_weights
from ntklens.kernels.expansion import Pullback
from ntklens.modules import without_autocast


@dataclass(frozen=True)
class LinearKernel(Kernel):
    """The kernel <x, x'> / d, with the number d of pixels of an input; its kernel machine is linear regression.

    Example:
        >>> LinearKernel()(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        tensor([[0.5000, 0.5000],
                [0.5000, 1.0000]])
    """

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Compute the matrix (n1, n2) between x1 and x2, or of x1 with itself."""
        x1, x2 = checked_pair(x1, x2)
        a = x1.flatten(1)
        return a @ (a if x2 is None else x2.flatten(1).to(a)).T / a.shape[1]

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Compute weights @ x2 / d, in the shape of x1."""
        x1, z = checked_both(x1, x2)
        b = z.flatten(1).to(x1)
        return (checked_weights(weights, x1, b).to(b) @ b / b.shape[1]).reshape(x1.shape)

    def diagonal(self, x: Tensor) -> Tensor:
        """Compute ``|x_i|² / d``: (n,)."""
        return as_images(x).flatten(1).square().mean(1)

    @property
    def prior(self) -> LinearKernel:
        """The kernel itself, which is the covariance of its Gaussian process."""
        return self


@dataclass(frozen=True)
class RBFKernel(KernelByPullback):
    """The Gaussian kernel ``exp(-|x - x'|² / (2 d bandwidth²))``, with the number d of pixels of an input.

    Attributes:
        bandwidth: root mean square difference of the pixels at which the kernel is exp(-1/2); in the units of the pixels.
    """

    bandwidth: float = 0.3

    def __post_init__(self) -> None:
        bandwidth = as_number(self.bandwidth, "bandwidth")
        if not 0 < bandwidth < math.inf:
            raise InputError(f"expected a positive and finite bandwidth; got {self.bandwidth}.")
        object.__setattr__(self, "bandwidth", bandwidth)

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Compute the matrix (n1, n2) between x1 and x2, or of x1 with itself; it has the dtype of x1."""
        return self._values(*checked_pair(x1, x2))

    def between(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compute the matrix between tensors that are known to fit."""
        return self._values(x1, x2)

    def _values(self, x1: Tensor, x2: Tensor | None) -> Tensor:
        # In float64 the cancellation in |a|² + |b|² - 2 <a, b> is too small to show in K.
        a = x1.flatten(1).to(torch.float64)
        b = a if x2 is None else x2.flatten(1).to(torch.float64)
        squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * (a @ b.T)
        if x2 is None:
            squared = (squared + squared.T) / 2  # exactly symmetric, which the product need not be
            squared.fill_diagonal_(0.0)
        scaled = squared.clamp_min_(0.0) / (-2 * a.shape[1] * self.bandwidth**2)
        return torch.exp(scaled).to(x1.dtype)

    def vjp_between(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute the matrix, and the function from weights w to Σ_j w_j K(x, x_j) (x_j - x) / (d bandwidth²)."""
        matrix = self.between(x1, x2)
        b = x2.flatten(1).to(x1)

        @without_autocast
        def pull(weights: Tensor, rows: Tensor | None = None) -> Tensor:
            x, k = (x1, matrix) if rows is None else (x1[rows], matrix[rows])
            a, w = x.flatten(1), weights.to(k) * k
            gradient = (w @ b - w.sum(1, keepdim=True) * a) / (a.shape[1] * self.bandwidth**2)
            return gradient.reshape(x.shape)

        return matrix, pull

    def diagonal(self, x: Tensor) -> Tensor:
        """Return ones: (n,)."""
        x = as_images(x)
        return x.new_ones(len(x))

    @property
    def prior(self) -> RBFKernel:
        """The kernel itself, which is the covariance of its Gaussian process."""
        return self
