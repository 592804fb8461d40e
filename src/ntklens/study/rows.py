"""Columns that several stages write: estimates with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ntklens.schema import bounds
from ntklens.statistics import Estimate, crossed_mean, mean, proportion


def share_right(right: Tensor) -> Estimate:
    """Return the share of images on which a prediction is right, with Wilson's interval.

    Args:
        right: (n,), whether the prediction on each image is right.
    """
    return proportion(int(right.sum()), len(right))


def accuracy_columns(right: Tensor) -> dict[str, Any]:
    """Return the columns of an accuracy, from whether the prediction on each image is right, (n,)."""
    accuracy = share_right(right)
    return accuracy.row("accuracy") | {"n": accuracy.n}


def over_seeds(shares: Sequence[float], column: str) -> dict[str, Any]:
    """Return the columns of a mean over seeds with Student's interval; one seed gives no interval."""
    estimate = mean(shares, within=(0, 1))
    row: dict[str, Any] = estimate.row(column)
    return row | dict.fromkeys(bounds(column)) if estimate.n < 2 else row


def over_both(differences: Tensor) -> dict[str, Any]:
    """Return the columns of a mean over seeds and images, with an interval over both and the share that is due to seeds.

    Args:
        differences: (seeds, n), a number per seed and image.
    """
    estimate, seed_share = crossed_mean(differences.cpu().numpy())
    return estimate.row() | {"n": estimate.n, "seeds": len(differences), "seed_share": seed_share}
