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

from ntklens.kernels.allocation import large
from ntklens.kernels.expansion import ExpansionPullback, Pullback

if TYPE_CHECKING:
    from ntklens.kernels.base import Kernel

MEMORY = 1 << 28
"""Bytes of working memory, about, beside the inputs and the coefficients: of an expansion and, with it, of its pullback."""
_PER_KEPT_PAIR, _PER_PAIR = 8, 32
"""Bytes of a pair of inputs: one number where its inner product is kept from the values to the gradient; up to four in the
block at hand, which are the inner product, the kernel value, its weight and the gradient in the inner product."""
_SHARE = 4
"""A block of many takes the memory's fourth part, so that what it frees is at hand for the next one."""
_SHAPE = 32
"""Inputs z of a block for each input x: 8,192 by 256. Wider blocks leave the caches; narrower ones have more borders, which
cut the kernels' tiles."""
_ROWS = 16
"""Rows whose inner products are computed at a time."""
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
            # A few rows at a time, which stay in the cache in float64.
            parts = zip(torch.split(matrix, _ROWS), torch.split(columns[rows], _ROWS), strict=True)
            pairs = ((m.to(torch.float64), self.rows_of(c, span).to(torch.float64)) for m, c in parts)
            return torch.cat([torch.linalg.vecdot(m, a) for m, a in pairs])

        return self._with_pullback(x.detach(), chosen)

    def rows_of(self, columns: Tensor, span: slice) -> Tensor:
        """Return columns of A as rows, for the inputs of a span: (columns, span), in the arithmetic."""
        rows = self._transposed[:, span]
        if rows.device.type != "cpu":
            return rows[columns]
        columns = torch.arange(len(rows))[columns]  # as any index of torch tells them
        return torch.index_select(rows, 0, columns, out=large(len(columns), rows.shape[1], rows.dtype))

    @cached_property
    def _transposed(self) -> Tensor:
        """Aᵀ, (k, n), in the arithmetic: a column of A is a row in memory."""
        return self.coefficients.detach().T.to(self.z.dtype).contiguous()

    def spans(self) -> Iterator[slice]:
        """Yield the spans of z; one empty one where there are none."""
        n = len(self.z)
        width = self._width()
        for start in range(0, max(n, 1), width):
            yield slice(start, min(start + width, n))

    def groups(self, m: int, least: int = 1) -> Iterator[slice]:
        """Yield groups of rows: all m where they are few; one empty group where there are none.

        Args:
            m: number of rows.
            least: rows of a group at least, but for the last one.
        """
        n = max(len(self.z), 1)
        is_whole = n <= self._width() and _PER_PAIR * m * n <= MEMORY
        of_many = MEMORY // (_SHARE * _PER_PAIR * min(n, self._width()))
        size = max(1, m if is_whole else max(of_many - of_many % _TILE or of_many, least))
        for start in range(0, max(m, 1), size):
            yield slice(start, min(start + size, m))

    @staticmethod
    def _width() -> int:
        return max(1, math.isqrt(_SHAPE * MEMORY // (_SHARE * _PER_PAIR)))

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
        n = len(self.z)
        of_row = _PER_KEPT_PAIR * n + (_PER_PAIR - _PER_KEPT_PAIR) * min(n, self._width())
        if len(x) * of_row > MEMORY:
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
        # What is kept is of all x together, and so many rows fit the memory.
        for group in self._function.groups(count, 1 if self._kept is None else len(self._x)):
            terms = self._terms(partial(weights, group), group, rows)
            gradients.append(_total(terms).to(self._x.dtype))
        return gradients[0] if len(gradients) == 1 else torch.cat(gradients)

    def _terms(self, weights: Callable[[slice], Tensor], group: slice, rows: Tensor | None) -> Iterator[Tensor]:
        """Compute the gradients of a group from those of each span of z."""
        f = self._function
        if self._kept is not None:
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
