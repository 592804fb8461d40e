"""Every feature attacked at every image: thousands of small attacks as a few large products.

The outputs of a feature are one scalar, s(x) = Θ(x, X) v, times the feature's weights, so the class that it gives an image
is the one of the largest weight where s is positive, of the smallest where it is negative, and the first where it is zero
and all outputs are the same. An attack on a feature that is right can thus only push s through zero: in linf along the sign
of its gradient, whatever the loss. Here all the pairs of an image and a feature that is right on it climb together, each
with its own v, and leave as soon as s has changed its sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.attacks import Threat
from ntklens.attacks.balls import per_sample
from ntklens.kernels.expansion import Expansion, ExpansionPullback
from ntklens.machine import KernelMachine

_ENTRIES = 1 << 23
"""Entries of the kernel matrix that are alive at a time."""
_PAIRS = 1 << 15
"""And of the images that new pairs come from."""
_TILE = 256
"""Pairs that a matrix product takes no longer for than for fewer."""


@dataclass(frozen=True)
class Outcomes:
    """Which features are right on which images.

    Attributes:
        clean: (k, m), on the images as they are.
        attacked: (k, m), and still right under the attack.
    """

    clean: Tensor
    attacked: Tensor


def outcomes(
    machine: KernelMachine,
    vectors: Tensor,
    weights: Tensor,
    x: Tensor,
    y: Tensor,
    threat: Threat | None,
    progress: Callable[[float], None] | None = None,
) -> Outcomes:
    """Attack features at images.

    Args:
        machine: whose kernel, training inputs and arithmetic are used.
        vectors: (n, k), eigenvectors.
        weights: (k, classes), what each one's scalar is multiplied by.
        x: (m, ...) images within the bounds.
        y: (m,) classes.
        threat: the attack; None for the clean images alone.
        progress: called with the share done.
    """
    n = len(vectors)
    above, below = weights.argmax(1), weights.argmin(1)
    varying = above != below  # where all weights are equal no attack changes the prediction
    function = machine.expand(vectors)
    climb = None if threat is None or threat.eps == 0 else _Climb(function, n, threat)
    clean = torch.zeros(vectors.shape[1], len(x), dtype=torch.bool, device=x.device)
    attacked = clean.clone()
    step = max(1, (_ENTRIES if climb is None else _PAIRS) // n)
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        scalars, slope = (function(x[part]), None) if climb is None else function.vjp(x[part])
        sides = scalars.T.sign()
        given = torch.where(sides > 0, above[:, None], torch.where(sides < 0, below[:, None], 0))
        clean[:, part] = attacked[:, part] = given == y[part]
        if climb is not None and slope is not None:
            image, feature = torch.nonzero((clean[:, part] & varying[:, None]).T).T  # image by image
            for new in climb.batches(len(image)):
                sign = sides[feature[new], image[new]]
                sign = torch.where(sign == 0, torch.where(below[feature[new]] == 0, -1.0, 1.0).to(sign), sign)
                first = y[part][image[new]] == 0
                climb.add(start + image[new], feature[new], sign.to(x), first, x[part][image[new]], slope, image[new])
                climb.advance(attacked, while_full=True)
        if progress:
            progress(min(1.0, (start + step) / len(x)))
    if climb is not None:
        climb.advance(attacked)
    return Outcomes(clean, attacked)


class _Climb:
    """Pairs of an image and a feature on their way; as some arrive, others take their places.

    Args:
        function: x -> Θ(x, X) v for all eigenvectors v.
        n: number of training inputs.
        threat: how to climb.
    """

    def __init__(self, function: Expansion, n: int, threat: Threat) -> None:
        self.function, self.threat = function, threat
        self.room = max(1, _ENTRIES // n // _TILE) * _TILE
        self.pairs: tuple[Tensor, ...] | None = None

    def batches(self, count: int) -> Iterator[slice]:
        """Slices of new pairs, each as many as there is room for when it is asked for."""
        start = 0
        while start < count:
            stop = min(count, start + self.room - len(self))
            yield slice(start, stop)
            start = stop

    def __len__(self) -> int:
        """Number of pairs on their way."""
        return 0 if self.pairs is None else len(self.pairs[0])

    def add(
        self,
        image: Tensor,
        feature: Tensor,
        sign: Tensor,
        first: Tensor,
        x: Tensor,
        slope: ExpansionPullback,
        rows: Tensor,
    ) -> None:
        """Take up pairs.

        Args:
            image: (pairs,), their numbers.
            feature: (pairs,), their features.
            sign: (pairs,), of the feature where it is right.
            first: (pairs,), whether it is right at zero too, where the first class is predicted.
            x: (pairs, ...), the images themselves.
            slope: gradients of the features at some images.
            rows: (pairs,), which of these.
        """
        new = (image, feature, sign, first, torch.zeros_like(image), x, x, slope.along(feature, rows))
        self.pairs = new if self.pairs is None else tuple(torch.cat(both) for both in zip(self.pairs, new, strict=True))

    def advance(self, right: Tensor, *, while_full: bool = False) -> None:
        """Step after step, until all pairs have arrived or, with `while_full`, a tile of them has.

        Args:
            right: (k, m), set to False for each feature and image where the attack succeeds.
            while_full: leave the rest on their way, to go on with new ones.
        """
        while len(self) > (self.room - _TILE if while_full else 0):
            self._step(right)

    def _step(self, right: Tensor) -> None:
        assert self.pairs is not None
        image, feature, sign, first, taken, x, moved, slope = self.pairs
        threat = self.threat
        ahead = moved - threat.step_length * threat.ascend(slope * per_sample(sign, x))
        moved = threat.project(ahead, x)
        scalar, pull = self.function.along(moved, feature)
        through = torch.where(first, sign * scalar < 0, sign * scalar <= 0)
        right[feature[through], image[through]] = False
        left = torch.nonzero(~through & (taken + 1 < threat.steps)).flatten()
        kept = [part[left] for part in (image, feature, sign, first, taken + 1, x, moved)]
        self.pairs = (*kept, pull.along(feature[left], left)) if len(left) else None
