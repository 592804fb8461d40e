"""The vocabulary of the infinite-width limit: a dozen operations, each a rule from covariances to covariances.

Convolutional covariances are stored offset-major. The state of a node is one map for each offset Δ = p' - p between the
positions of the two inputs; entry p of map Δ is the covariance of (x at p, x' at p + Δ), for the p at which both lie
inside the image. Offsets do not mix in a convolution, and pooling mixes a few neighbours, so a network is asked, from
its output backwards, which offsets it needs (`sources`) and only those are computed. A state without positions is the
one map of size 1 x 1 at offset (0, 0).

Every rule holds for any leading batch axes: (n1, n2) for all pairs of two batches, (n,) for each input with itself.
Sources: Jacot et al. 2018 (dense), Arora et al. 2019 (convolution), Novak et al. 2019/2020 (pooling).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ntklens.kernels.rules import safe
from ntklens.kernels.rules.duals import Dual

Offset = tuple[int, int]
Size = tuple[int, int]
Maps = dict[Offset, Tensor]
ORIGIN: Offset = (0, 0)


@dataclass
class Covariance:
    """What the recursion carries for a node: the NNGP covariance and, when asked for, the NTK."""

    nngp: Maps
    ntk: Maps | None

    def map(self, f: Callable[[Tensor], Tensor]) -> Covariance:
        """The same linear map of both."""
        ntk = None if self.ntk is None else {d: f(t) for d, t in self.ntk.items()}
        return Covariance({d: f(t) for d, t in self.nngp.items()}, ntk)


Marginals = Callable[[Offset], tuple[Tensor, Tensor]]
"""Variances (x at p, x' at p + Δ) that broadcast against map Δ."""


def all_offsets(size: Size) -> set[Offset]:
    """Every offset between two positions of an image of this size."""
    h, w = size
    return set(itertools.product(range(1 - h, h), range(1 - w, w)))


def overlap(size: Size, offset: Offset) -> tuple[slice, slice]:
    """The positions p, as slices, for which both p and p + offset lie inside an image of this size."""
    return tuple(slice(max(0, -d), n - max(0, d)) for n, d in zip(size, offset, strict=True))  # type: ignore[return-value]


class Operation:
    """One step of the recursion; subclasses are final."""

    needs_marginals = False
    """Whether the rule reads the variances of its input (activations and normalisations do)."""
    is_layer = False
    """Whether it has weights of its own, so that its output is a fresh centred Gaussian."""
    is_linear = True
    """Whether a Gaussian input stays Gaussian."""

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """The input offsets from which these output offsets are made."""
        return offsets

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """The node's covariance at these offsets from those of its inputs."""
        raise NotImplementedError


@dataclass(frozen=True)
class Input(Operation):
    """The data: <x(p), x'(p')> / C, and no parameters yet, so the NTK is zero. `flat` joins all axes into one."""

    flat: bool = False


@dataclass(frozen=True)
class Scales:
    """What a layer's weights and biases do to covariances.

    Attributes:
        w_std: K and Θ are multiplied by its square.
        b_std: its square is added to K.
        weight_share: times K of the input, the weights' own share of Θ.
        bias_share: the biases' own share of Θ.
    """

    w_std: float
    b_std: float
    weight_share: float
    bias_share: float


@dataclass(frozen=True)
class Dense(Operation):
    """A dense layer at every position; in the NTK parameterisation Θ <- K_new + w_std² Θ (Jacot et al. 2018)."""

    scales: Scales
    is_layer = True

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """The dense rule (Jacot et al. 2018)."""
        return affine(states[0], self.scales)


def affine(state: Covariance, scales: Scales) -> Covariance:
    """K <- w_std² K + b_std², Θ <- weight_share K + bias_share + w_std² Θ."""
    w, b = scales.w_std**2, scales.b_std**2
    nngp = {d: w * k + b for d, k in state.nngp.items()}
    if state.ntk is None:
        return Covariance(nngp, None)
    if (scales.weight_share, scales.bias_share) == (w, b):
        return Covariance(nngp, {d: nngp[d] + w * t for d, t in state.ntk.items()})
    own = {d: scales.weight_share * k + scales.bias_share for d, k in state.nngp.items()}
    return Covariance(nngp, {d: own[d] + w * t for d, t in state.ntk.items()})


@dataclass(frozen=True)
class Activation(Operation):
    """A pointwise function: K <- E[φ(u) φ(v)], Θ <- Θ E[φ'(u) φ'(v)]."""

    dual: Dual
    needs_marginals = True
    is_linear = False

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """The activation rule (Jacot et al. 2018)."""
        (state,) = states
        nngp: Maps = {}
        ntk: Maps | None = None if state.ntk is None else {}
        for offset in offsets:
            k, (q1, q2) = state.nngp[offset], marginals(offset)
            nngp[offset] = self.dual.nngp(k, q1, q2)
            if state.ntk is not None and ntk is not None:
                ntk[offset] = state.ntk[offset] * self.dual.derivative(k, q1, q2)
        return Covariance(nngp, ntk)


@dataclass(frozen=True)
class Normalise(Operation):
    """Layer norm of a Gaussian state: divide by the standard deviation, over channels or over positions as well."""

    over_positions: bool
    eps: float
    needs_marginals = True

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """K / sqrt((q + eps)(q' + eps)), and Θ likewise: the normaliser is constant in the infinite-width limit."""
        (state,) = states
        scale: Maps = {}
        for offset in offsets:
            q1, q2 = marginals(ORIGIN if self.over_positions else offset)
            if self.over_positions:
                q1, q2 = q1.mean((-2, -1), keepdim=True), q2.mean((-2, -1), keepdim=True)
            scale[offset] = 1 / (safe.sqrt(q1 + self.eps) * safe.sqrt(q2 + self.eps))
        ntk = None if state.ntk is None else {d: state.ntk[d] * scale[d] for d in offsets}
        return Covariance({d: state.nngp[d] * scale[d] for d in offsets}, ntk)


@dataclass(frozen=True)
class Sum(Operation):
    """The sum of independent branches: covariances add."""

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Sum of K and of Θ."""
        total = states[0]
        for other in states[1:]:
            nngp = {d: total.nngp[d] + other.nngp[d] for d in offsets}
            ntk = None
            if total.ntk is not None and other.ntk is not None:
                ntk = {d: total.ntk[d] + other.ntk[d] for d in offsets}
            total = Covariance(nngp, ntk)
        return total


@dataclass(frozen=True)
class Scale(Operation):
    """Multiplication by a constant: covariances by its square."""

    factor: float

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Times factor²."""
        return states[0].map(lambda t: self.factor**2 * t)


@dataclass(frozen=True)
class Flatten(Operation):
    """Positions become features: the mean over p of (p, p)."""

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Mean of the map at offset zero."""
        return states[0].map(lambda t: t.mean((-2, -1), keepdim=True))


@dataclass(frozen=True)
class GlobalPool(Operation):
    """The mean over all positions: the mean over all pairs (p, p')."""

    size: Size

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """All of them."""
        return all_offsets(self.size)

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Sum of all maps over the square of the number of positions."""
        pairs = (self.size[0] * self.size[1]) ** 2

        def pool(maps: Maps) -> Maps:
            sums = [t.sum((-2, -1), keepdim=True) for t in maps.values()]
            return {ORIGIN: sum(sums[1:], sums[0]) / pairs}

        (state,) = states
        return Covariance(pool(state.nngp), None if state.ntk is None else pool(state.ntk))
