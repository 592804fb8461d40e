"""When a kernel has come to where its training leaves it: a distance to the end that the noise of the steps cannot move.

The velocity between two epochs does not tell it. Late in a training the kernel wanders about its end with the noise of
stochastic gradient descent, and the distance over many epochs is hardly larger than that over one. Here the distance of an
epoch to the end is taken as a product of two displacements, of that epoch and of the next, from two means over different
late epochs. The noise of the four is independent, so its mean is zero, however large it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

SETTLED = 0.1
"""Share of the squared distance to the end below which a kernel counts as settled."""
LEAST_RECORDS = 6
"""Number of records below which a path has no settling epoch."""
SETTLED_WITHIN = 0.6
"""Share of the run within which a kernel has to settle.

The end is that of the records, so a path that never slows down comes near it, too: one of constant speed has 0.1 of its
squared distance left after 1 - √0.1 = 0.68 of the run. Only an earlier epoch says that the kernel has slowed down."""

MOST_NOISE = 0.5
"""Share of the squared way to the end that a settled kernel may be away from there by the noise of its steps.

Movement without a common direction counts as noise. Where it is as long as the whole way, nothing has settled."""

_ROUNDING = 1e-12
"""Squared distance that the rounding of kernels in single precision may give; below it nothing has moved."""


@dataclass(frozen=True)
class Settling:
    """How a kernel comes to its end.

    Attributes:
        epochs: the recorded epochs.
        distance: n at each of them, the squared distance to the end as a share of that at the start, smoothed over three
            records: 1 at the first, about 0 once the kernel has settled, NaN at the last. It may be a little below 0.
        epoch: e10, the interpolated epoch from which on n stays below 0.1; None where it does not, or for fewer than
            `LEAST_RECORDS` records.
        area: τ, the area under n, in epochs; NaN for fewer records than that.
        with_noise: at each of the epochs the squared distance to the end with the noise of the steps in it, as a share of
            that at the start; empty where it is not known.
    """

    epochs: list[float]
    distance: list[float]
    epoch: float | None
    area: float
    with_noise: list[float] = field(default_factory=list)

    @property
    def has_settled(self) -> bool:
        """Whether the kernel counts as settled: it came to its end in time, and does not wander as far as it has come.

        In time is within the first 60 % of the run, that is, earlier than a kernel of constant speed. Both parts are read
        off the centred cosine kernel, and the second is a mean over records, so that one step does not undo it.
        """
        return self.is_in_time and not self.wander > MOST_NOISE

    @property
    def is_in_time(self) -> bool:
        """Whether the settling epoch lies within the first 60 % of the run."""
        run = self.epochs[-1] - self.epochs[0]
        return self.epoch is not None and self.epoch - self.epochs[0] <= SETTLED_WITHIN * run

    @property
    def wander(self) -> float:
        """Mean of `with_noise` over the records from the settling epoch on; NaN where there is none or it is not known."""
        since = math.inf if self.epoch is None else self.epoch
        known = [d for e, d in zip(self.epochs, self.with_noise, strict=False) if e >= since]
        return sum(known) / len(known) if known else math.nan

    @property
    def known_from(self) -> float:
        """The first epoch of a run that is long enough for the settling epoch; NaN where there is none."""
        return math.nan if self.epoch is None else self.epochs[0] + (self.epoch - self.epochs[0]) / SETTLED_WITHIN

    def at(self, epoch: float) -> float:
        """Return n at an epoch, interpolated; NaN outside the records that have one."""
        known = [(e, n) for e, n in zip(self.epochs, self.distance, strict=True) if not math.isnan(n)]
        return interpolated([e for e, _ in known], [n for _, n in known], epoch)


def settling(units: Sequence[Float[Tensor, "n n"]], epochs: Sequence[float]) -> Settling:
    """Return when a path of kernels settles.

    n(t) = ⟨u_t - a, u_{t+1} - b⟩ / |u_0 - c|² with n(0) = 1: a and b are the means over those of the last
    m = max(2, T / 10) records that have the parity of t and of t + 1, and c is the mean of all m, with norm 1. A kernel
    that does not move at all has n = 0 and is settled from its first epoch on.

    Args:
        units: centred cosine kernels of norm 1, from `measures.centred_cosine`, in the order of their epochs.
        epochs: the epochs.
    """
    return settling_of(_smoothed(_cross_validated(units)), epochs, _with_noise(units))


def settling_of(distance: Sequence[float], epochs: Sequence[float], with_noise: Sequence[float] = ()) -> Settling:
    """Return when a path settles whose distances to the end are known.

    Args:
        distance: n at each epoch, smoothed, NaN at the last one.
        epochs: the epochs.
        with_noise: the squared distance with its noise at each epoch; empty where it is not known.
    """
    known = list(distance[:-1])
    if len(epochs) < LEAST_RECORDS or any(map(math.isnan, known)):
        return Settling(list(epochs), list(distance), None, math.nan, list(with_noise))
    area = sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(zip(epochs, known, strict=False)))
    return Settling(list(epochs), list(distance), _stays_below(known, epochs, SETTLED), area, list(with_noise))


def learned_epoch(losses: Sequence[float], epochs: Sequence[float], share: float = 0.9) -> float | None:
    """Return the interpolated epoch at which a share of the decrease of the loss is done, for the first time.

    The decrease is that from the first known loss to the mean of the last tenth (two or more). None where the loss does
    not fall, or fewer than three are known.

    Args:
        losses: mean loss of the training at each epoch, on its own images; NaN where it is not known, as before training.
        epochs: the epochs.
        share: from 0 to 1.
    """
    known = [(e, loss) for e, loss in zip(epochs, losses, strict=True) if not math.isnan(loss)]
    if len(known) < 3:
        return None
    values = [loss for _, loss in known]
    last = values[-_late(len(values)) :]
    end = sum(last) / len(last)
    if not values[0] > end:
        return None
    level = values[0] - share * (values[0] - end)
    return first_crossing([e for e, _ in known], [-v for v in values], -level)


def first_crossing(epochs: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """Return the interpolated epoch at which values reach a level for the first time; None where they never do."""
    for t, value in enumerate(values):
        if value >= level:
            return epochs[0] if t == 0 else _between(epochs, values, t - 1, level)
    return None


def interpolated(epochs: Sequence[float], values: Sequence[float], epoch: float) -> float:
    """Return the value at an epoch on the line between its neighbours; NaN outside the epochs."""
    for t in range(len(epochs) - 1):
        if epochs[t] <= epoch <= epochs[t + 1]:
            weight = (epoch - epochs[t]) / (epochs[t + 1] - epochs[t])
            return (1 - weight) * values[t] + weight * values[t + 1]
    return values[0] if len(epochs) == 1 and epoch == epochs[0] else math.nan


def _late(records: int) -> int:
    """Return the number of records at the end of a run that stand for its end."""
    return max(2, (records - 1) // 10)


def _end(units: Sequence[Tensor]) -> Tensor:
    """Return c, the mean over the late records with norm 1; zeros where nothing is left of it."""
    centre = torch.stack(list(units[-_late(len(units)) :])).mean(0)
    norm = float(centre.norm())
    return centre / norm if norm else centre


def _with_noise(units: Sequence[Tensor]) -> list[float]:
    """Return |u_t - c|² / |u_0 - c|² of every record: the distance to the end with the noise of the steps in it."""
    if len(units) < 3:
        return [math.nan] * len(units)
    end = _end(units)
    squares = [float((unit - end).square().sum()) for unit in units]
    if not squares[0] > _ROUNDING:
        return [0.0 if squares[0] == squares[0] else math.nan] * len(units)
    return [square / squares[0] for square in squares]


def _cross_validated(units: Sequence[Tensor]) -> list[float]:
    """Compute n of every record but the last, before it is smoothed."""
    if len(units) < 3:
        return [1.0] * (len(units) - 1)
    first_late = len(units) - _late(len(units))
    late = range(first_late, len(units))
    # The means by parity of the record: two neighbours never share the noise of a late epoch, even if they are late.
    ends = [torch.stack([units[t] for t in late if t % 2 == parity]).mean(0) for parity in (0, 1)]
    scale = float((units[0] - _end(units)).square().sum())
    if not scale > _ROUNDING:
        return [0.0 if scale == scale else math.nan] * (len(units) - 1)
    products = [
        float(((units[t] - ends[t % 2]) * (units[t + 1] - ends[(t + 1) % 2])).sum()) for t in range(1, len(units) - 1)
    ]
    return [1.0, *(p / scale for p in products)]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return means over three neighbours, two at the end; the first value stays, and the last record has none."""
    if not values:
        return [math.nan]
    inner = [values[max(0, t - 1) : t + 2] for t in range(1, len(values))]
    return [values[0], *(sum(window) / len(window) for window in inner), math.nan]


def _stays_below(values: Sequence[float], epochs: Sequence[float], level: float) -> float | None:
    """Return the interpolated epoch from which on the values stay below a level."""
    above = [t for t, value in enumerate(values) if not value < level]
    if not above:
        return epochs[0]
    return None if above[-1] == len(values) - 1 else _between(epochs, values, above[-1], level)


def _between(epochs: Sequence[float], values: Sequence[float], t: int, level: float) -> float:
    """Return where the line from record t to the next one crosses a level."""
    share = (level - values[t]) / (values[t + 1] - values[t])
    return epochs[t] + share * (epochs[t + 1] - epochs[t])
