"""Tangents of a weight that multiplies what enters its layer: no Jacobian need be formed.

A layer z_t = W h_t, at one or many positions t, has ∂f_o/∂W = Σ_t δ_ot ⊗ h_t with δ_ot = ∂f_o/∂z_t, so its part of the
tangent kernel is Σ_tt' <h_t, h'_t'> <δ_ot, δ'_o't'> (Novak et al. 2022, section 3). There are three orders to sum in,
and the cheapest by the count of multiplications is taken (k = fan-in, c = channels out, T positions):

- "gradients": form Σ_t δ_ot ⊗ h_t for each input, then take products: n O T c k + n² O² c k;
- "kernels": <h_t, h'_t'> and <δ_ot, δ'_o't'> for each pair, then their products: n² T² (k + O² c);
- "signals": Σ_t' <h_t, h'_t'> δ'_o't' for each pair, then products with δ_ot, for full outputs: n² (T² (k + O c) + T O² c).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ntklens.kernels.empirical.tangents import ALL, Piece, Tangent, gram, inner


@runtime_checkable
class Entered(Protocol):
    """What entered a layer in one or several calls, position by position."""

    @property
    def groups(self) -> int:
        """Into which the channels are divided."""
        ...

    @property
    def width(self) -> int | None:
        """Fan-in, or None where `columns` cannot be had."""
        ...

    @property
    def units(self) -> int:
        """Parts into which the columns can be cut."""
        ...

    def tensors(self) -> list[Tensor]:
        """All that holds floating point numbers."""
        ...

    def replaced(self, tensors: Iterator[Tensor]) -> Entered:
        """The same with other tensors."""
        ...

    def columns(self, part: slice) -> Tensor:
        """What each position sees of some units: (n, groups, fan-in, positions), or fewer groups or fan-in."""
        ...

    def kernel(self, rows: slice, other: Entered, columns: slice, group: int) -> Tensor:
        """<h_t, h'_t'>: (n1 T, n2 T')."""
        ...


@dataclass(frozen=True)
class Product:
    """The tangents of a weight, and of the bias that is added beside it.

    Attributes:
        entered: what entered the layer.
        back: what came back to its output, (O, n, groups, channels a group, positions).
        weight: the scale of the weight.
        bias: the scale of the bias; 0 where there is none.
    """

    entered: Entered
    back: Tensor
    weight: float
    bias: float

    def tensors(self) -> list[Tensor]:
        """What entered and what came back."""
        return [*self.entered.tensors(), self.back]

    def replaced(self, tensors: Iterator[Tensor]) -> Product:
        """The same on other tensors."""
        entered = self.entered.replaced(tensors)
        return replace(self, entered=entered, back=next(tensors))

    def pieces(self, other: Tangent, *, full: bool, room: int) -> Iterator[Piece]:
        """Terms in the cheapest order."""
        assert isinstance(other, Product)
        o, n, g, c, t = self.back.shape
        n2, t2 = other.back.shape[1], other.back.shape[4]
        order = cheapest(n, n2, o, g, c, self.entered.width, t, t2, full=full, same=self is other)
        terms = {"gradients": self._by_gradients, "kernels": self._by_kernels, "signals": self._by_signals}
        return terms[order](other, full, room)

    def combined(self, coefficients: Tensor) -> list[Tensor]:
        """Sums of gradients of the weight, (O, k, groups, c, fan-in), and of the bias, (O, k, channels)."""
        h, (_, n, g, c, t), k = self.entered.columns(ALL), self.back.shape, coefficients.shape[1]
        made = []
        for back in self.back:
            if _is_direct(t, k):
                scaled = coefficients.T[:, :, None, None, None] * back  # (k, n, groups, c, T)
                left = scaled.permute(2, 0, 3, 1, 4).reshape(g, k * c, n * t)
                right = h.permute(1, 0, 3, 2).reshape(h.shape[1], n * t, -1)
                made.append((left @ right).view(g, k, c, -1).transpose(0, 1))
            else:
                made.append((coefficients.T @ _gradient(back, h).flatten(1)).view(k, g, c, -1))
        found = [self.weight * torch.stack(made)]
        return [*found, coefficients.T @ (self.bias * self.back.sum(4).flatten(2))] if self.bias else found

    def against(self, directions: list[Tensor]) -> Tensor:
        """Without a product for each position where there is one position, or one column."""
        h, (_, n, g, c, t) = self.entered.columns(ALL), self.back.shape
        total: Tensor | None = None
        for back, w in zip(self.back, directions[0], strict=True):
            k = len(w)
            if _is_direct(t, k):
                left = back.permute(1, 0, 3, 2).reshape(g, n * t, c)
                through = (left @ w.permute(1, 2, 0, 3).reshape(g, c, -1)).view(g, n, t, k, -1)
                term = (through * h.permute(1, 0, 3, 2)[:, :, :, None]).sum((0, 2, 4))
            else:
                term = _gradient(back, h).flatten(1) @ w.flatten(1).T
            total = term if total is None else total + term
        assert total is not None
        total = self.weight * total
        if self.bias:
            total = total + (self.bias * self.back.sum(4).flatten(2) @ directions[1].transpose(1, 2)).sum(0)
        return total

    def _by_gradients(self, other: Product, full: bool, room: int) -> Iterator[Piece]:
        o, n, g, c, t = self.back.shape
        units, fan_in = self.entered.units, self.entered.width or 1
        each = (c * (o if full else 1) + t) * g * fan_in // units
        step = min(units, max(1, room // (each * (n if other is self else n + other.back.shape[1]))))
        for start in range(0, units, step):
            part = slice(start, start + step)
            a, back = self.entered.columns(part), self.back
            b, forth = (a, back) if other is self else (other.entered.columns(part), other.back)
            if self.entered.groups > 1:
                back, forth = back[:, :, part], forth[:, :, part]
            if full:
                u = _formed(back, a)
                v = u if other is self else _formed(forth, b)
                yield Piece(ALL, ALL, self.weight**2 * inner(u, v, full=True))
                continue
            for u, v in _pairs(back, a, forth, b, same=other is self):
                yield Piece(ALL, ALL, self.weight**2 * gram(u, v, same=other is self))
        if self.bias:
            u = self.bias * self.back.sum(4).flatten(2)
            yield Piece(
                ALL, ALL, inner(u, u if other is self else other.bias * other.back.sum(4).flatten(2), full=full)
            )

    def _by_kernels(self, other: Product, full: bool, room: int) -> Iterator[Piece]:
        o, n, g, c, t = self.back.shape
        n2, t2 = other.back.shape[1], other.back.shape[4]
        for i, j in _tiles(n, n2, room // (t * t2 * (o * o + 1 if full else 2)), same=self is other):
            total: Tensor | None = None
            same = self is other and i == j
            for group in range(g):
                h = self._shared(other, i, j, group)
                d, e = self.back[:, i, group], other.back[:, j, group]  # (O, n, c, T)
                if full:
                    u = d.transpose(2, 3).reshape(-1, c)
                    flat = gram(u, u if same else e.transpose(2, 3).reshape(-1, c), same=same)
                    sides = flat.view(o, -1, t, o, flat.shape[1] // (o * t2), t2)
                    if t == t2 == 1:
                        term = sides[:, :, 0, :, :, 0] * h[:, None]
                    else:
                        term = torch.einsum("anpbmq,npmq->anbm", sides, h.view(-1, t, h.shape[1] // t2, t2))
                else:
                    u = d.permute(1, 3, 0, 2).reshape(-1, o * c)
                    term = gram(u, u if same else e.permute(1, 3, 0, 2).reshape(-1, o * c), same=same) * h
                    if t * t2 > 1:
                        term = term.view(-1, t, h.shape[1] // t2, t2).sum((1, 3))
                total = term if total is None else total + term
            assert total is not None
            yield Piece(i, j, total)

    def _by_signals(self, other: Product, full: bool, room: int) -> Iterator[Piece]:
        o, n, g, c, t = self.back.shape
        n2, t2 = other.back.shape[1], other.back.shape[4]
        sent = other.back.permute(0, 2, 1, 4, 3)  # (O, groups, n2, T', c)
        for i, j in _tiles(n, n2, room // (t * (t2 + c)), same=self is other):
            totals: list[Tensor | None] = [None] * o
            for group in range(g):
                h = self._shared(other, i, j, group)
                h = h.view(len(h), -1, t2).transpose(0, 1)  # (n2, n1 T, T')
                own = self.back[:, i, group].permute(1, 0, 3, 2).flatten(2)  # (n1, O, T c)
                for p, one in enumerate(sent[:, group, j]):
                    through = torch.bmm(h, one).view(len(h), -1, t * c)  # Σ_t' <h_t, h'_t'> δ'_t'
                    term = torch.bmm(own, through.permute(1, 2, 0))
                    before = totals[p]
                    totals[p] = term if before is None else before + term
            yield Piece(i, j, torch.stack([term for term in totals if term is not None]).permute(2, 1, 0, 3))

    def _shared(self, other: Product, i: slice, j: slice, group: int) -> Tensor:
        h = self.entered.kernel(i, other.entered, j, group)
        if self.weight != 1:
            h = self.weight**2 * h
        return h + self.bias**2 if self.bias else h


def cheapest(
    n1: int, n2: int, o: int, g: int, c: int, k: int | None, t: int, t2: int, *, full: bool, same: bool
) -> str:
    """The order of summation with the fewest multiplications; `k` is None where no gradient can be formed."""
    pairs = n1 * n2 * (0.6 if same else 1.0)
    costs = {"kernels": pairs * t * t2 * ((k or 1) + (o * o * (c + 4) if full else o * c + 8))}
    if full:
        costs["signals"] = pairs * (t * t2 * ((k or 1) + o * c) + 2 * t * o * o * c)
    if k is not None:
        formed = (n1 * t + (0 if same else n2 * t2)) * o * c * k
        costs["gradients"] = formed + pairs * (o * o if full else o) * c * k
    return min(costs, key=lambda order: costs[order])


def _is_direct(t: int, k: int) -> bool:
    """Whether k sums over t positions take fewer multiplications one by one than by the gradients of each input."""
    return t * k <= t + k


def _gradient(back: Tensor, columns: Tensor, out: Tensor | None = None) -> Tensor:
    """Σ_t δ_t ⊗ h_t for each input: (n, groups, c, k)."""
    n, g = back.shape[:2]
    found = torch.bmm(back.flatten(0, 1), columns.flatten(0, 1).transpose(1, 2), out=out)
    return found.view(n, g, back.shape[2], -1)


def _pairs(a: Tensor, h: Tensor, b: Tensor, h2: Tensor, *, same: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The gradients of both sides, flat, (n, m), output by output; without a graph they are written over each other."""
    if any(t.requires_grad for t in (a, h, b, h2)):
        yield from ((_gradient(p, h).flatten(1), _gradient(q, h2).flatten(1)) for p, q in zip(a, b, strict=True))
        return
    u = h.new_empty(a.shape[1] * a.shape[2], a.shape[3], h.shape[2])
    v = u if same else h2.new_empty(b.shape[1] * b.shape[2], b.shape[3], h2.shape[2])
    for p, q in zip(a, b, strict=True):
        first = _gradient(p, h, u).flatten(1)
        yield first, first if same else _gradient(q, h2, v).flatten(1)


def _formed(back: Tensor, columns: Tensor) -> Tensor:
    """The same for each output, flat: (O, n, m)."""
    if back.requires_grad or columns.requires_grad:
        return torch.stack([_gradient(row, columns) for row in back]).flatten(2)
    o, n, g, c, _ = back.shape
    out = back.new_empty(o, n * g, c, columns.shape[2])
    h = columns.flatten(0, 1).transpose(1, 2)
    for row, place in zip(back, out, strict=True):
        torch.bmm(row.flatten(0, 1), h, out=place)
    return out.view(o, n, -1)


def _tiles(n1: int, n2: int, pairs: int, *, same: bool) -> Iterator[tuple[slice, slice]]:
    """Tiles of at most about so many pairs; of the upper triangle, cut in equal parts, where a batch meets itself."""
    if n1 * n2 <= pairs:
        yield slice(0, n1), slice(0, n2)
        return
    side = max(1, min(int(max(pairs, 1) ** 0.5), max(n1, n2)))
    if same:
        side = min(side, -(-n1 // 4))
    for i in range(0, n1, side):
        for j in range(i if same else 0, n2, side):
            yield slice(i, min(i + side, n1)), slice(j, min(j + side, n2))
