"""Expansions in weight space: a fitted machine is evaluated without its training inputs.

Σ_j Θ(x, z_j) A_jc = Σ_o <∂f_o(x)/∂θ, w_oc> with w_oc = Σ_j A_jc ∂f_o(z_j)/∂θ: a machine on an empirical kernel is a
first-order expansion of the network. Its cost does not grow with the number of z, and float32 loses little in it, since
the large coefficients of either sign have cancelled in the sum, which is taken in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.kernels.empirical.products import WeightTangent
from ntklens.kernels.empirical.snapshot import Snapshot, network_errors
from ntklens.kernels.empirical.tangents import Tangents
from ntklens.kernels.expansion import ExpansionPullback
from ntklens.modules import without_autocast

_BATCH = 64
"""Inputs x of a call, about, for which the matrix takes the tangents of all z once."""

Directions = Mapping[str, list[Tensor]]
"""w_oc by the name of its block, as `Tangent.weighted_sum` gives them."""


def weight_space_expansion(
    snapshot: Snapshot, z: Tensor, coefficients: Tensor, arithmetic: torch.dtype
) -> WeightSpaceExpansion | None:
    """Sum up the directions of Σ_j Θ(x, z_j) A_j.

    Args:
        snapshot: the network, with outputs "trace" or "pseudo".
        z: (m, *shape) in float64.
        coefficients: A, (m, k) in float64.
        arithmetic: dtype in which the function is evaluated.

    Returns:
        The function; None where the network has embeddings, whose gradients are not formed, or where the directions
        exceed the memory limit.
    """
    with torch.inference_mode(False), torch.no_grad():
        plan = snapshot.plan(z)
        outputs = snapshot.differentiated_outputs(plan)
        # One direction has as many numbers as there are differentiated parameters, or projections, for each output.
        sizes = [p.numel() for name, p in snapshot.network.named_parameters() if name in snapshot.scales]
        direction = outputs * (sum(sizes) if snapshot.seeds is None else len(snapshot.seeds))
        has_embeddings = any(issubclass(layer.layer_class, nn.Embedding) for layer in plan.layers.values())
        # The directions themselves, and the new terms that are added to them, must fit.
        if has_embeddings or 2 * direction * coefficients.shape[1] > snapshot.capacity(z):
            return None
        # An input takes its tangents, with a graph where it is differentiated, and what they make of one direction.
        block_size = max(1, snapshot.capacity(z) // (4 * plan.numbers(outputs) + 3 * direction))
        sums: dict[str, list[Tensor]] = {}
        for z_block, a in zip(torch.split(z, block_size), torch.split(coefficients, block_size), strict=True):
            for name, block in snapshot.tangents(z_block).items():
                terms = block.weighted_sum(a)
                sums[name] = [s + term for s, term in zip(sums[name], terms, strict=True)] if name in sums else terms
        directions = {name: [t.to(arithmetic) for t in totals] for name, totals in sums.items()}
    return WeightSpaceExpansion(snapshot.tangents, directions, snapshot.output_scale(plan), arithmetic, block_size)


def least_inputs(snapshot: Snapshot, z: Tensor, columns: int) -> int:
    """Return the number of z from which directions take fewer multiplications per x than the kernel's matrix.

    A direction is as long as the network's parameters for each output, and there is one per column, however few the z are.
    The matrix takes a product of tangents per z, and the tangents of all z once per batch of x.

    Args:
        snapshot: the network, with outputs "trace" or "pseudo".
        z: (m, *shape) in float64, of which the first is looked at.
        columns: number of columns of the coefficients.
    """
    if snapshot.seeds is not None:
        return 0
    with torch.inference_mode(False), torch.no_grad():
        outputs = snapshot.differentiated_outputs(snapshot.plan(z[:1]))
        sizes = [p.numel() for name, p in snapshot.network.named_parameters() if name in snapshot.scales]
        direction = outputs * sum(sizes)
        pair = _pair(snapshot.tangents(z[:1]))
    return math.ceil(columns * direction / (pair + 2 * direction / _BATCH))


def _pair(tangents: Tangents) -> float:
    """Return the multiplications that a pair of inputs takes in the kernel's matrix, in the cheaper order of summation."""
    total = 0.0
    for tangent in tangents.values():
        if isinstance(tangent, WeightTangent):
            outputs, _, groups, channels, positions = tangent.cotangents.shape
            fan_in = tangent.inputs.fan_in or 1
            by_gradients = outputs * groups * channels * fan_in
            by_kernels = positions**2 * groups * (fan_in + outputs * channels)
            total += min(by_gradients, by_kernels)
        else:
            total += sum(t.numel() for t in tangent.tensors())
    return total


