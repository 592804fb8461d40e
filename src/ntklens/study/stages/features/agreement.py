"""Whether kernels of other architectures have the same features (claim C4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.attacks.balls import per_sample
from ntklens.features import (
    NTKFeatures,
    Threat,
    eigenfeatures,
    match,
    picture_cosine,
    principal_cosines,
    random_match,
    random_overlap,
    scalar_pictures,
    subspace_overlap,
)
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.statistics import mean, rank_correlation
from ntklens.study.context import Context
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.features.pictures import in_turn
from ntklens.study.streams import Stream

_SHOWN = 6
"""Features that are pictured side by side."""
_DRAWS = 200
"""Of what chance gives."""


def agreement(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, NDArray[Any]]]:
    """For each other kernel: subspaces, matched features, their labels, robustness and pictures, each with its null.

    The kernels are fitted on the same images; where `spec.compare_train` is fewer, on the first ones of each class. The
    pictures have the sign of their output for the true class.
    """
    own = context.spec.kernel.architecture
    others = [a for a in spec.compare if a != own]
    if not others:
        return {}, {}
    x, y = context.train
    some = torch.tensor(in_turn(y, spec.compare_train or len(y)), device=x.device).sort().values
    if len(some) < len(x):
        features = _of(context, own, x[some], y[some])
    n = len(features.eigenvectors)
    k = min(spec.subspace, n // 2)
    nulls = (
        random_overlap(n, k, _DRAWS, context.generator(Stream.CHANCE_OVERLAP)),
        random_match(n, k, _DRAWS, context.generator(Stream.CHANCE_MATCH)),
    )
    columns = in_turn(context.test[1], spec.compare_images)
    mine = _Side(context, features, k, columns)
    rows: list[dict[str, Any]] = []
    towards = _towards(features, int(context.test[1][columns[0]]))[:k]
    towards = per_sample(towards, x).to(mine.pictures)
    shown: list[NDArray[Any]] = [(towards * mine.pictures[:, 0])[:_SHOWN].cpu().numpy()]
    cosines: dict[str, NDArray[Any]] = {}
    for done, name in enumerate(others, 1):
        other = _Side(context, _of(context, name, x[some], y[some]), k, columns)
        made, order, signs = _compare(context, mine, other, nulls)
        rows += [{"kernel_a": own, "kernel_b": name, **row} for row in made]
        signed = other.pictures[order, 0] * per_sample(signs, x).to(other.pictures)
        shown.append((towards * signed)[:_SHOWN].cpu().numpy())
        cosines[f"principal_{name}"] = principal_cosines(mine.vectors, other.vectors).cpu().numpy()
        progress(done / len(others))
    meta = [{"kernel": name} for name in (own, *others)]
    image = context.test[0][columns[:1]].cpu().numpy()
    return (
        {"consistency": rows, "side_by_side": meta},
        {"side_by_side": np.stack(shown), "side_by_side_image": image, **cosines},
    )


def _towards(features: NTKFeatures, label: int) -> Tensor:
    """Sign of each feature's weight for a class."""
    column = features.weights[:, 0] * (2 * label - 1) if features.weights.shape[1] == 1 else features.weights[:, label]
    return torch.where(column < 0, -1.0, 1.0)


def _of(context: Context, architecture: str, x: Tensor, y: Tensor) -> NTKFeatures:
    return eigenfeatures(KernelMachine(context.kernel(architecture), context.machine.filter).fit(x, y))


class _Side:
    """One kernel's first features: vectors, pictures at some test images, robustness on the test set."""

    def __init__(self, context: Context, features: NTKFeatures, k: int, columns: list[int]) -> None:
        spec = context.spec.features or FeaturesSpec()
        (x, y), attack = context.test, context.threat
        self.features, self.vectors = features, features.eigenvectors[:, :k]
        self.pictures = scalar_pictures(features, x[columns], self.vectors / features.eigenvalues[:k])
        part = slice(0, spec.compare_test)
        threat = Threat(attack.eps, attack.norm)
        self.robustness = features.robustness(x[part], y[part], threat, range(k)).values
        self.energy = features.label_energy[:k].cpu().numpy()


def _compare(
    context: Context, mine: _Side, other: _Side, nulls: tuple[tuple[float, float], tuple[float, float]]
) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
    k = mine.vectors.shape[1]
    order, cosines = match(mine.vectors, other.vectors)
    partner = order.cpu().numpy()
    rows = [
        _row(f"overlap of the top {k} eigenspaces", subspace_overlap(mine.vectors, other.vectors), nulls[0]),
        _row("squared cosine of matched eigenvectors", float(cosines.square().mean()), nulls[1]),
        _correlation("label energy of matched features", mine.energy, other.energy[partner]),
        _correlation("robustness of matched features", mine.robustness, other.robustness[partner]),
    ]
    alike = [float(picture_cosine(a, b).mean()) for a, b in zip(mine.pictures, other.pictures[order], strict=True)]
    draws: list[float] = []
    for _ in range(_DRAWS):  # pictures of the same space of functions, turned at random
        generator = context.generator(Stream.CHANCE_PICTURES, len(draws))
        turn, _ = torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64))
        turned = torch.einsum("ij,j...->i...", turn.to(other.pictures), other.pictures)
        pairs = zip(mine.pictures, turned, strict=True)
        draws.append(float(torch.stack([picture_cosine(a, b).mean() for a, b in pairs]).mean()))
    low, high = np.quantile(draws, [0.025, 0.975])
    estimate = mean(alike)
    rows.append(
        {"measure": "cosine of matched pictures", "value": estimate.value, "low": estimate.low, "high": estimate.high}
        | {"null_low": float(low), "null_high": float(high)}
    )
    return rows, order, torch.where(cosines < 0, -1.0, 1.0)


def _row(measure: str, value: float, null: tuple[float, float]) -> dict[str, Any]:
    return {"measure": measure, "value": value, "low": None, "high": None, "null_low": null[0], "null_high": null[1]}


def _correlation(measure: str, a: NDArray[Any], b: NDArray[Any]) -> dict[str, Any]:
    """Spearman's, with its interval; the null of independent ranks is central 95 % of ± 1.96 / sqrt(k - 1)."""
    found = rank_correlation(a, b)
    bound = 1.96 / max(len(a) - 1, 1) ** 0.5
    row = {"measure": f"rank correlation of the {measure}", "value": found.value, "low": found.low, "high": found.high}
    return row | {"null_low": -bound, "null_high": bound}
