"""The engine: one graph of rules, ready to compute kernel values and gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ntklens.kernels.rules.graph import Graph
from ntklens.modules import without_autocast
from ntklens.progress import Progress

Kind = Literal["ntk", "nngp"]
"""Which of the two covariances: the tangent kernel, or the covariance of the outputs before training."""


@runtime_checkable
class Products(Protocol):
    """Intermediate results of two batches that their kernel matrix and its gradient share."""

    def of(self, rows: Tensor) -> Products:
        """Return the products of some rows of the first batch alone, given by their indices."""
        ...


P = TypeVar("P", bound=Products)
Method = TypeVar("Method", bound=Callable[..., Any])


def outside_inference_mode(method: Method) -> Method:
    """Let a method of an engine run as usual where its caller is in `torch.inference_mode`, or in `torch.autocast`.

    Tensors that are made in inference mode can be neither changed by other threads nor differentiated, and engines do both.
    """

    @functools.wraps(method)
    @without_autocast
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not (torch.is_inference_mode_enabled() or any(isinstance(a, Tensor) and a.is_inference() for a in args)):
            return method(*args, **kwargs)
        # Leaving inference mode switches gradients on, which the caller may have switched off.
        grad_enabled = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(grad_enabled):
            usable = [a.clone() if isinstance(a, Tensor) and a.is_inference() else a for a in args]
            return method(*usable, **kwargs)

    return wrapped  # type: ignore[return-value]


@runtime_checkable
class Engine(Protocol[P]):
    """A graph, compiled in the engine's own way.

    An engine owns whatever it derives from its graph (programs, series) and keeps it between calls, for one kind of device.
    Every engine keeps these promises, to which the tests hold it:

    1. Values are those of the recursion in `ntklens.kernels.engines.recursion`, to the rounding of the inputs' dtype.
       Covariances and angles are in float64 even for float32 inputs, because near pairs lose their angle in float32; Θ may
       be in the dtype of the inputs.
    2. K(x, x) of a batch with itself, and `diagonal`, are exact for the angle 0: they come from the variances alone.
    3. An entry is the same to the last bit whatever the other inputs of the batch and the memory limit are.
    4. At a kink of a piecewise linear activation the directional part of the gradient counts as zero: it is always finite.
    5. Where an engine supports `differentiable`, autograd follows `matrices` and `diagonal`; otherwise neither is tracked.

    Args of the constructor:
        graph: the traced network.
        memory_limit: bytes of working memory on the inputs' device beside the result, shared products included.
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
            x2: (n2, *shape) on the device of x1, or None for x1 with itself.
            kinds: which kernels; several cost one pass.
            progress: told the share of pairs that are done, which grows and ends at 1.
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
