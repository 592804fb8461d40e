"""The engine: one graph of rules, ready to compute kernel values and gradients."""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ntklens.kernels.rules.graph import Graph
from ntklens.progress import Progress

Kind = Literal["ntk", "nngp"]
"""Which of the two covariances: the tangent kernel, or the covariance of the outputs before training."""


@runtime_checkable
class Products(Protocol):
    """Intermediate results of two batches that their kernel matrix and its gradient share."""

    def of(self, rows: Tensor) -> Products:
        """Return the products of these rows of the first batch alone."""
        ...


P = TypeVar("P", bound=Products)


@runtime_checkable
class Engine(Protocol[P]):
    """A graph, compiled in the engine's own way.

    An engine owns whatever it derives from its graph (programs, series) and keeps it between calls. All engines give the
    values of the recursion in `ntklens.kernels.engines.recursion`, to the rounding of the inputs' dtype.

    Args of the constructor:
        graph: the traced network.
        memory_limit: bytes of working memory beside the result.
    """

    graph: Graph
    memory_limit: int

    def __init__(self, graph: Graph, memory_limit: int) -> None: ...

    @classmethod
    def supports(cls, graph: Graph, device: torch.device, *, differentiable: bool) -> bool:
        """Return whether this engine runs the graph on the device, through autograd where `differentiable` is asked for."""
        ...

    def matrices(
        self, x1: Tensor, x2: Tensor | None, kinds: tuple[Kind, ...], progress: Progress, products: P | None = None
    ) -> dict[Kind, Tensor]:
        """Compute the kernel matrices between two batches, or of one with itself, exactly symmetric.

        Args:
            x1: (n1, *shape), float32 or float64.
            x2: (n2, *shape), or None for x1 with itself.
            kinds: which kernels; several cost one pass.
            progress: told the share of pairs that are done.
            products: result of `products` for these batches, to be used instead of being computed again.

        Returns:
            For each kind a matrix (n1, n2) in the dtype and on the device of x1.
        """
        ...

    def gradient(
        self, x1: Tensor, x2: Tensor, weights: Tensor, kind: Kind, progress: Progress, products: P | None = None
    ) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)) without an autograd graph.

        Args:
            x1: (n1, *shape).
            x2: (n2, *shape).
            weights: (n1, n2).
            kind: which kernel.
            progress: told the share of pairs that are done.
            products: result of `products` for these batches.

        Returns:
            Tensor in the shape, dtype and device of x1.
        """
        ...

    def diagonal(self, x: Tensor, kinds: tuple[Kind, ...]) -> dict[Kind, Tensor]:
        """Compute K(x_i, x_i) for every input: (n,) for each kind, in time and memory linear in n."""
        ...

    def products(self, x1: Tensor, x2: Tensor) -> P | None:
        """Compute what a matrix and its gradient share; None where that is nothing, or more than the memory limit."""
        ...
