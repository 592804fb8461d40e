"""Blocks of ∂f/∂θ for a batch, and what a kernel makes of two batches of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

_LEAF = 192
"""Rows below which the product of a matrix with its own transpose is not halved further."""


class Piece(NamedTuple):
    """A term of <J(x), J(x')> for some of the pairs.

    Attributes:
        rows: which of the first inputs.
        columns: which of the second ones; where a batch meets itself, pieces off the diagonal stand for their mirror too.
        value: (O, n1, O, n2) with full outputs, else (n1, n2), the sum over outputs.
    """

    rows: slice
    columns: slice
    value: Tensor


@runtime_checkable
class Tangent(Protocol):
    """One block of ∂f/∂θ for a batch, in whatever form its contraction is cheapest."""

    def tensors(self) -> list[Tensor]:
        """All that depends on the inputs and on floating point numbers."""
        ...

    def replaced(self, tensors: Iterator[Tensor]) -> Tangent:
        """The same block on other tensors."""
        ...

    def pieces(self, other: Tangent, *, full: bool, room: int) -> Iterator[Piece]:
        """<J(x), J(x')> in terms that each take about `room` numbers beside their result; `other` may be self."""
        ...

    def combined(self, coefficients: Tensor) -> list[Tensor]:
        """w_oc = Σ_i A_ic J_o(x_i) for coefficients (n, k), in the form that `against` takes."""
        ...

    def against(self, directions: list[Tensor]) -> Tensor:
        """Σ_o <J_o(x_i), w_oc>: (n, k)."""
        ...


Tangents = dict[str, Tangent]
"""Blocks by the name of a layer or parameter."""

ALL = slice(None)


@dataclass(frozen=True)
class Rows:
    """A block as it is: (O, n, m)."""

    rows: Tensor

    def tensors(self) -> list[Tensor]:
        """The rows."""
        return [self.rows]

    def replaced(self, tensors: Iterator[Tensor]) -> Rows:
        """The same block on other rows."""
        return Rows(next(tensors))

    def pieces(self, other: Tangent, *, full: bool, room: int) -> Iterator[Piece]:
        """One product, for all pairs."""
        assert isinstance(other, Rows)
        yield Piece(ALL, ALL, inner(self.rows, other.rows, full=full))

    def combined(self, coefficients: Tensor) -> list[Tensor]:
        """Sums of rows: (O, k, m)."""
        return [coefficients.T @ self.rows]

    def against(self, directions: list[Tensor]) -> Tensor:
        """Products with them."""
        return (self.rows @ directions[0].transpose(1, 2)).sum(0)


def inner(a: Tensor, b: Tensor, *, full: bool) -> Tensor:
    """Products of the rows (O, n, m) of two batches, as in `Piece`; half of them where the batch is the same."""
    if full:
        flat = gram(a.flatten(0, 1), a.flatten(0, 1) if a is b else b.flatten(0, 1), same=a is b)
        return flat.view(len(a), -1, len(b), b.shape[1])
    values = [gram(u, v, same=a is b) for u, v in zip(a, b, strict=True)]
    return sum(values[1:], start=values[0])


def gram(a: Tensor, b: Tensor, *, same: bool) -> Tensor:
    """The matrix a bᵀ; exactly symmetric, for little more than half of the work, where both are the same."""
    if not same or a.requires_grad:
        return a @ b.T
    out = a.new_empty(len(a), len(a))
    _triangle(a, out)
    return out


def _triangle(a: Tensor, out: Tensor) -> None:
    n, half = len(a), len(a) // 2
    if n <= _LEAF:
        torch.mm(a, a.T, out=out) if out.is_contiguous() else out.copy_(a @ a.T)
        return
    _triangle(a[:half], out[:half, :half])
    _triangle(a[half:], out[half:, half:])
    upper = a[:half] @ a[half:].T
    out[:half, half:] = upper
    out[half:, :half] = upper.T


def jacobians(
    network: nn.Module, scales: Mapping[str, float], x: Tensor, output: Callable[[Tensor], Tensor]
) -> Tangents:
    """The Jacobian of each parameter named in `scales`, times its scale: the plain way, for any parameter.

    Memory is n O times the number of parameters. `output` takes the outputs (n, O) to those that are differentiated.
    Inputs are taken together by torch.func where it has rules for all operations of the network, and else one by one; so
    too where x requires a gradient, since torch.func loses a term in the second derivative of layer_norm (torch 2.13).
    """
    parameters = dict(network.named_parameters())
    moving = {name: parameters[name] for name in scales}

    def outputs(moved: dict[str, Tensor], one: Tensor) -> Tensor:
        return output(functional_call(network, moved, (one[None],)))[0]

    def one_by_one() -> dict[str, Tensor]:
        with torch.enable_grad():
            leaves = {name: p.detach().requires_grad_() for name, p in moving.items()}
            found = [
                torch.autograd.grad(
                    f, list(leaves.values()), retain_graph=True, create_graph=x.requires_grad, materialize_grads=True
                )
                for one in x
                for f in outputs(leaves, one)
            ]
        stacked = [torch.stack(part) for part in zip(*found, strict=True)]
        by_output = [t.view(len(x), -1, *t.shape[1:]).transpose(0, 1) for t in stacked]
        return dict(zip(leaves, by_output, strict=True))

    if x.requires_grad:
        blocks = one_by_one()
    else:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")  # an operation that is taken in a loop
                blocks = vmap(jacrev(outputs), (None, 0), out_dims=1)(moving, x)
        except RuntimeError:
            blocks = one_by_one()
    return {name: Rows(scales[name] * block.reshape(*block.shape[:2], -1)) for name, block in blocks.items()}


def contract(a: Tangent, b: Tangent, total: Tensor, *, full: bool, room: int) -> None:
    """Add <J(x), J(x')> of one block to a total of the shape of a `Piece` for all pairs."""
    for rows, columns, value in a.pieces(b, full=full, room=room):
        if full:
            total[:, rows, :, columns] += value
        else:
            total[rows, columns] += value
        if a is b and rows != columns:
            mirror = value.permute(2, 3, 0, 1) if full else value.T
            (total[:, columns, :, rows] if full else total[columns, rows]).add_(mirror)
