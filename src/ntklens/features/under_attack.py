"""Every feature attacked at every image: thousands of small attacks as a few large products.

The outputs of a feature are one scalar, s(x) = Θ(x, X) v, times the feature's weights. So the feature predicts the class of
the largest weight where s is positive, the class of the smallest weight where s is negative, and the first class where s is
zero, because all outputs are then equal. An attack on a feature that is right can thus only push s through zero: in linf
along the sign of its gradient, whatever the loss.

All pairs of an image and a feature that is right on it are attacked together, each pair with its own v, and a pair is
finished as soon as s has changed its sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.attacks import Threat
from ntklens.attacks.balls import per_sample
from ntklens.kernels.expansion import Expansion
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report

_ENTRIES = 1 << 23
"""Number of entries of the kernel matrix, about, that are computed together: of whole tiles of rows."""
_PAIRS = 1 << 15
"""Number of kernel entries, about, for the batch of images that new pairs of an image and a feature come from."""
_TILE = 256
"""Least capacity of the pool, in pairs: a matrix product with fewer rows takes about as long as with this many."""


@dataclass(frozen=True)
class Outcomes:
    """Which features are right on which images.

    Attributes:
        clean: (k, m), bool: right on the clean image.
        attacked: (k, m), bool: right on the clean image and still right under the attack.
    """

    clean: Tensor
    attacked: Tensor

    def __repr__(self) -> str:
        clean, attacked = (100 * float(right.double().mean()) for right in (self.clean, self.attacked))
        size = " features, ".join(map(str, self.clean.shape))
        return f"Outcomes({size} images: {clean:.1f} % right clean, {attacked:.1f} % under attack)"


def outcomes(
    machine: KernelMachine,
    vectors: Tensor,
    weights: Tensor,
    x: Tensor,
    y: Tensor,
    threat: Threat | None,
    progress: Report | None = None,
    arithmetic: torch.dtype | None = None,
) -> Outcomes:
    """Attack every feature at every image on which it is right.

    Args:
        machine: the machine whose kernel, training inputs and arithmetic are used.
        vectors: (n, k), eigenvectors.
        weights: (k, classes), the factors from a feature's scalar to its outputs.
        x: (m, ...) images within the bounds.
        y: (m,) classes.
        threat: the attack; None for the clean images alone.
        progress: called with the share of the work that is done, from 0 to 1.
        arithmetic: dtype in which the kernel is computed; the machine's by default.
    """
    progress = Progress(progress)
    n, k = vectors.shape
    above, below = weights.argmax(1), weights.argmin(1)
    varying = above != below  # where all weights are equal no attack changes the prediction
    function = machine.expand(vectors, arithmetic)
    pool = None if threat is None or threat.eps == 0 else _Pool(function, n, threat)
    clean = torch.zeros(k, len(x), dtype=torch.bool, device=x.device)
    attacked = clean.clone()
    # With many training inputs, images are taken as many together as fill a tile: the clean ones, or their new pairs.
    size = max(_TILE, _ENTRIES // n) if pool is None else max(1, _PAIRS // n, _TILE // max(k, 1))
    for start in range(0, len(x), size):
        batch = slice(start, start + size)
        scalars, pullback = (function(x[batch]), None) if pool is None else function.vjp(x[batch])
        signs = scalars.T.sign()  # (k, images)
        predicted = torch.where(signs > 0, above[:, None], torch.where(signs < 0, below[:, None], 0))
        clean[:, batch] = attacked[:, batch] = predicted == y[batch]
        if pool is not None and pullback is not None:
            # The pairs to attack, image by image, so that the gradients of few images are in use at a time.
            rows, features = torch.nonzero((clean[:, batch] & varying[:, None]).T).T
            for new in pool.batches(len(rows)):
                row, feature = rows[new], features[new]
                images = x[batch][row]
                pool.add(
                    _Pairs(
                        image=start + row,
                        feature=feature,
                        sign=_right_side(signs[feature, row], below[feature]).to(x),
                        first_class=y[batch][row] == 0,
                        steps=torch.zeros_like(row),
                        x=images,
                        x_adv=images,
                        gradient=pullback.along(feature, row),
                    )
                )
                pool.advance(attacked, while_full=True)
        progress(min(1.0, (start + size) / len(x)))
    if pool is not None:
        pool.advance(attacked)
    return Outcomes(clean, attacked)


def _right_side(sign: Tensor, below: Tensor) -> Tensor:
    """Return the sign of the scalars on the side of zero where their features are right: (p,), +1 or -1.

    At s = 0 the first class is predicted, so a feature that is right there is right for the first class. Where it predicts
    that class on the negative side too, only positive s is wrong; elsewhere the attack goes to the negative side, on which
    the prediction is another class.

    Args:
        sign: (p,), sign of each scalar, 0 included.
        below: (p,), the class that each feature predicts where its scalar is negative.
    """
    return torch.where(sign == 0, torch.where(below == 0, -1.0, 1.0).to(sign), sign)


@dataclass(frozen=True)
class _Pairs:
    """Pairs of an image and a feature that is right on it, one per row of each column.

    Attributes:
        image: (p,), index of the image.
        feature: (p,), index of the feature.
        sign: (p,), +1 or -1, the sign of the scalar s on the side where the feature is right.
        first_class: (p,), bool: the first class is right, so that the feature is right at s = 0 too.
        steps: (p,), steps taken so far.
        x: (p, ...), the clean images.
        x_adv: (p, ...), the images as they are now.
        gradient: (p, ...), ∇s at x_adv.
    """

    image: Tensor
    feature: Tensor
    sign: Tensor
    first_class: Tensor
    steps: Tensor
    x: Tensor
    x_adv: Tensor
    gradient: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def append(self, new: _Pairs) -> _Pairs:
        """Return these pairs and, after them, new ones."""
        return _Pairs(**{name: torch.cat([column, getattr(new, name)]) for name, column in vars(self).items()})

    def stepped(self, rows: Tensor, x_adv: Tensor, gradient: Tensor) -> _Pairs:
        """Return the pairs in some rows after one more step.

        Args:
            rows: (q,), indices of the pairs to keep.
            x_adv: (p, ...), the images of all pairs after the step.
            gradient: (q, ...), ∇s there, for the pairs that are kept.
        """
        return _Pairs(
            image=self.image[rows],
            feature=self.feature[rows],
            sign=self.sign[rows],
            first_class=self.first_class[rows],
            steps=self.steps[rows] + 1,
            x=self.x[rows],
            x_adv=x_adv[rows],
            gradient=gradient,
        )


class _Pool:
    """Pairs under attack; finished pairs leave, and new ones take their places.

    So each product with the kernel has about the same number of rows, whatever the number of steps that a pair needs.

    Args:
        function: x -> Θ(x, X) v for all eigenvectors v.
        n: number of training inputs.
        threat: the attack.
    """

    def __init__(self, function: Expansion, n: int, threat: Threat) -> None:
        self.function = function
        self.threat = threat
        # Each pair has a row of n kernel values.
        self.capacity = max(1, _ENTRIES // n // _TILE) * _TILE
        self.pairs: _Pairs | None = None

    def __len__(self) -> int:
        """Number of pairs under attack."""
        return 0 if self.pairs is None else len(self.pairs)

    def batches(self, count: int) -> Iterator[slice]:
        """Yield slices that cover `count` new pairs, each as large as the free places when it is asked for."""
        start = 0
        while start < count:
            stop = min(count, start + self.capacity - len(self))
            yield slice(start, stop)
            start = stop

    def add(self, new: _Pairs) -> None:
        """Take up new pairs."""
        self.pairs = new if self.pairs is None else self.pairs.append(new)

    def advance(self, right: Tensor, *, while_full: bool = False) -> None:
        """Take steps until all pairs are finished or, with `while_full`, until a tile of places is free.

        Args:
            right: (k, m), set to False for each feature and image where the attack succeeds.
            while_full: leave the other pairs in the pool, to go on together with new ones.
        """
        while len(self) > (self.capacity - _TILE if while_full else 0):
            self._step(right)

    def _step(self, right: Tensor) -> None:
        """Take one step with all pairs, and keep those that are neither fooled nor at their last step."""
        assert self.pairs is not None
        pairs, threat = self.pairs, self.threat
        # Descend sign · s, which is positive where the feature is right.
        direction = threat.ascend(pairs.gradient * per_sample(pairs.sign, pairs.x))
        x_adv = threat.project(pairs.x_adv - threat.step_length * direction, pairs.x)
        scalar, pullback = self.function.along(x_adv, pairs.feature)
        # At s = 0 the first class is predicted: where it is right, s must go beyond zero.
        margin = pairs.sign * scalar
        fooled = torch.where(pairs.first_class, margin < 0, margin <= 0)
        right[pairs.feature[fooled], pairs.image[fooled]] = False
        remaining = torch.nonzero(~fooled & (pairs.steps + 1 < threat.steps)).flatten()
        if len(remaining):
            # The values are known for all pairs, the gradients are computed for the remaining ones alone.
            self.pairs = pairs.stepped(remaining, x_adv, pullback.along(pairs.feature[remaining], remaining))
        else:
            self.pairs = None
