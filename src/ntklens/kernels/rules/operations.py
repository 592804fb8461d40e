"""The operations of the infinite-width limit: each is a rule from the covariances of its inputs to those of its output.

Convolutional covariances are stored by offset. A node has one map for each offset Δ = p' - p between the positions of
the two inputs x and x'. Entry p of map Δ is the covariance of (x at p, x' at p + Δ), for those p at which both positions
lie inside the image. A convolution does not mix offsets, and a pooling mixes a few neighbouring ones. A graph therefore
asks its nodes, from the output backwards, which offsets they need (`Operation.sources`), and only these are computed. A
node without positions has a single map, of size 1 x 1, at offset (0, 0).

Every rule holds for any leading batch axes: (n1, n2) for all pairs of two batches, (n,) for each input with itself.
Sources: Jacot et al. 2018 (dense), Arora et al. 2019 (convolution), Novak et al. 2019 and 2020 (pooling).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor

from ntklens.kernels.rules import safe
from ntklens.kernels.rules.duals import Dual

Offset = tuple[int, int]
"""Δ = p' - p on the vertical and on the horizontal axis."""
Size = tuple[int, int]
"""Height and width, in positions."""
Region = tuple[slice, slice]
"""A rectangle of positions: its rows and its columns."""
Maps = dict[Offset, Tensor]
"""Offset -> map of shape (..., H - |Δ_y|, W - |Δ_x|)."""
ORIGIN: Offset = (0, 0)
_EPS = 1e-5
"""What the LayerNorm of torch adds to the variance, unless it is told otherwise."""
_MOST_ERROR = 2e-8
"""Relative error of an expectation from which on a warning tells of it."""


@dataclass
class Covariance:
    """The covariances of one node: those of the NNGP and, where the NTK was asked for, those of the NTK."""

    nngp: Maps
    ntk: Maps | None

    def apply(self, rule: Callable[[Maps], Maps]) -> Covariance:
        """Apply one linear rule on maps to the NNGP and to the NTK, if there is one."""
        return Covariance(rule(self.nngp), None if self.ntk is None else rule(self.ntk))

    def apply_to_each(self, rule: Callable[[Tensor], Tensor]) -> Covariance:
        """Apply one linear rule to every map, each of which keeps its offset."""
        return self.apply(lambda maps: {offset: rule(t) for offset, t in maps.items()})


Marginals = Callable[[Offset], tuple[Tensor, Tensor]]
"""Offset Δ -> the variances of (x at p, x' at p + Δ), which broadcast against map Δ."""


def all_offsets(size: Size) -> set[Offset]:
    """Return every offset between two positions of an image of this size."""
    h, w = size
    return set(itertools.product(range(1 - h, h), range(1 - w, w)))


def is_offset(offset: Offset, size: Size) -> bool:
    """Whether two positions of an image of this size can be this far apart."""
    return all(abs(d) < n for d, n in zip(offset, size, strict=True))


def map_size(size: Size, offset: Offset) -> Size:
    """Return the height and the width of the map at this offset, for an image of this size."""
    return (size[0] - abs(offset[0]), size[1] - abs(offset[1]))


def ends(size: Size, offset: Offset) -> tuple[Region, Region]:
    """Return the positions p, and the positions p + offset, of the entries of the map at this offset."""
    return _first_ends(size, offset), _first_ends(size, (-offset[0], -offset[1]))


def _first_ends(size: Size, offset: Offset) -> Region:
    """Return the positions p for which both p and p + offset lie inside an image of this size."""
    rows, columns = (slice(max(0, -d), n - max(0, d)) for n, d in zip(size, offset, strict=True))
    return rows, columns


class Operation:
    """One step of the recursion. Subclasses are final and hold the constants of their rule."""

    needs_marginals = False
    """Whether the rule reads the variances of its input, as those of activations and normalisations do."""
    is_layer = False
    """Whether the operation has weights, so that its output is a centred Gaussian independent of all other layers'."""
    is_linear = True
    """Whether the output is Gaussian when the input is."""

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Return the input offsets that the rule reads to compute these output offsets."""
        return offsets

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Compute the covariance of the node from those of its inputs.

        Args:
            states: covariances of the inputs, with a map for at least every offset in `sources(offsets)`.
            offsets: the offsets to compute.
            marginals: variances of the first input, for operations with `needs_marginals`.
        """
        raise NotImplementedError

    def check(self, q: Tensor) -> None:
        """Warn where variances q of the first input are so large that the rule loses digits; most rules lose none."""

    def __str__(self) -> str:
        # The standard deviations of a layer are mostly the same in the whole network, so the table tells them once.
        constants = [f"{f.name} {short(getattr(self, f.name))}" for f in fields(self) if f.name != "scales"]  # type: ignore[arg-type]
        return ", ".join([type(self).__name__, *constants])


def short(value: object) -> str:
    """Return a constant of an operation as a table shows it: sizes as 3x3, or as 3 where both axes are alike.

    Example:
        >>> short((3, 3)), short((1, 3)), short(0.99999500)
        ('3', '1x3', '1')
    """
    if isinstance(value, tuple):
        return str(value[0]) if len(set(value)) == 1 else "x".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Input(Operation):
    """The data: K = <x(p), x'(p')> / C, and Θ = 0 because there are no parameters yet.

    With `flat`, all axes of an input are taken as the channels of one position.
    """

    flat: bool = False

    def __str__(self) -> str:
        return "the data, flat" if self.flat else "the data"


