"""Jacobians of a network in its parameters, by torch.func, and what a kernel makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap


class Tangent(NamedTuple):
    """One block of ∂f/∂θ for a batch: output o of input i has the gradient outer[i] ⊗ inner[i, o].

    Attributes:
        outer: (n, k), or None where the block is not such a product and stands in `inner` as it is.
        inner: (n, O, m).
    """

    outer: Tensor | None
    inner: Tensor


Tangents = dict[str, Tangent]
"""Blocks by the name of a parameter or layer."""


def jacobians(network: nn.Module, scales: Mapping[str, float], x: Tensor, *, pseudo: bool) -> Tangents:
    """The Jacobian of each parameter named in `scales`, times its scale: the plain way, for any parameter.

    Memory is n O times the number of parameters. With `pseudo` there is one row, of the sum of the outputs over sqrt(O).
    """
    parameters = dict(network.named_parameters())
    moving = {name: parameters[name] for name in scales}

    def outputs(moved: dict[str, Tensor], one: Tensor) -> Tensor:
        f: Tensor = functional_call(network, moved, (one[None],))[0]
        return f.sum()[None] / f.numel() ** 0.5 if pseudo else f

    blocks = vmap(jacrev(outputs), (None, 0))(moving, x)
    return {name: Tangent(None, scales[name] * block.flatten(2)) for name, block in blocks.items()}


def contract(a: Tangents, b: Tangents, *, full: bool) -> Tensor:
    """<J(x), J(x')> from the blocks of two batches: (n1, n2, O, O) when full, else (n1, n2), the mean over outputs.

    A block that is an outer product costs the product of its two factors' kernels, and no Jacobian is formed.
    """
    total: Tensor | None = None
    for name, (outer, inner) in a.items():
        other = b[name]
        n1, o, _ = inner.shape
        n2 = len(other.inner)
        if full:
            flat = inner.flatten(0, 1) @ other.inner.flatten(0, 1).T
            term = flat.reshape(n1, o, n2, o).transpose(1, 2)
        else:
            term = inner.flatten(1) @ other.inner.flatten(1).T / o
        if outer is not None and other.outer is not None:
            shared = outer @ other.outer.T
            term = term * (shared[..., None, None] if full else shared)
        total = term if total is None else total + term
    if total is None:
        raise ValueError("a kernel needs a block of parameters")
    return total