class WeightSpaceExpansion:
    """The function f_c(x) = Σ_o <J_o(x), w_oc> with values (n, k), and its gradients.

    Args:
        tangents: computes the tangents J of a batch, with a graph to x where x requires a gradient.
        directions: w_oc.
        scale: factor of the sum.
        dtype: dtype of the arithmetic.
        block_size: inputs that are taken at once.
    """

    def __init__(
        self,
        tangents: Callable[[Tensor], Tangents],
        directions: Directions,
        scale: float,
        dtype: torch.dtype,
        block_size: int,
    ) -> None:
        self._tangents = tangents
        self._directions = directions
        self._scale = scale
        self.dtype = dtype
        self.block_size = block_size

    @without_autocast
    def __call__(self, x: Tensor) -> Tensor:
        """Compute the values, (n, k) in float64."""
        with torch.inference_mode(False), torch.no_grad():
            return torch.cat([self._values(block) for block in self.blocks(x)]).to(torch.float64)

    @without_autocast
    def vjp(self, x: Tensor) -> tuple[Tensor, ExpansionPullback]:
        """Compute the values, and what takes weights to their gradients.

        Where x is a single block, the gradients come from the graph of its values. The graphs of several blocks would not
        fit the memory, so their gradients are computed by another pass.
        """
        blocks = self.blocks(x)
        if len(blocks) > 1:
            return self(x), _RecomputedPullback(self, x)
        leaf, values = self.taped(blocks[0])
        return values.detach().to(torch.float64), _TapedPullback(self, leaf, values, x.dtype)

    @without_autocast
    def along(self, x: Tensor, columns: Tensor) -> tuple[Tensor, ExpansionPullback]:
        """Compute one value per input, f_c(x_i) for its column c, (n,), and the gradients of these values with them."""
        values_and_gradients = []
        for block, block_columns in zip(self.blocks(x), torch.split(columns, self.block_size), strict=True):
            leaf, f = self.taped(block)
            one_hot = torch.zeros_like(f).scatter_(1, block_columns[:, None], 1)
            values = f.detach().gather(1, block_columns[:, None])[:, 0].to(torch.float64)
            values_and_gradients.append((values, _TapedPullback(self, leaf, f, x.dtype)(one_hot)))
        values, gradients = (torch.cat(blocks) for blocks in zip(*values_and_gradients, strict=True))
        return values, _PrecomputedPullback(self, x, columns, gradients)

    def blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split a batch into blocks that fit the memory, without a graph and in the dtype of the arithmetic."""
        with torch.inference_mode(False):
            x = x.clone() if x.is_inference() else x.detach()
            return torch.split(x.to(self.dtype), self.block_size)

    def taped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a leaf with the values of x, and f of it with a graph."""
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            leaf = x.clone().requires_grad_()
            values = self._values(leaf)
            # Where no tangent depends on x, such as that of the last bias, there is no graph and the gradient is 0.
            return leaf, values if values.requires_grad else values + 0 * leaf.flatten(1).sum(1, keepdim=True)

    def _values(self, x: Tensor) -> Tensor:
        """Compute the values of one block, in the dtype of the arithmetic."""
        blocks = self._tangents(x)
        terms = [block.dot(self._directions[name]) for name, block in blocks.items()]
        return self._scale * sum(terms[1:], start=terms[0])


class _TapedPullback:
    """Gradients from the graph of the values."""

    def __init__(self, function: WeightSpaceExpansion, leaf: Tensor, values: Tensor, dtype: torch.dtype) -> None:
        self._function, self._leaf, self._values, self._dtype = function, leaf, values, dtype

    @without_autocast
    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        weights = weights.to(self._values)
        if rows is None:
            return self._backward(weights)
        if len(set(rows.tolist())) < len(rows):
            # For an input that occurs twice among the rows the graph would give the sum of its two gradients.
            return _RecomputedPullback(self._function, self._leaf.detach())(weights, rows).to(self._dtype)
        return self._backward(torch.zeros_like(self._values).index_copy_(0, rows, weights))[rows]

    @without_autocast
    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        # Inputs do not depend on each other, so one backward pass gives the gradients of a column for all of them.
        out = self._leaf.new_empty(len(rows), *self._leaf.shape[1:], dtype=self._dtype)
        for column in sorted(set(columns.tolist())):
            weights = torch.zeros_like(self._values)
            weights[:, column] = 1
            in_column = columns == column
            out[in_column] = self._backward(weights)[rows[in_column]]
        return out

    def _backward(self, weights: Tensor) -> Tensor:
        with network_errors(self._leaf), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return torch.autograd.grad(self._values, self._leaf, weights, retain_graph=True)[0].to(self._dtype)


class _RecomputedPullback:
    """Gradients from another pass, block by block."""

    def __init__(self, function: WeightSpaceExpansion, x: Tensor) -> None:
        self._function, self._x = function, x

    @without_autocast
    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        x = self._x if rows is None else self._x[rows]
        blocks = zip(self._function.blocks(x), torch.split(weights, self._function.block_size), strict=True)
        return torch.cat(
            [_TapedPullback(self._function, *self._function.taped(block), x.dtype)(w) for block, w in blocks]
        )

    @without_autocast
    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        every_row = torch.arange(len(rows), device=rows.device)
        return self._function.along(self._x[rows], columns)[1].along(columns, every_row)


class _PrecomputedPullback(_RecomputedPullback):
    """Gradients of one column per input that were computed with the values; other columns need another pass."""

    def __init__(self, function: WeightSpaceExpansion, x: Tensor, columns: Tensor, gradients: Tensor) -> None:
        super().__init__(function, x)
        self._columns, self._gradients = columns, gradients

    @without_autocast
    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        if torch.equal(self._columns[rows], columns):
            return self._gradients[rows]
        return super().along(columns, rows)
