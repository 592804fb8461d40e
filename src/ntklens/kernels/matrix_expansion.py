"""f(x) = K(x, Z) A through the kernel's matrix, of which a block is in memory at a time.

The matrix of m inputs x and n inputs z is cut into blocks: z into spans whose borders follow from n alone, and x into
groups of rows. Values and gradients are sums over the spans,

    f(x) = Σ_b K(x, Z_b) A_b,    ∇ Σ_ic w_ic f_c(x_i) = Σ_b ∇ Σ_ij (w A_bᵀ)_ij K(x_i, z_j),

and these sums are in float64. So the terms of an output are the same, in the same order, whatever the batch of x is.

A gradient needs weights that are known once the values are. Where the pairs are few, the kernel's pullbacks of all blocks
are kept in between, with what they share with the values (`Kernel.vjp`). Where they are many, nothing is kept, and the
gradient of a block is computed anew: three matrix products for a kernel of inner products, in place of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ntklens.kernels.expansion import ExpansionPullback, Pullback

if TYPE_CHECKING:
    from ntklens.kernels.base import Kernel

MEMORY = 1 << 28
"""Bytes of working memory, about, beside the inputs and the coefficients: of an expansion and, with it, of its pullback.

A pair of inputs of the block at hand takes up to four numbers of 8 bytes: its inner product, its kernel value, its weight
and the gradient in its inner product. A pair that is kept from the values to the gradient takes one.
"""
_PER_PAIR, _PER_KEPT_PAIR = 32, 16  # kept pairs have half of the memory; the other half is for the block at hand
_SHAPE = 8
"""Inputs z of a block for each input x: 8,192 by 1,024. Much wider blocks are slower, since they leave the caches;
the fewer spans there are, the fewer of the kernels' tiles their borders cut."""
_TILE = 256
"""A group of more rows than this has a multiple of it, because kernels compute in such tiles."""


