"""What each feature is worth alone: its usefulness, its robustness to an attack on itself, and its category."""

from __future__ import annotations

import torch
from torch import Tensor

from ntklens.dynamics.measures import effective_rank
from ntklens.features import FeatureScores, NTKFeatures, Threat, categories, halves
from ntklens.progress import Progress
from ntklens.study.context import Context, Rows
from ntklens.study.spec import FeaturesSpec
from ntklens.study.streams import Stream
from ntklens.vocabulary import FRAGILE, ROBUST


def scores(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Score each feature on the test images and sort it into a category: once by all images, and once by half of them.

    What is chosen by its score on some images is worth less on others. So machines and networks of chosen features take
    the categories `by_half`, and are scored on the other half.

    Returns:
        The tables "features" (one row per feature), "features_meta" and "spectrum_meta".
    """
    x, y = context.test
    threat = context.threat
    indices = range(min(spec.scored or features.rank, features.rank))
    one_step_share = 0.3 if spec.steps > 1 else 1.0
    under_one_step = features.outcomes(
        x, y, Threat(threat.eps, threat.norm), indices, progress=progress.part(0.0, one_step_share)
    )
    outcomes = under_one_step
    if spec.steps > 1:
        several_steps = Threat(threat.eps, threat.norm, spec.steps, threat.step_size)
        outcomes = features.outcomes(
            x, y, several_steps, indices, progress=progress.part(one_step_share, 1 - one_step_share)
        )
    usefulness = FeatureScores.of(indices, outcomes.clean)
    robustness = FeatureScores.of(indices, outcomes.attacked)
    one_step = FeatureScores.of(indices, under_one_step.attacked)
    half = selection_half(context)
    by_all = categories(usefulness, robustness, majority(y))
    by_half = categories(
        FeatureScores.of(indices, outcomes.clean[:, half]),
        FeatureScores.of(indices, outcomes.attacked[:, half]),
        majority(y[half]),
    )
    rows: Rows = [
        {
            "index": i,
            "eigenvalue": float(features.eigenvalues[i]),
            "label_energy": float(features.label_energy[i]),
            **usefulness[i].row("usefulness"),
            **robustness[i].row("robustness"),
            "one_step": one_step[i].value,
            "category": by_all[i],
            "by_half": by_half[i],
        }
        for i in indices
    ]
    meta = {"majority": majority(y), "eps": threat.eps, "norm": threat.norm, "n": len(y), "steps": spec.steps}
    spectrum = {
        "n": len(features),
        "effective_rank": effective_rank(features.eigenvalues),
        "trace": float(features.eigenvalues.sum()),
    }
    return {"features": rows, "features_meta": [meta], "spectrum_meta": [spectrum]}


def selection_half(context: Context) -> Tensor:
    """Return which test images choose features, (n,): half of each class, by the seed. The others score the choice."""
    return halves(context.test[1], context.generator(Stream.HALVES))


def robust_and_fragile(rows: Rows, column: str) -> dict[str, list[int]]:
    """Return the indices of the robust and of the useful non-robust features.

    Args:
        rows: the table "features".
        column: "category" for the categories by all test images, "by_half" for those by half of them.
    """
    return {category: [int(r["index"]) for r in rows if r[column] == category] for category in (ROBUST, FRAGILE)}


def majority(y: Tensor) -> float:
    """Return the share of the most frequent class among images; 1 without any image."""
    return float(torch.bincount(y).max()) / len(y) if len(y) else 1.0
