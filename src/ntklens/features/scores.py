"""Scores of features: accuracies with intervals, and the categories that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from ntklens.errors import InputError
from ntklens.statistics import Estimate, proportion

ROBUST = "robust and useful"
PARTLY = "useful, partly robust"
FRAGILE = "useful non-robust"
USELESS = "not useful"
"""The categories of features."""
UNSCORED = "not scored"
"""Category of features that were not scored."""


@dataclass(frozen=True)
class FeatureScores:
    """One estimate per feature, with its 95 % interval.

    Attributes:
        indices: the features' positions in the spectrum.
        estimates: their estimates, in the order of the indices.
    """

    indices: tuple[int, ...]
    estimates: tuple[Estimate, ...]

    def __post_init__(self) -> None:
        if len(self.indices) != len(self.estimates):
            raise InputError(f"expected one estimate per index; got {len(self.estimates)} for {len(self.indices)}.")

    @classmethod
    def of(cls, indices: Sequence[int], right: Bool[Tensor, "k m"]) -> FeatureScores:
        """Estimate the accuracy of k features from m images on which each is right or not, as in `Outcomes`."""
        return cls(tuple(indices), tuple(proportion(int(hits), right.shape[1]) for hits in right.sum(1)))

    def __len__(self) -> int:
        """Return the number of features that were scored."""
        return len(self.estimates)

    def __repr__(self) -> str:
        values = self.values
        spread = f", from {100 * values.min():.1f} to {100 * values.max():.1f} %" if len(self) else ""
        return f"FeatureScores({len(self)} features, {self._range()}{spread})"

    def __iter__(self) -> Iterator[Estimate]:
        """Iterate over the estimates."""
        return iter(self.estimates)

    @property
    def values(self) -> np.ndarray:
        """Values of the estimates, without their intervals."""
        return np.array([e.value for e in self.estimates])

    def __getitem__(self, index: int) -> Estimate:
        """Return the estimate of the feature with this position in the spectrum."""
        if index not in self.indices:
            raise InputError(f"expected one of the {len(self)} scored features, {self._range()}; got feature {index}.")
        return self.estimates[self.indices.index(index)]

    def _range(self) -> str:
        return f"{min(self.indices)} to {max(self.indices)}" if self.indices else "none"


def above_majority(scores: FeatureScores, majority: float) -> np.ndarray:
    """Compute each feature's p-value against the rate of the majority class by the exact one-sided binomial test."""
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
    """Sort features into categories by their accuracy on clean and on attacked images.

    - "not useful": the accuracy is not shown to be above the rate of the majority class.
    - "useful non-robust": useful, but less than `robust_share` of the accuracy survives the attack.
    - "robust and useful": useful, at least that share survives, and the accuracy under attack is also above the rate.
    - "useful, partly robust": useful, at least that share survives, but it is not shown to be above the rate.

    "Above the rate" is a one-sided binomial test over all features at once: at most a share `false_discoveries` of those
    that pass are expected to do so by chance (Benjamini & Hochberg 1995). Tested one by one, dozens of thousands of useless
    features would pass.

    Machines made of a category should be scored on other images: features that are chosen for their score on some images
    are worse on others.

    Args:
        usefulness: accuracy of some features on clean images.
        robustness: accuracy of these features under attack.
        majority: share of the most frequent class among the images scored on, from 0 to 1.
        robust_share: share of the usefulness that must survive the attack.
        false_discoveries: expected share of false ones among the features that pass the test.

    Returns:
        A category per feature, in the order of the scores.

    Raises:
        InputError: scores of different features, or shares outside 0 to 1.
    """
    from scipy import stats  # slow to import, and used by two functions alone

    for name, share in (
        ("majority", majority),
        ("robust_share", robust_share),
        ("false_discoveries", false_discoveries),
    ):
        if not 0 <= share <= 1:
            raise InputError(f"expected {name} as a share from 0 to 1; got {share}.")
    if usefulness.indices != robustness.indices:
        raise InputError(
            "expected usefulness and robustness of the same features in one order; got different features."
        )
    if not usefulness.indices:
        return []
    # p-values adjusted for the number of features, to be compared with the share of false discoveries.
    p_useful, p_robust = (
        stats.false_discovery_control(above_majority(scores, majority), method="bh")
        for scores in (usefulness, robustness)
    )
    names = []
    for place, (useful, robust) in enumerate(zip(usefulness.estimates, robustness.estimates, strict=True)):
        if p_useful[place] > false_discoveries or useful.value <= majority:
            names.append(USELESS)
        elif robust.value < robust_share * useful.value:
            names.append(FRAGILE)
        else:
            names.append(ROBUST if p_robust[place] <= false_discoveries else PARTLY)
    return names