class MatrixExpansion:
    """f(x) = K(x, Z) A through the kernel's matrix: the way that every kernel has.

    Its memory beside the inputs z and the coefficients does not grow with their number, nor with that of x.

    Args:
        kernel: K.
        z: (n, *shape) inputs, in the dtype of the arithmetic.
        coefficients: A, (n, k) in float64.
    """

    def __init__(self, kernel: Kernel, z: Tensor, coefficients: Tensor) -> None:
        self.kernel = kernel
        self.z = z
        self.coefficients = coefficients.to(torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the values, (m, k)."""
        return self._values(x.detach(), self._times)

    def vjp(self, x: Tensor) -> tuple[Tensor, ExpansionPullback]:
        """Compute the values, and their pullback from the kernel's own."""
        return self._with_pullback(x.detach(), self._times)

    def along(self, x: Tensor, columns: Tensor) -> tuple[Tensor, ExpansionPullback]:
        """Compute f_c(x_i) with one inner product per input, not one for every column."""

        def chosen(matrix: Tensor, rows: slice, span: slice) -> Tensor:
            a = self.rows_of(columns[rows], span).to(torch.float64)
            values: Tensor = torch.linalg.vecdot(matrix.to(torch.float64), a)
            return values

        return self._with_pullback(x.detach(), chosen)

    def rows_of(self, columns: Tensor, span: slice) -> Tensor:
        """Return columns of A as rows, for the inputs of a span: (columns, span), in the arithmetic."""
        return self._transposed[:, span][columns]

    @cached_property
    def _transposed(self) -> Tensor:
        """Aᵀ, (k, n), in the arithmetic: a column of A is a row in memory."""
        return self.coefficients.T.to(self.z.dtype).contiguous()

    def spans(self) -> Iterator[slice]:
        """Yield the spans of z; one empty one where there are none."""
        n = len(self.z)
        width = self._width()
        for start in range(0, max(n, 1), width):
            yield slice(start, min(start + width, n))

    def groups(self, m: int) -> Iterator[slice]:
        """Yield groups of m rows that fit the memory with any span; one empty one where there are none."""
        size = max(1, MEMORY // _PER_PAIR // min(max(len(self.z), 1), self._width()))
        size = size - size % _TILE or size
        for start in range(0, max(m, 1), size):
            yield slice(start, min(start + size, m))

    @staticmethod
    def _width() -> int:
        return max(1, math.isqrt(_SHAPE * MEMORY // _PER_PAIR))

    def _times(self, matrix: Tensor, rows: slice, span: slice) -> Tensor:
        return matrix.to(torch.float64) @ self.coefficients[span]

    def _values(self, x: Tensor, of_block: _OfBlock) -> Tensor:
        """Compute the values group by group, each a sum over spans."""
        values = []
        with torch.no_grad():
            for rows in self.groups(len(x)):
                inside = x[rows].to(self.z.dtype)
                values.append(_total(self._terms(inside, rows, of_block)))
        return values[0] if len(values) == 1 else torch.cat(values)

    def _terms(self, inside: Tensor, rows: slice, of_block: _OfBlock) -> Iterator[Tensor]:
        for span in self.spans():
            yield of_block(self.kernel.between(inside, self.z[span]), rows, span)

    def _with_pullback(self, x: Tensor, of_block: _OfBlock) -> tuple[Tensor, ExpansionPullback]:
        """Compute the values and the pullback; the kernel's own pullbacks are kept where all of them fit the memory."""
        if len(list(self.groups(len(x)))) > 1 or len(x) * len(self.z) > MEMORY // _PER_KEPT_PAIR:
            return self._values(x, of_block), _MatrixPullback(self, x, None)
        every_row, inside = slice(0, len(x)), x.to(self.z.dtype)
        kept: list[Pullback] = []

        def blocks() -> Iterator[Tensor]:
            for span in self.spans():
                matrix, pullback = self.kernel.vjp_between(inside, self.z[span])
                kept.append(pullback)
                yield of_block(matrix, every_row, span)

        values = _total(blocks())
        return values, _MatrixPullback(self, x, kept)


_OfBlock = Callable[[Tensor, slice, slice], Tensor]
"""From a block of the matrix, its rows and its span to its terms of the values."""


class _MatrixPullback:
    """Gradients of f = K A from those of K: the cotangent W of f is W Aᵀ for K.

    Args:
        function: f.
        x: (m, *shape), as f was given them.
        kept: the kernel's pullbacks for all x, one per span; None to compute gradients anew.
    """

    def __init__(self, function: MatrixExpansion, x: Tensor, kept: list[Pullback] | None) -> None:
        self._function = function
        self._x = x
        self._kept = kept

    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        def of_block(group: slice, span: slice) -> Tensor:
            # The sum over columns cancels, so it is in float64; its result is rounded once.
            in_matrix = weights[group].to(torch.float64) @ self._function.coefficients[span].T
            return in_matrix.to(self._function.z.dtype)

        return self._gradients(of_block, len(weights), rows)

    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        def of_block(group: slice, span: slice) -> Tensor:
            # One coefficient per pair of inputs: nothing is summed before the kernel, so its own arithmetic is enough.
            return self._function.rows_of(columns[group], span)

        return self._gradients(of_block, len(rows), rows)

    def _gradients(self, weights: Callable[[slice, slice], Tensor], count: int, rows: Tensor | None) -> Tensor:
        """Compute the gradients of some rows, in the dtype of x, from the weights of each block of the matrix.

        Args:
            weights: from a group of these rows and a span to the weights (group, span).
            count: number of rows.
            rows: which of x; all by default.
        """
        gradients = []
        for group in self._function.groups(count):
            terms = self._terms(partial(weights, group), group, rows)
            gradients.append(_total(terms).to(self._x.dtype))
        return gradients[0] if len(gradients) == 1 else torch.cat(gradients)

    def _terms(self, weights: Callable[[slice], Tensor], group: slice, rows: Tensor | None) -> Iterator[Tensor]:
        """Compute the gradients of a group from those of each span of z."""
        f = self._function
        if self._kept is not None:
            # What is kept is of a single group of x: without `rows`, that is the group at hand.
            chosen = None if rows is None else rows[group]
            for span, pullback in zip(f.spans(), self._kept, strict=True):
                yield pullback(weights(span), chosen)
        else:
            x = self._x[group if rows is None else rows[group]].to(f.z.dtype)
            for span in f.spans():
                yield f.kernel.gradient(x, f.z[span], weights(span))


def _total(terms: Iterator[Tensor]) -> Tensor:
    """Return the sum of terms in float64, each computed when the one before has been added."""
    total = next(terms).to(torch.float64)
    for term in terms:
        total = total + term
    return total
