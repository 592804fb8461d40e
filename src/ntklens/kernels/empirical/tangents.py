"""Blocks of the Jacobian ∂f/∂θ of a batch, and the inner products of two batches of them.

A `Tangent` is the block of one layer or of one parameter: J_o(x_i), the gradient of output o at input i in these
parameters. It may be stored in any form in which it can be multiplied with the block of another batch.

The axes of tensors have the same letters in the whole package:

    O  outputs of the network          n  inputs of a batch
    G  groups of a layer's channels    C  channels of a layer's output in one group
    K  fan-in of one channel           T  positions: pixels, tokens, and calls of a layer
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

ALL = slice(None)

_SMALLEST_HALF = 192
"""Rows below which the product of a matrix with its own transpose is not halved further."""


class Term(NamedTuple):
    """A term of the sum <J(x), J(x')> for a rectangle of pairs.

    Attributes:
        rows: inputs of the first batch.
        columns: inputs of the second batch. Where a batch is multiplied with itself, a term off the diagonal stands
            for its mirror image as well.
        value: (O, n1, O, n2) for full outputs, otherwise (n1, n2), the sum over outputs.
    """

    rows: slice
    columns: slice
    value: Tensor


@runtime_checkable
class Tangent(Protocol):
    """One block of ∂f/∂θ for a batch, in the form in which its products are cheapest."""

    def tensors(self) -> list[Tensor]:
        """Return all floating point tensors of the block that depend on the inputs."""
        ...

    def with_tensors(self, tensors: Iterator[Tensor]) -> Tangent:
        """Return a copy of this block with its tensors replaced, in the order of `tensors()`."""
        ...

    def terms(self, other: Tangent, *, full: bool, capacity: int) -> Iterator[Term]:
        """Yield terms whose sum is <J(x), J(x')>; each takes about `capacity` numbers beside its value.

        `other` may be this very block, in which case only one half of the pairs need be yielded.
        """
        ...

    def weighted_sum(self, coefficients: Tensor) -> list[Tensor]:
        """Return w_oc = Σ_i A_ic J_o(x_i) for coefficients A (n, k), in the form that `dot` takes."""
        ...

    def dot(self, directions: list[Tensor]) -> Tensor:
        """Return Σ_o <J_o(x_i), w_oc> for directions w from `weighted_sum`: (n, k)."""
        ...


Tangents = dict[str, Tangent]
"""Blocks by the name of their layer or parameter."""


@dataclass(frozen=True)
class PlainTangent:
    """A block stored as the Jacobian itself.

    Attributes:
        jacobian: (O, n, parameters).
        is_zero: whether the outputs do not depend on these parameters; the Jacobian is then an expanded zero, which takes
            no memory.
    """

    jacobian: Tensor
    is_zero: bool = False

    def tensors(self) -> list[Tensor]:
        """Return the Jacobian, unless it is zero."""
        return [] if self.is_zero else [self.jacobian]

    def with_tensors(self, tensors: Iterator[Tensor]) -> PlainTangent:
        """Return a block with another Jacobian."""
        return self if self.is_zero else PlainTangent(next(tensors))

    def terms(self, other: Tangent, *, full: bool, capacity: int) -> Iterator[Term]:
        """Yield a single term, for all pairs; none where a Jacobian is zero."""
        assert isinstance(other, PlainTangent)
        if self.is_zero or other.is_zero:
            return
        yield Term(ALL, ALL, inner_products(self.jacobian, other.jacobian, full=full))

    def weighted_sum(self, coefficients: Tensor) -> list[Tensor]:
        """Return the weighted sums of gradients: (O, k, parameters)."""
        if self.is_zero:
            o, _, parameters = self.jacobian.shape
            return [coefficients.new_zeros(o, coefficients.shape[1], parameters)]
        return [coefficients.T @ self.jacobian]

    def dot(self, directions: list[Tensor]) -> Tensor:
        """Return the products with directions (O, k, parameters), summed over outputs."""
        if self.is_zero:
            return self.jacobian.new_zeros(self.jacobian.shape[1], directions[0].shape[1])
        return (self.jacobian @ directions[0].transpose(1, 2)).sum(0)


def inner_products(a: Tensor, b: Tensor, *, full: bool) -> Tensor:
    """Multiply the Jacobians (O, n, m) of two batches as in `Term.value`; half of the work where both are one tensor."""
    if full:
        flat = gram(a.flatten(0, 1), a.flatten(0, 1) if a is b else b.flatten(0, 1), same=a is b)
        return flat.view(len(a), -1, len(b), b.shape[1])
    per_output = [gram(u, v, same=a is b) for u, v in zip(a, b, strict=True)]
    return sum(per_output[1:], start=per_output[0])


def gram(a: Tensor, b: Tensor, *, same: bool) -> Tensor:
    """Compute a bᵀ; where both are the same, for little more than half of the work.

    The result is then symmetric up to the rounding within blocks of `_SMALLEST_HALF` rows.
    """
    if not same or a.requires_grad:
        return a @ b.T
    out = a.new_empty(len(a), len(a))
    _symmetric_product(a, out)
    return out


def _symmetric_product(a: Tensor, out: Tensor) -> None:
    """Write a aᵀ into `out`: the two diagonal quarters by recursion, one other quarter and its mirror image."""
    n, half = len(a), len(a) // 2
    if n <= _SMALLEST_HALF:
        torch.mm(a, a.T, out=out) if out.is_contiguous() else out.copy_(a @ a.T)
        return
    _symmetric_product(a[:half], out[:half, :half])
    _symmetric_product(a[half:], out[half:, half:])
    upper = a[:half] @ a[half:].T
    out[:half, half:] = upper
    out[half:, :half] = upper.T


def add_products(a: Tangent, b: Tangent, total: Tensor, *, full: bool, capacity: int) -> None:
    """Add <J(x), J(x')> of one block to `total`, which has the shape of a `Term.value` of all pairs."""
    for rows, columns, value in a.terms(b, full=full, capacity=capacity):
        if full:
            total[:, rows, :, columns] += value
        else:
            total[rows, columns] += value
        if a is b and rows != columns:
            mirror = value.permute(2, 3, 0, 1) if full else value.T
            (total[:, columns, :, rows] if full else total[columns, rows]).add_(mirror)
