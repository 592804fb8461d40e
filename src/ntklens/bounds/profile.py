"""The NTK of a dense network as a function of three numbers: the terms of which a kernel machine's output is a sum.

The first layer maps an input x to x̂ = (w x / √d, b), for its standard deviations w and b, so that its NNGP is <x̂, ẑ>. Let e
be a unit vector, and x̂ = ρ (e + ω) with ω ⊥ e. Then every kernel of a network of dense layers and leaky rectifiers is

    Θ(x, z) = |ẑ| ρ H(y, r, β) + const,    y = <ẑ/|ẑ|, e + ω>,    r = |ω|²,    β = 1/ρ,

where H depends on β only through the biases of the middle layers, and weakly: without them the network is homogeneous. This
module computes H and its derivatives by the network's recursion, in points and over boxes. Networks with erf or GELU are no
homogeneous functions, and their H depends on β more.

For fixed norms of both inputs K and Θ are power series in the cosine of x̂ and ẑ with coefficients that are not negative.
The NNGP of an activation φ has the coefficients c_n(q_x) c_n(q_z), with the Hermite coefficients c_n(q) = E[φ(√q u) h_n(u)]
of both variances. For equal variances these are squares (Daniely, Frostig & Singer 2016); for others it takes a φ whose c_n
keeps its sign at all variances. Leaky rectifiers do, being homogeneous, and erf, whose covariance is an arcsine. So does
GELU, because c_n is E[φ⁽ⁿ⁾] times a positive number, φ″ = p - p″ with the normal density p, and the means of p⁽ⁿ⁻²⁾ and
-p⁽ⁿ⁾ have one sign, that of the Hermite polynomial of order n - 2 at 0. An activation that is added here has to have it.
Derivatives, sums, products and compositions of such series are such series. So for y in [0, 1), H(y, 0, β) and all its
derivatives in y are not negative, and grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ntklens.bounds.intervals import Interval, Number, kappa0, kappa0_slope
from ntklens.bounds.jets import Jet, constant, variable
from ntklens.errors import UnsupportedLayer
from ntklens.kernels.rules.duals import GELU, Erf, LeakyReLU
from ntklens.kernels.rules.graph import Graph, Node
from ntklens.kernels.rules.operations import Activation, Dense, Flatten, Input, Scale, Scales, Sum


@dataclass(frozen=True)
class _State:
    """What the recursion knows of one node: K / |ẑ|ρ and Θ / |ẑ|ρ, and the variances q_x / ρ² and q_z / |ẑ|²."""

    nngp: Jet
    ntk: Jet
    q_x: Jet
    q_z: Tensor


class Profile:
    """H of a network of dense layers.

    Args:
        graph: the traced network.
        kind: "ntk", or "nngp" for K in place of Θ.

    Attributes:
        first: standard deviations of the first layer.
        offset: the constant that the biases of the last layer add to Θ.
        is_homogeneous: H does not depend on β, because all activations are leaky rectifiers and no middle layer has biases.

    Raises:
        UnsupportedLayer: the network has an operation for which H is not known.
    """

    def __init__(self, graph: Graph, kind: str = "ntk") -> None:
        self.kind = kind
        self._nodes = graph.nodes
        self._start = _first_layer(graph)
        operation = graph.nodes[self._start].operation
        assert isinstance(operation, Dense)
        self.first = operation.scales
        last = graph.nodes[-1].operation
        self.offset = 0.0
        if isinstance(last, Dense) and len(graph.nodes) - 1 > self._start:
            self.offset = last.scales.bias_share if kind == "ntk" else last.scales.b_std**2
        self.is_homogeneous = not any(
            (isinstance(node.operation, Dense) and (node.operation.scales.b_std or node.operation.scales.bias_share))
            or (isinstance(node.operation, Activation) and not isinstance(node.operation.dual, LeakyReLU))
            for node in graph.nodes[self._start + 1 : -1]
        )
        # Θ of the first layer is <x̂, ẑ> times a factor, and a constant where biases have another share than weights have.
        self._share = self.first.weight_share / self.first.w_std**2
        self._rest = self.first.bias_share - self._share * self.first.b_std**2
        if abs(self._rest) <= 1e-15 * self.first.bias_share:
            self._rest = 0.0
        if self._rest < 0:
            raise UnsupportedLayer(
                f"no certificate for `{graph.nodes[self._start].path}` (Dense): its biases count for less in the NTK "
                'than its weights do. Use the parametrisation "ntk", or nl.smooth.'
            )
        self.is_homogeneous = self.is_homogeneous and self._rest == 0

    def along(self, y: Tensor, norm_x: Tensor, norm_z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute H(y, 0, 1/ρ) with its first two derivatives in y; all three in the shape of y.

        Args:
            y: cosines.
            norm_x: ρ, which broadcasts against y.
            norm_z: |ẑ|, likewise.
        """
        start = variable(y, 0, 1)
        # Constants of an image alone keep their own shape.
        one = constant(torch.ones(1, dtype=torch.float64), start)
        inverse = constant(1 / norm_x, start)
        jet = self._run(start, one, inverse, norm_z).filled()
        assert isinstance(jet.value, Tensor)
        return jet.value, *jet.first, *jet.second  # type: ignore[return-value]

    def about(self, y: Tensor, norm_x: Tensor, norm_z: Tensor, reach: tuple[Tensor, Tensor, Tensor]) -> tuple[Jet, Jet]:
        """Compute H and its derivatives in (y, r, β) in a point with r = 0, and enclose them in a box about it.

        Every cosine on the way is enclosed in the mean-value form too, by its derivatives in the box and its value in the
        point: what intervals alone lose, because K and the variances vary together, is then of second order.

        Args:
            y: cosines.
            norm_x: ρ in the point, which broadcasts against y.
            norm_z: |ẑ|, likewise.
            reach: how far y and β go to both sides, and r upwards, in the order (y, r, β); each broadcasts against y.
        """
        # r and β belong to an image alone, and keep their own shape: most of what is computed from them does.
        beta, (by_y, by_r, by_beta) = 1 / norm_x, reach
        cosines: list[Jet] = []

        def remember(cosine: Jet) -> Jet:
            cosines.append(cosine)
            return cosine

        in_point = (y, torch.zeros_like(beta), beta)
        point = self._run(*_inputs(in_point), norm_z, remember)
        remembered = iter(cosines)
        in_box = (
            Interval(y - by_y, y + by_y),
            Interval(torch.zeros_like(by_r), by_r),
            Interval(beta - by_beta, beta + by_beta),
        )
        box = self._run(
            *_inputs(in_box), norm_z, lambda cosine: cosine.tightened(next(remembered), (by_y, by_r, by_beta))
        )
        return point.filled(), box.filled()

    def enclosed(self, y: Interval, r: Interval, beta: Interval, norm_z: Tensor) -> Interval:
        """Enclose H over boxes, by intervals alone, which may reach the cosine 1."""
        value = self._run(*_inputs((y, r, beta), derivatives=0), norm_z).value
        assert isinstance(value, Interval)
        return value

    def _run(self, y: Jet, growth: Jet, inverse: Jet, norm_z: Tensor, seen: Callable[[Jet], Jet] | None = None) -> Jet:
        """Run the recursion from the first layer on.

        Args:
            y: <ẑ/|ẑ|, x̂/ρ>.
            growth: |x̂|² / ρ².
            inverse: 1 / ρ.
            norm_z: |ẑ|, which broadcasts against y.
            seen: is shown the cosine of every activation, and returns the one that is used.
        """
        per_z = (1 / norm_z).expand_as(_middle(y.value))
        ones = torch.ones(1, dtype=torch.float64)
        # What a constant in K or Θ becomes after the division by |ẑ|ρ.
        both, square = inverse.times(per_z), inverse * inverse
        ntk = y.times(self._share)
        if self._rest:
            ntk = ntk + both.times(self._rest)
        states = {self._start: _State(y, ntk, growth, ones)}
        for index, node in enumerate(self._nodes[self._start + 1 :], self._start + 1):
            inputs = [states[i] for i in node.inputs]
            states[index] = self._step(node, inputs, both, square, per_z.square(), seen)
        last = states[len(self._nodes) - 1]
        return last.ntk if self.kind == "ntk" else last.nngp

    def _step(
        self,
        node: Node,
        inputs: list[_State],
        both: Jet,
        square: Jet,
        per_z: Tensor,
        seen: Callable[[Jet], Jet] | None,
    ) -> _State:
        operation, state = node.operation, inputs[0]
        if isinstance(operation, Dense):
            scales = operation.scales
            if node is self._nodes[-1]:  # whose biases are in `offset`
                scales = replace(scales, b_std=0.0, bias_share=0.0)
            return _dense(state, scales, both, square, per_z)
        if isinstance(operation, Activation) and isinstance(operation.dual, LeakyReLU):
            return _leaky_relu(state, operation.dual.slope, seen)
        if isinstance(operation, Activation) and isinstance(operation.dual, Erf):
            return _erf(state, both, square, per_z, seen)
        if isinstance(operation, Activation) and isinstance(operation.dual, GELU):
            return _gelu(state, square, per_z, seen)
        if isinstance(operation, Scale):
            factor = operation.factor**2
            return _each(state, lambda jet: jet.times(factor), state.q_z * factor)
        if isinstance(operation, Sum):
            total = state
            for other in inputs[1:]:
                total = _State(
                    total.nngp + other.nngp, total.ntk + other.ntk, total.q_x + other.q_x, total.q_z + other.q_z
                )
            return total
        return state  # Flatten without positions


