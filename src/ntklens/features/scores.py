"""What features are worth: estimates with intervals, and the categories that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from ntklens.errors import InputError
from ntklens.statistics import Estimate, proportion

ROBUST, PARTLY, FRAGILE, USELESS = "robust and useful", "useful, partly robust", "useful non-robust", "not useful"
"""The categories."""
UNSCORED = "not scored"
"""In the place of one, for a feature that was left out."""


@dataclass(frozen=True)
class FeatureScores:
    """One estimate a feature, with its 95 % interval.

    Attributes:
        indices: positions in the spectrum.
        estimates: in the same order.
    """

    indices: tuple[int, ...]
    estimates: tuple[Estimate, ...]

    def __post_init__(self) -> None:
        if len(self.indices) != len(self.estimates):
            raise InputError(f"one estimate an index was expected; {len(self.estimates)} for {len(self.indices)} came.")

    @classmethod
    def of(cls, indices: Sequence[int], right: Bool[Tensor, "k m"]) -> FeatureScores:
        """The share of m images on which each of k features is right, as of `NTKFeatures.outcomes`."""
        return cls(tuple(indices), tuple(proportion(int(hits), right.shape[1]) for hits in right.sum(1)))

    def __len__(self) -> int:
        """Number of features that were scored."""
        return len(self.estimates)

    def __iter__(self) -> Iterator[Estimate]:
        """The estimates."""
        return iter(self.estimates)

    @property
    def values(self) -> np.ndarray:
        """The estimates alone."""
        return np.array([e.value for e in self.estimates])

    def __getitem__(self, index: int) -> Estimate:
        """The estimate of the feature with this index in the spectrum."""
        if index not in self.indices:
            raise InputError(f"feature {index} was not scored; scored were {len(self)}, from {self._range()}.")
        return self.estimates[self.indices.index(index)]

    def _range(self) -> str:
        return f"{min(self.indices)} to {max(self.indices)}" if self.indices else "none"


def above_majority(scores: FeatureScores, majority: float) -> np.ndarray:
    """p-value of each feature's accuracy against the rate of the majority class: a binomial test, one-sided, exact."""
    from scipy import stats  # slow to import, and used by two functions alone

    return np.array([stats.binom.sf(round(e.value * e.n) - 1, e.n, majority) for e in scores.estimates])


def categories(
    usefulness: FeatureScores,
    robustness: FeatureScores,
    majority: float,
    *,
    robust_share: float = 0.5,
    false_discoveries: float = 0.05,
) -> list[str]:
    """Each feature's category.

    A feature is useful when its accuracy is above the majority class's rate by a one-sided binomial test, with at most a
    share `false_discoveries` of the useful ones expected to be so by chance (Benjamini & Hochberg 1995): of thousands of
    features, dozens would pass a test of each alone. Of the useful ones it is "useful non-robust" when less than
    `robust_share` of the usefulness survives the attack; "robust and useful" when more does and the accuracy under attack
    is, by the same test, above that rate as well; and "useful, partly robust" in between. All others are "not useful": they
    were not shown to be.

    The images should be others than those that machines of a category are scored on afterwards: what was chosen for its
    score on some images is worth less on others.

    Args:
        usefulness: of some features.
        robustness: of the same.
        majority: share of the most frequent class among the images scored on, from 0 to 1.
        robust_share: of the usefulness.
        false_discoveries: share of the features called useful, in expectation.

    Raises:
        InputError: scores of different features, or shares that are none.
    """
    from scipy import stats  # slow to import, and used by two functions alone

    for name, share in (
        ("majority", majority),
        ("robust_share", robust_share),
        ("false_discoveries", false_discoveries),
    ):
        if not 0 <= share <= 1:
            raise InputError(f"{name} must be a share, from 0 to 1; {share} came.")
    if usefulness.indices != robustness.indices:
        raise InputError("usefulness and robustness of the same features, in one order, were expected; others came.")
    if not usefulness.indices:
        return []
    chance, luck = (
        stats.false_discovery_control(above_majority(scores, majority), method="bh")
        for scores in (usefulness, robustness)
    )
    names = []
    for p, q, useful, robust in zip(chance, luck, usefulness.estimates, robustness.estimates, strict=True):
        if p > false_discoveries or useful.value <= majority:
            names.append(USELESS)
        elif robust.value < robust_share * useful.value:
            names.append(FRAGILE)
        else:
            names.append(ROBUST if q <= false_discoveries else PARTLY)
    return names