@dataclass(frozen=True)
class Scales:
    """The constants with which the weights and biases of a layer change covariances, see `affine`.

    Attributes:
        w_std: standard deviation of the weights; K and Θ are multiplied by its square.
        b_std: standard deviation of the biases; its square is added to K.
        weight_share: factor of the input's K in the summand that the weights contribute to Θ.
        bias_share: summand that the biases contribute to Θ.
    """

    w_std: float
    b_std: float
    weight_share: float
    bias_share: float


@dataclass(frozen=True)
class Dense(Operation):
    """A dense layer: Θ <- K_new + w_std² Θ in the NTK parametrisation (Jacot et al. 2018)."""

    scales: Scales
    is_layer = True

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Apply the affine rule to every map."""
        return affine(states[0], self.scales)


def affine(state: Covariance, scales: Scales) -> Covariance:
    """Compute K <- w_std² K + b_std² and Θ <- weight_share K + bias_share + w_std² Θ, with the input's K on the right."""
    w, b = scales.w_std**2, scales.b_std**2
    nngp = {d: w * k + b for d, k in state.nngp.items()}
    if state.ntk is None:
        return Covariance(nngp, None)
    # In the NTK parametrisation the layer's own contribution to Θ equals its new K, which is at hand.
    if (scales.weight_share, scales.bias_share) == (w, b):
        return Covariance(nngp, {d: nngp[d] + w * t for d, t in state.ntk.items()})
    contribution = {d: scales.weight_share * k + scales.bias_share for d, k in state.nngp.items()}
    return Covariance(nngp, {d: contribution[d] + w * t for d, t in state.ntk.items()})


@dataclass(frozen=True)
class Activation(Operation):
    """A pointwise function: K <- E[φ(u) φ(v)], Θ <- Θ E[φ'(u) φ'(v)]."""

    dual: Dual
    needs_marginals = True
    is_linear = False

    def __str__(self) -> str:
        return str(self.dual).removesuffix("()")

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Apply the two Gaussian expectations of the activation (Jacot et al. 2018)."""
        (state,) = states
        nngp: Maps = {}
        ntk: Maps | None = None if state.ntk is None else {}
        for offset in offsets:
            k = state.nngp[offset]
            q1, q2 = marginals(offset)
            nngp[offset] = self.dual.nngp(k, q1, q2)
            if state.ntk is not None and ntk is not None:
                ntk[offset] = state.ntk[offset] * self.dual.derivative(k, q1, q2)
        return Covariance(nngp, ntk)

    def check(self, q: Tensor) -> None:
        """Warn where the activation knows that it loses digits; those with a series of their own warn elsewhere."""
        relative_error = getattr(self.dual, "relative_error", None)
        if relative_error is None or not q.numel():
            return
        largest = float(q.detach().max())
        if not relative_error(largest) <= _MOST_ERROR:
            # In one digit, so that the many parts of a call have one text, which is shown once.
            warnings.warn(
                f"expected inputs of {self} with a smaller variance; got about {largest:.0e}, at which terms cancel "
                f"and its kernel may be wrong by more than {_MOST_ERROR:.0e} of its values. Use a smaller w_std, or pixels "
                "from 0 to 1.",
                stacklevel=2,
            )


@dataclass(frozen=True)
class Normalise(Operation):
    """Layer norm of a Gaussian: divide by the standard deviation over the channels of each position.

    With `over_positions`, the standard deviation is taken over channels and positions together. `eps` is the constant
    that the layer adds to the variance.
    """

    over_positions: bool
    eps: float
    needs_marginals = True

    def __str__(self) -> str:
        return "LayerNorm" if self.eps == _EPS else f"LayerNorm, eps {self.eps:.4g}"

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Compute K / sqrt((q + eps)(q' + eps)), and Θ likewise, with the variances q and q' of the two inputs."""
        (state,) = states
        # At infinite width the standard deviation no longer fluctuates, so it has no derivative in the weights.
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
    """The sum of uncorrelated branches, whose covariances add."""

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Add K and Θ of all inputs."""
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
    """Multiplication by a constant, which multiplies covariances by its square."""

    factor: float

    def __str__(self) -> str:
        return f"times {self.factor:.6g}"

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Multiply every map by factor²."""
        return states[0].apply_to_each(lambda t: self.factor**2 * t)


@dataclass(frozen=True)
class Flatten(Operation):
    """Positions become features: K <- mean over p of K(p, p)."""

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Compute the mean of the map at offset zero."""
        return states[0].apply_to_each(lambda t: t.mean((-2, -1), keepdim=True))


@dataclass(frozen=True)
class GlobalPool(Operation):
    """The mean over all positions: K <- mean over all pairs (p, p') of K(p, p')."""

    size: Size

    def __str__(self) -> str:
        return "global AvgPool"

    def sources(self, offsets: set[Offset]) -> set[Offset]:
        """Return every offset of the image."""
        return all_offsets(self.size)

    def push(self, states: list[Covariance], offsets: set[Offset], marginals: Marginals) -> Covariance:
        """Divide the sum of all maps by the square of the number of positions."""
        pairs = (self.size[0] * self.size[1]) ** 2

        def pool(maps: Maps) -> Maps:
            sums = [t.sum((-2, -1), keepdim=True) for t in maps.values()]
            return {ORIGIN: sum(sums[1:], sums[0]) / pairs}

        return states[0].apply(pool)