def _inputs(values: tuple[Number, Number, Number], derivatives: int = 3) -> tuple[Jet, Jet, Jet]:
    """Return y, |x̂|²/ρ² = 1 + r and β as functions of (y, r, β), with derivatives in all three or in none."""
    y, r, beta = (variable(value, index, derivatives) for index, value in enumerate(values))
    return y, r.plus(1.0), beta


def _dense(state: _State, scales: Scales, both: Jet, square: Jet, per_z: Tensor) -> _State:
    """Compute K <- w² K + b² and Θ <- weight_share K + bias_share + w² Θ; see `ntklens.kernels.rules.operations.affine`."""
    w, b = scales.w_std**2, scales.b_std**2
    ntk = state.nngp.times(scales.weight_share) + state.ntk.times(w)
    nngp, q_x, q_z = state.nngp.times(w), state.q_x.times(w), state.q_z * w
    if scales.bias_share:
        ntk = ntk + both.times(scales.bias_share)
    if b:
        nngp, q_x, q_z = nngp + both.times(b), q_x + square.times(b), q_z + b * per_z
    return _State(nngp, ntk, q_x, q_z)


def _leaky_relu(state: _State, slope: float, seen: Callable[[Jet], Jet] | None) -> _State:
    """Compute K <- (1 - a)² s κ1(K/s) + a K and Θ <- Θ ((1 - a)² κ0(K/s) + a) with s = √(q_x q_z)."""
    root_x, root_z = state.q_x.sqrt(), state.q_z.sqrt()
    cosine = (state.nngp * root_x.reciprocal()).times(1 / root_z)
    if seen is not None:
        cosine = seen(cosine)
    factor = (1 - slope) ** 2
    nngp = (root_x * cosine.kappa1()).times(root_z * factor)
    derivative = cosine.kappa0().times(factor)
    if slope:
        nngp, derivative = nngp + state.nngp.times(slope), derivative.plus(slope)
    variance = (1 + slope**2) / 2
    return _State(nngp, state.ntk * derivative, state.q_x.times(variance), state.q_z * variance)


