"""The tangent of a weight that multiplies its layer's inputs: products are taken without forming the Jacobian.

A layer z_t = W h_t, at one or many positions t, has ∂f_o/∂W = Σ_t δ_ot ⊗ h_t with the cotangents δ_ot = ∂f_o/∂z_t, so
its part of the tangent kernel of two inputs is (Novak et al. 2022, section 3)

    Θ_oo' = Σ_tt' <h_t, h'_t'> <δ_ot, δ'_o't'>.

The two sums and the two inner products can be taken in three orders, and `cheapest` chooses the one with the fewest
multiplications (n inputs, O outputs, T positions, K = fan-in, C = channels of the layer's output):

- "gradients": form Σ_t δ_ot ⊗ h_t for each input, then their products: n O T C K + n² O² C K;
- "kernels": <h_t, h'_t'> and <δ_ot, δ'_o't'> for each pair, then their products: n² T² (K + O² C);
- "signals", for full outputs: Σ_t' <h_t, h'_t'> δ'_o't' for each pair, then the products with δ_ot:
  n² (T² (K + O C) + T O² C).

A trace needs only o = o', so O takes the place of O². Groups of channels are separate layers whose terms are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ntklens.kernels.empirical.inputs import LayerInputs
from ntklens.kernels.empirical.tangents import ALL, Tangent, Term, gram, inner_products

_WIDTH = 96
"""Fan-in that the gradients of one piece have at least, where another axis may be cut instead."""

_COLUMNS = 1 << 20
"""Numbers of the columns that are formed at once."""


class _Piece(NamedTuple):
    """A part of the entries (O, C, K) of the gradients in a weight.

    Attributes:
        outputs: some of the outputs.
        channels: some of the channels, where the products of all outputs are wanted; else some of the O C rows.
        units: some of the units of the inputs.
    """

    outputs: slice
    channels: slice
    units: slice


@dataclass(frozen=True)
class WeightTangent:
    """The tangent of a weight, and of the bias that is added beside it.

    Attributes:
        inputs: the inputs h of the layer.
        cotangents: δ = ∂f/∂z of the layer's output, (O, n, G, C, T).
        weight_scale: factor of the weight.
        bias_scale: factor of the bias; 0 where there is none.
    """

    inputs: LayerInputs
    cotangents: Tensor
    weight_scale: float
    bias_scale: float

    def tensors(self) -> list[Tensor]:
        """Return the inputs and the cotangents."""
        return [*self.inputs.tensors(), self.cotangents]

    def with_tensors(self, tensors: Iterator[Tensor]) -> WeightTangent:
        """Return a copy with other inputs and cotangents."""
        inputs = self.inputs.with_tensors(tensors)
        return replace(self, inputs=inputs, cotangents=next(tensors))

    def terms(self, other: Tangent, *, full: bool, capacity: int) -> Iterator[Term]:
        """Yield the terms of <J(x), J(x')> in the cheapest order of summation."""
        assert isinstance(other, WeightTangent)
        o, n, g, c, t = self.cotangents.shape
        n2, t2 = other.cotangents.shape[1], other.cotangents.shape[4]
        order = cheapest(n, n2, o, g, c, self.inputs.fan_in, t, t2, full=full, same=self is other)
        orders = {"gradients": self._by_gradients, "kernels": self._by_kernels, "signals": self._by_signals}
        return orders[order](other, full, capacity)

    def weighted_sum(self, coefficients: Tensor) -> list[Tensor]:
        """Return Σ_i A_ic J_o(x_i) of the weight, (O, k, G, C, K), and of the bias, (O, k, G C)."""
        h, (_, n, g, c, t), k = self.inputs.columns(ALL), self.cotangents.shape, coefficients.shape[1]
        per_output = []
        for cotangent in self.cotangents:
            if _is_direct(t, k):
                # Σ_i Σ_t (A_ic δ_it) ⊗ h_it: one product over the n T positions of all inputs, for each group,
                # (k C, n T) @ (n T, K), where the gradient of no single input is formed.
                scaled = coefficients.T[:, :, None, None, None] * cotangent  # (k, n, G, C, T)
                scaled_rows = scaled.permute(2, 0, 3, 1, 4).reshape(g, k * c, n * t)
                input_rows = h.permute(1, 0, 3, 2).reshape(h.shape[1], n * t, -1)
                per_output.append((scaled_rows @ input_rows).view(g, k, c, -1).transpose(0, 1))
            else:
                # Σ_i A_ic (Σ_t δ_it ⊗ h_it): (k, n) @ (n, G C K)
                per_output.append((coefficients.T @ _gradients(cotangent, h).flatten(1)).view(k, g, c, -1))
        sums = [self.weight_scale * torch.stack(per_output)]
        return [*sums, coefficients.T @ self._bias_gradients()] if self.bias_scale else sums

    def dot(self, directions: list[Tensor]) -> Tensor:
        """Return <J(x_i), w> for each direction; gradients of inputs are not formed where T = 1 or k = 1."""
        h, (_, n, g, c, t) = self.inputs.columns(ALL), self.cotangents.shape
        total: Tensor | None = None
        for cotangent, w in zip(self.cotangents, directions[0], strict=True):
            k = len(w)
            if _is_direct(t, k):
                # Σ_t δ_tᵀ w h_t: first δ_tᵀ w for all positions of all inputs, (n T, C) @ (C, k K) for each group,
                # then the product with h_t, summed over groups, positions and the fan-in.
                rows = cotangent.permute(1, 0, 3, 2).reshape(g, n * t, c)
                through = (rows @ w.permute(1, 2, 0, 3).reshape(g, c, -1)).view(g, n, t, k, -1)
                term = (through * h.permute(1, 0, 3, 2)[:, :, :, None]).sum((0, 2, 4))
            else:
                # <Σ_t δ_t ⊗ h_t, w>: (n, G C K) @ (G C K, k)
                term = _gradients(cotangent, h).flatten(1) @ w.flatten(1).T
            total = term if total is None else total + term
        assert total is not None
        total = self.weight_scale * total
        if self.bias_scale:
            total = total + (self._bias_gradients() @ directions[1].transpose(1, 2)).sum(0)
        return total

    def _bias_gradients(self) -> Tensor:
        """Return ∂f_o/∂b = Σ_t δ_ot, scaled: (O, n, G C)."""
        return self.bias_scale * self.cotangents.sum(4).flatten(2)

    def _by_gradients(self, other: WeightTangent, full: bool, capacity: int) -> Iterator[Term]:
        """Yield the products of the gradients u_io = Σ_t δ_iot ⊗ h_it of single inputs.

        <u_io, v_jp> is a sum over the entries (G, C, K) of the weight, and is taken piece by piece:

            full:   u  (n1 O, G C K)  x  v  (n2 O, G C K)  ->  (n1, O, n2, O)
            trace:  u  (n1, G O C K)  x  v  (n2, G O C K)  ->  (n1, n2), the sum over o taken inside the product

        Without a graph the gradients of each piece overwrite those of the piece before.
        """
        o, n = self.cotangents.shape[:2]
        same = other is self
        u: Tensor | None = None
        v: Tensor | None = None
        for piece in self._pieces(full, capacity, n if same else n + other.cotangents.shape[1]):
            u = self._gradients(piece, full, u)
            v = u if same else other._gradients(piece, full, v)
            if full:
                rows = _by_output(u, o)
                value = gram(rows, rows if same else _by_output(v, o), same=same).view(n, o, -1, o).permute(1, 0, 3, 2)
            else:
                value = gram(u.flatten(1), u.flatten(1) if same else v.flatten(1), same=same)
            yield Term(ALL, ALL, self.weight_scale**2 * value if self.weight_scale != 1 else value)
        if self.bias_scale:
            bias = self._bias_gradients()
            yield Term(ALL, ALL, inner_products(bias, bias if same else other._bias_gradients(), full=full))

    def _pieces(self, full: bool, capacity: int, n: int) -> Iterator[_Piece]:
        """Yield pieces of the weight whose gradients at n inputs fit the capacity, and are matrices of some width.

        Where one entry of h costs nothing to take again, as in dense layers, the channels are cut; for a trace a channel of
        each output is one of O C rows. Patches of convolutions are unfolded once: there the units are cut (groups, or input
        channels, which are parts of K), and for a trace the outputs.
        """
        o, _, g, c, _ = self.cotangents.shape
        units, fan_in = self.inputs.units, self.inputs.fan_in or 1
        if g == 1 and units == fan_in and capacity >= n * fan_in * (o * 8 if full else _WIDTH):
            yield from (
                _Piece(ALL, r, ALL) for r in _even(c if full else o * c, capacity // (n * fan_in * (o if full else 1)))
            )
            return
        per_unit = n * c * g * fan_in // units  # numbers of one unit of one output
        least_units = min(units, -(-_WIDTH * units // (g * fan_in)))
        outputs = o if full else max(1, capacity // (per_unit * least_units))
        for cut in _even(units, capacity // (per_unit * min(o, outputs))):
            yield from (_Piece(r, ALL, cut) for r in _even(o, outputs))

    def _gradients(self, piece: _Piece, full: bool, place: Tensor | None) -> Tensor:
        """Return u_io in one piece, (n, G, rows, K), with rows (O, C): written into the place where that has the shape."""
        outputs, channels, units = piece
        d = self.cotangents[outputs].permute(1, 2, 0, 3, 4)  # (n, G, O, C, T)
        if self.inputs.groups > 1:
            d = d[:, units]  # a cut of the groups is one of the cotangents too; channels of one group all have the same
        n, g, o, c, t = d.shape
        # (n G, rows, T)
        d = d[:, :, :, channels].reshape(n * g, -1, t) if full else d.reshape(n * g, o * c, t)[:, channels]
        if d.requires_grad or any(h.requires_grad for h in self.inputs.tensors()):
            u = torch.bmm(d, self.inputs.columns(units).flatten(0, 1).transpose(1, 2))
            return u.view(n, g, *u.shape[1:])
        # The columns of a few inputs at a time: they are larger than what is made of them.
        fan_in = len(range(*units.indices(self.inputs.units))) * (self.inputs.fan_in or 1) // self.inputs.units
        if self.inputs.groups > 1:
            fan_in = self.inputs.fan_in or 1  # the units are groups, of which each has the whole fan-in
        shape = (n, g, d.shape[1], fan_in)
        place = place if place is not None and place.shape == shape else d.new_empty(shape)
        step = max(1, _COLUMNS // (g * fan_in * t))
        for start in range(0, n, step):
            rows, flat = slice(start, start + step), slice(start * g, (start + step) * g)
            h = self.inputs.columns(units, rows).flatten(0, 1).transpose(1, 2)
            torch.bmm(d[flat], h, out=place[rows].flatten(0, 1))
        return place

    def _by_kernels(self, other: WeightTangent, full: bool, capacity: int) -> Iterator[Term]:
        """Yield Σ_tt' H D with H = <h_t, h'_t'> and D = <δ_ot, δ'_o't'>, for tiles of pairs that fit the capacity.

        For each group, with n1 and n2 the inputs of a tile:

            H:        (n1 T, K)   @ (K, n2 T')    ->  (n1 T, n2 T')
            D, full:  (O n1 T, C) @ (C, O n2 T')  ->  (O, n1, T, O, n2, T')
            D, trace: (n1 T, O C) @ (O C, n2 T')  ->  (n1 T, n2 T'), the sum over o taken inside the product
        """
        o, n, g, c, t = self.cotangents.shape
        n2, t2 = other.cotangents.shape[1], other.cotangents.shape[4]
        pairs = capacity // (t * t2 * (o * o + 1 if full else 2))
        for rows, columns in _tiles(n, n2, pairs, same=self is other):
            total: Tensor | None = None
            same = self is other and rows == columns
            for group in range(g):
                h = self._input_products(other, rows, columns, group)
                d, d2 = self.cotangents[:, rows, group], other.cotangents[:, columns, group]  # (O, n, C, T)
                if full:
                    u = d.transpose(2, 3).reshape(-1, c)
                    flat = gram(u, u if same else d2.transpose(2, 3).reshape(-1, c), same=same)
                    products = flat.view(o, -1, t, o, flat.shape[1] // (o * t2), t2)
                    if t == t2 == 1:
                        term = products[:, :, 0, :, :, 0] * h[:, None]
                    else:
                        term = torch.einsum("anpbmq,npmq->anbm", products, h.view(-1, t, h.shape[1] // t2, t2))
                else:
                    u = d.permute(1, 3, 0, 2).reshape(-1, o * c)
                    term = gram(u, u if same else d2.permute(1, 3, 0, 2).reshape(-1, o * c), same=same) * h
                    if t * t2 > 1:
                        term = term.view(-1, t, h.shape[1] // t2, t2).sum((1, 3))
                total = term if total is None else total + term
            assert total is not None
            yield Term(rows, columns, total)

    def _by_signals(self, other: WeightTangent, full: bool, capacity: int) -> Iterator[Term]:
        """Yield the products of δ_ot with the signals s_pt = Σ_t' <h_t, h'_t'> δ'_pt', for full outputs.

        The signals of one output p of the second batch at a time, for each group and tile of pairs:

            s:     for each of n2, (n1 T, T') @ (T', C)  ->  (n2, n1, T C)
            term:  for each of n1, (O, T C) @ (T C, n2)  ->  (n1, O, n2)

        The terms of all p are stacked to (p, n1, O, n2) and turned into (O, n1, p, n2).
        """
        o, n, g, c, t = self.cotangents.shape
        n2, t2 = other.cotangents.shape[1], other.cotangents.shape[4]
        cotangents2 = other.cotangents.permute(0, 2, 1, 4, 3)  # (O, G, n2, T', C)
        for rows, columns in _tiles(n, n2, capacity // (t * (t2 + c)), same=self is other):
            totals: list[Tensor | None] = [None] * o
            for group in range(g):
                h = self._input_products(other, rows, columns, group)
                h = h.view(len(h), -1, t2).transpose(0, 1)  # (n2, n1 T, T')
                d = self.cotangents[:, rows, group].permute(1, 0, 3, 2).flatten(2)  # (n1, O, T C)
                for p, d2 in enumerate(cotangents2[:, group, columns]):
                    signals = torch.bmm(h, d2).view(len(h), -1, t * c)
                    term = torch.bmm(d, signals.permute(1, 2, 0))
                    total = totals[p]
                    totals[p] = term if total is None else total + term
            stacked = torch.stack([total for total in totals if total is not None])
            yield Term(rows, columns, stacked.permute(2, 1, 0, 3))

    def _input_products(self, other: WeightTangent, rows: slice, columns: slice, group: int) -> Tensor:
        """Return <h_t, h'_t'>, scaled: (n1 T, n2 T'). A bias is a weight whose input is 1, so it adds its scale squared."""
        h = self.inputs.inner_products(rows, other.inputs, columns, group)
        if self.weight_scale != 1:
            h = self.weight_scale**2 * h
        return h + self.bias_scale**2 if self.bias_scale else h


def cheapest(
    n1: int, n2: int, o: int, g: int, c: int, k: int | None, t: int, t2: int, *, full: bool, same: bool
) -> str:
    """Return the order of summation with the fewest multiplications.

    All letters are as at the top of this file; `k` is None where no gradient can be formed. The groups multiply all
    orders alike, so `g` does not matter. Constants beside the leading terms stand for the additions and copies of an
    order, and 0.6 for the little more than half of the pairs where a batch meets itself.
    """
    pairs = n1 * n2 * (0.6 if same else 1.0)
    costs = {"kernels": pairs * t * t2 * ((k or 1) + (o * o * (c + 4) if full else o * c + 8))}
    if full:
        costs["signals"] = pairs * (t * t2 * ((k or 1) + o * c) + 2 * t * o * o * c)
    if k is not None:
        formed = (n1 * t + (0 if same else n2 * t2)) * o * c * k
        costs["gradients"] = formed + pairs * (o * o if full else o) * c * k
    return min(costs, key=lambda order: costs[order])


def _is_direct(t: int, k: int) -> bool:
    """Return whether k sums over t positions cost fewer multiplications directly than by the gradients of each input."""
    return t * k <= t + k


def _gradients(cotangent: Tensor, columns: Tensor) -> Tensor:
    """Return Σ_t δ_t ⊗ h_t for each input, from (n, G, C, T) and (n, G, K, T): (n, G, C, K)."""
    n, g = cotangent.shape[:2]
    flat = torch.bmm(cotangent.flatten(0, 1), columns.flatten(0, 1).transpose(1, 2))
    return flat.view(n, g, cotangent.shape[2], -1)


def _by_output(u: Tensor, outputs: int) -> Tensor:
    """Return gradients (n, G, O C, K) with a row for each input and output: (n O, G C K)."""
    n, g, _, k = u.shape
    return u.view(n, g, outputs, -1, k).transpose(1, 2).reshape(n * outputs, -1)


def _even(count: int, size: int) -> Iterator[slice]:
    """Yield slices of 0, ..., count - 1 that are at most `size` long, of about the same length."""
    step = -(-count // -(-count // max(1, min(size, count))))
    yield from (slice(start, min(start + step, count)) for start in range(0, count, step))


def _tiles(n1: int, n2: int, pairs: int, *, same: bool) -> Iterator[tuple[slice, slice]]:
    """Yield square tiles of about `pairs` pairs at most; where a batch meets itself, of the upper triangle only.

    The triangle is cut into four rows of tiles or more, so that little work is done below the diagonal.
    """
    if n1 * n2 <= pairs:
        yield slice(0, n1), slice(0, n2)
        return
    side = max(1, min(int(max(pairs, 1) ** 0.5), max(n1, n2)))
    if same:
        side = min(side, -(-n1 // 4))
    for i in range(0, n1, side):
        for j in range(i if same else 0, n2, side):
            yield slice(i, min(i + side, n1)), slice(j, min(j + side, n2))
