"""Kernels without a network: controls to compare a tangent kernel with, and closed forms to test against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.kernels.base import Pull


@dataclass(frozen=True)
class LinearKernel:
    """<x, x'> / d: ridge-less linear regression as a kernel machine.

    Example:
        >>> LinearKernel()(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        tensor([[0.5000, 0.5000],
                [0.5000, 1.0000]])
    """

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Matrix (n1, n2)."""
        a = x1.flatten(1)
        return a @ (a if x2 is None else x2.flatten(1)).T / a.shape[1]

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Weights @ x2 / d, in the shape of x1."""
        b = x2.flatten(1)
        return (weights @ b / b.shape[1]).reshape(x1.shape)

    def diagonal(self, x: Tensor) -> Tensor:
        """``|x_i|² / d``: (n,)."""
        return x.flatten(1).square().mean(1)

    @property
    def prior(self) -> LinearKernel:
        """Itself: the covariance of the Gaussian process of this kernel."""
        return self


@dataclass(frozen=True)
class RBFKernel:
    """``exp(-|x - x'|² / (2 d bandwidth²))``: the Gaussian kernel, with distances a pixel.

    Attributes:
        bandwidth: root mean square difference a pixel at which the kernel has fallen to exp(-1/2).
    """

    bandwidth: float = 0.3

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Matrix (n1, n2)."""
        a = x1.flatten(1).to(torch.float64)  # where |a|² + |b|² - 2 <a, b> loses nothing that K could show
        b = a if x2 is None else x2.flatten(1).to(torch.float64)
        squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * (a @ b.T)
        if x2 is None:
            squared = (squared + squared.T) / 2
            squared.fill_diagonal_(0.0)
        scaled = squared.clamp_min_(0.0) / (-2 * a.shape[1] * self.bandwidth**2)
        return torch.exp(scaled).to(x1.dtype)

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Σ_j w_j K(x, x_j) (x_j - x) / (d bandwidth²), in the shape of x1."""
        return self.vjp(x1, x2)[1](weights)

    def vjp(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pull]:
        """The matrix, and its gradient from it."""
        matrix, b = self(x1, x2), x2.flatten(1)

        def pull(weights: Tensor, rows: Tensor | None = None) -> Tensor:
            x, k = (x1, matrix) if rows is None else (x1[rows], matrix[rows])
            a, w = x.flatten(1), weights * k
            slope = (w @ b - w.sum(1, keepdim=True) * a) / (a.shape[1] * self.bandwidth**2)
            return slope.reshape(x.shape)

        return matrix, pull

    def diagonal(self, x: Tensor) -> Tensor:
        """Ones: (n,)."""
        return x.new_ones(len(x))

    @property
    def prior(self) -> RBFKernel:
        """Itself: the covariance of the Gaussian process of this kernel."""
        return self