def _erf(state: _State, both: Jet, square: Jet, per_z: Tensor, seen: Callable[[Jet], Jet] | None) -> _State:
    """Compute the covariance of erf, K <- (2/π) arcsin C with C = 2 K / √((1 + 2 q_x)(1 + 2 q_z)), and the factor of Θ.

    The factor is (4/π) / √((1 + 2 q_x)(1 + 2 q_z)(1 - C²)). In the units of a state C = 2 K / √(a_x a_z) with
    a = 1/ρ² + 2 q, and arcsin C = 2π (κ0(C) - 1/4).
    """
    a_x, a_z = square + state.q_x.times(2.0), per_z + 2 * state.q_z
    inverse = a_x.sqrt().reciprocal().times(1 / a_z.sqrt())
    cosine = (state.nngp * inverse).times(2.0)
    own = (state.q_x * a_x.reciprocal()).times(2.0)
    if seen is not None:
        cosine, own = seen(cosine), seen(own)
    nngp = both * cosine.kappa0().plus(-0.25).times(4.0)
    factor = both * inverse * cosine.kappa0_slope().times(8.0)
    q_x = square * own.kappa0().plus(-0.25).times(4.0)
    q_z = per_z * (2 / math.pi) * torch.arcsin(2 * state.q_z / a_z)
    return _State(nngp, state.ntk * factor, q_x, q_z)


