"""Which victims are fooled by images that were made without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.attacks import Model, correct
from ntklens.statistics import Estimate, proportion

CLEAN = "clean"
"""Name of the images that were not attacked, beside the names of the surrogates."""


@dataclass(frozen=True)
class TransferScore:
    """How a victim does on one set of images, by both definitions of success.

    Attributes:
        accuracy: share of right predictions on the images; 1 - accuracy is the first definition.
        fooled: among the images that the victim predicts right when clean, the share that it predicts wrong when attacked:
            the second definition.
        correct: which predictions are right.
    """

    accuracy: Estimate
    fooled: Estimate
    correct: Bool[Tensor, " n"]

    def __repr__(self) -> str:
        right, fooled = 100 * self.accuracy.value, 100 * self.fooled.value
        return f"TransferScore({len(self.correct)} images: {right:.1f} % right, {fooled:.1f} % fooled)"


def transfer_scores(
    victim: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    attacked: Mapping[str, Float[Tensor, "n *shape"]],
) -> dict[str, TransferScore]:
    """Score a victim on the clean images and on each set of attacked images.

    Args:
        victim: images to logits.
        x: the clean images.
        y: true classes.
        attacked: the attacked images of each surrogate, by its name.

    Returns:
        A score per set of images, by name: "clean" first, then the surrogates in their order.
    """
    clean_correct = correct(victim, x, y)
    hits = {CLEAN: clean_correct} | {name: correct(victim, x_adv, y) for name, x_adv in attacked.items()}
    return {name: _score(clean_correct, right) for name, right in hits.items()}


def _score(clean_correct: Tensor, attacked_correct: Tensor) -> TransferScore:
    lost = int((clean_correct & ~attacked_correct).sum())
    return TransferScore(
        accuracy=proportion(int(attacked_correct.sum()), len(attacked_correct)),
        fooled=proportion(lost, int(clean_correct.sum())),
        correct=attacked_correct,
    )
