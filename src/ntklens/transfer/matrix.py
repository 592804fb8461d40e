"""Surrogates against victims: who is fooled by whose images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.attacks import Model, correct
from ntklens.statistics import Estimate, proportion


@dataclass(frozen=True)
class Transfer:
    """One set of images on one victim.

    Attributes:
        source: where the images were made.
        victim: the model that sees them.
        accuracy: on the attacked images; 1 - accuracy is the first definition of success.
        fooled: of the images that the victim had right before, the share it has wrong now: the second definition.
        right: which are right now.
    """

    source: str
    victim: str
    accuracy: Estimate
    fooled: Estimate
    right: Bool[Tensor, " n"]


def transfer_matrix(
    sources: Mapping[str, Float[Tensor, "n *shape"]],
    victims: Mapping[str, Model],
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
) -> list[Transfer]:
    """Score every source on every victim; the source "clean" is x itself.

    Args:
        sources: attacked images by the name of what they were made on.
        victims: models by name.
        x: the clean images.
        y: true classes.
    """
    rows = []
    for name, victim in victims.items():
        before = correct(victim, x, y)
        for source, found in {"clean": x, **sources}.items():
            after = before if source == "clean" else correct(victim, found, y)
            rows.append(score(source, name, before, after))
    return rows


def score(source: str, victim: str, before: Tensor, after: Tensor) -> Transfer:
    """Both definitions of success from which predictions are right before and after."""
    lost = int((before & ~after).sum())
    return Transfer(
        source, victim, proportion(int(after.sum()), len(after)), proportion(lost, int(before.sum())), after
    )