def _gelu(state: _State, square: Jet, per_z: Tensor, seen: Callable[[Jet], Jet] | None) -> _State:
    """Compute the covariance of GELU, see `ntklens.kernels.rules.duals.GELU`, and the factor of Θ.

    With a = 1/ρ² + q, in the units of a state, C = K / √(a_x a_z), e = 1/(ρ² a_x) + 1/(|ẑ|² a_z) - 1 and
    B = (q_x q_z + e K²) / √(a_x a_z):

        K <- K κ0(C) + B κ0'(C),    Θ <- Θ (κ0(C) + C κ0'(C) (1 + 2 e + (2π κ0'(C))² B / √(a_x a_z))).
    """
    k = state.nngp
    a_x, a_z = square + state.q_x, per_z + state.q_z
    inverse = a_x.sqrt().reciprocal().times(1 / a_z.sqrt())
    cosine, own = k * inverse, state.q_x * a_x.reciprocal()
    share = square * a_x.reciprocal()  # 1 / (1 + q_x)
    if seen is not None:
        cosine, own, share = seen(cosine), seen(own), seen(share)
    e = share.plus(per_z / a_z - 1)
    mixed = (state.q_x.times(state.q_z) + e * k * k) * inverse
    slope = cosine.kappa0_slope()
    nngp = k * cosine.kappa0() + mixed * slope
    steep = (slope * slope).times(4 * math.pi**2)
    derivative = cosine.kappa0() + cosine * slope * (e.times(2.0).plus(1.0) + steep * mixed * inverse)
    # The same with z = x, where C = q / a and B = 2 q² / (ρ² a²).
    q_x = state.q_x * own.kappa0() + (own * own * share * own.kappa0_slope() * a_x).times(2.0)
    own_z = state.q_z / a_z
    value, change = kappa0(own_z), kappa0_slope(own_z)
    assert isinstance(value, Tensor)
    assert isinstance(change, Tensor)
    q_z = state.q_z * value + 2 * own_z.square() * per_z * change
    return _State(nngp, state.ntk * derivative, q_x, q_z)


def _each(state: _State, rule: Callable[[Jet], Jet], q_z: Tensor) -> _State:
    return _State(rule(state.nngp), rule(state.ntk), rule(state.q_x), q_z)


def _middle(value: Number) -> Tensor:
    return value.low if isinstance(value, Interval) else value


def _first_layer(graph: Graph) -> int:
    """Return the index of the dense layer that reads the data; check that the rest is known."""
    for node in graph.nodes:
        operation = node.operation
        known = isinstance(operation, (Input, Dense, Flatten, Scale, Sum)) or (
            isinstance(operation, Activation) and isinstance(operation.dual, (LeakyReLU, Erf, GELU))
        )
        # Positions are only allowed before the first layer reads all of them.
        if not known or (node.size != (1, 1) and not isinstance(operation, (Input, Flatten))):
            raise _unsupported(node)
    first = next((i for i, node in enumerate(graph.nodes) if isinstance(node.operation, Dense)), None)
    if first is None or any(not isinstance(node.operation, (Input, Flatten)) for node in graph.nodes[:first]):
        raise _unsupported(graph.nodes[1 if len(graph.nodes) > 1 else 0])
    if any(i < first for node in graph.nodes[first + 1 :] for i in node.inputs):
        raise _unsupported(graph.nodes[-1])
    return first


def _unsupported(node: Node) -> UnsupportedLayer:
    where = f"`{node.path}` " if node.path else ""
    return UnsupportedLayer(
        f"no certificate for {where}({node.operation}): proofs are known for networks of dense layers with ReLU, "
        "LeakyReLU, absolute values, erf or GELU. Use nl.smooth, which certifies a smoothed classifier with a stated "
        "probability."
    )
