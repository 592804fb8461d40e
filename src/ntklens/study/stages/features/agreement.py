"""Whether kernels of other architectures have the same features (claim C4)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.attacks.balls import per_sample
from ntklens.features import (
    NTKFeatures,
    Threat,
    chance_of_outputs,
    common_spaces,
    eigenfeatures,
    feature_outputs,
    match,
    output_agreement,
    picture_cosine,
    principal_cosines,
    random_match,
    random_overlap,
    scalar_pictures,
    subspace_overlap,
)
from ntklens.machine import KernelMachine
from ntklens.networks import NetworkSource, labels, network_source
from ntklens.progress import Progress
from ntklens.statistics import mean, rank_correlation
from ntklens.study.context import Arrays, Context, Rows
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.turns import by_turns
from ntklens.study.streams import Stream
from ntklens.vocabulary import OUTPUT_COSINE

_PICTURED = 6
"""Number of features that are pictured side by side."""
_DRAWS = 200
"""Number of random draws that tell what chance gives."""

Interval = tuple[float, float]
"""The central 95 % of what chance gives."""


def agreement(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress
) -> tuple[dict[str, Rows], Arrays]:
    """Compare the first features of the experiment's kernel with those of other architectures' kernels.

    The kernels are fitted on the same images; where `spec.compare_train` asks for fewer, on the first ones of each class.
    Pictures are turned to the sign of the first kernel's output for the true class.

    Returns:
        The tables "consistency" (one row per other kernel and measure, each with what chance gives) and "side_by_side",
        and the arrays of the pictures and of the principal cosines.
    """
    own = context.network
    others = [source for source in map(network_source, dict.fromkeys(spec.compare)) if source != own]
    if not others:
        return {}, {}
    x, y = context.train
    x_test, y_test = context.test
    sample = torch.tensor(by_turns(y, spec.compare_train or len(y)), device=x.device).sort().values
    if len(sample) < len(x):
        features = _features_of(context, own, x[sample], y[sample])
    n = len(features.eigenvectors)
    k = min(spec.subspace, n // 2)
    chance = (
        random_overlap(n, k, _DRAWS, context.generator(Stream.CHANCE_OVERLAP)),
        random_match(n, k, _DRAWS, context.generator(Stream.CHANCE_MATCH)),
    )
    images = by_turns(y_test, spec.compare_images)
    first = _Side(context, spec, features, k, images)
    class_signs = _signs_for_class(features, int(y_test[images[0]]))[:k]
    class_signs = per_sample(class_signs, first.pictures[:, 0]).to(first.pictures)
    rows: Rows = []
    side_by_side = [(class_signs * first.pictures[:, 0])[:_PICTURED].cpu().numpy()]
    cosines: Arrays = {}
    name_of = labels([own, *others])
    for done, source in enumerate(others, 1):
        name = name_of[source]
        other = _Side(context, spec, _features_of(context, source, x[sample], y[sample]), k, images)
        partners, match_cosines = match(first.vectors, other.vectors)
        pair = {"kernel_a": name_of[own], "kernel_b": name}
        rows.append(pair | _at_held_out_images(context, spec, first, other, done))
        rows += [pair | row for row in _measures(context, first, other, partners, match_cosines, chance)]
        # An eigenvector is determined up to its sign only: turn each partner to the sign of its match.
        matched = other.pictures[partners, 0]
        match_signs = torch.where(match_cosines < 0, -1.0, 1.0)
        matched = matched * per_sample(match_signs, matched).to(matched)
        side_by_side.append((class_signs * matched)[:_PICTURED].cpu().numpy())
        cosines[f"principal_{name}"] = principal_cosines(first.vectors, other.vectors).cpu().numpy()
        progress.step(done, len(others))
    tables: dict[str, Rows] = {
        "consistency": rows,
        "side_by_side": [{"kernel": name_of[source]} for source in (own, *others)],
    }
    arrays: Arrays = {
        "side_by_side": np.stack(side_by_side),
        "side_by_side_image": x_test[images[:1]].cpu().numpy(),
        **cosines,
    }
    return tables, arrays


class _Side:
    """The first k features of one kernel, as they are compared.

    Attributes:
        features: all features.
        eigenvalues: (k,).
        outputs: (m, k), scalars of the features at test images.
        vectors: (n, k) eigenvectors.
        pictures: (k, m, C, H, W), their gradients at m test images.
        robustness: (k,), on test images under one step.
        energy: (k,), their label energy.
    """

    def __init__(self, context: Context, spec: FeaturesSpec, features: NTKFeatures, k: int, images: list[int]) -> None:
        x, y = context.test
        threat = context.threat
        sample = slice(0, spec.compare_test)
        self.features = features
        self.eigenvalues = features.eigenvalues[:k]
        self.outputs = feature_outputs(features, x[sample], k)
        self.vectors = features.eigenvectors[:, :k]
        self.pictures = scalar_pictures(features, x[images], self.vectors / features.eigenvalues[:k])
        one_step = Threat(threat.eps, threat.norm)
        self.robustness = features.robustness(x[sample], y[sample], one_step, range(k)).values
        self.energy = features.label_energy[:k].cpu().numpy()


def _features_of(context: Context, source: NetworkSource, x: Tensor, y: Tensor) -> NTKFeatures:
    machine = KernelMachine(context.kernel(source), context.machine.filter)
    return eigenfeatures(machine.fit(x, y))


def _signs_for_class(features: NTKFeatures, label: int) -> Tensor:
    """Return the sign of each feature's weight in the output for a class, (n,)."""
    weights = features.weights
    # With two classes there is one output, which is positive for class 1.
    column = weights[:, 0] * (2 * label - 1) if weights.shape[1] == 1 else weights[:, label]
    return torch.where(column < 0, -1.0, 1.0)


def _measures(
    context: Context,
    first: _Side,
    other: _Side,
    partners: Tensor,
    match_cosines: Tensor,
    chance: tuple[Interval, Interval],
) -> Rows:
    """Return one row per measure of agreement, each with the interval that chance gives.

    Args:
        context: of the experiment.
        first: the experiment's kernel.
        other: the kernel that is compared with it.
        partners: (k,), the other kernel's feature that is matched with each of the first kernel's.
        match_cosines: (k,), cosines between the eigenvectors of each pair.
        chance: of the overlap, and of the squared cosines.
    """
    k = first.vectors.shape[1]
    order = partners.cpu().numpy()
    overlap = subspace_overlap(first.vectors, other.vectors)
    squared = float(match_cosines.square().mean())
    pairs = zip(first.pictures, other.pictures[partners], strict=True)
    alike = mean([float(picture_cosine(a, b).mean()) for a, b in pairs])
    return [
        _row(f"overlap of the top {k} eigenspaces", {"value": overlap, "low": None, "high": None}, chance[0]),
        _row("squared cosine of matched eigenvectors", {"value": squared, "low": None, "high": None}, chance[1]),
        _correlation("label energy of matched features", first.energy, other.energy[order]),
        _correlation("robustness of matched features", first.robustness, other.robustness[order]),
        _row("cosine of matched pictures", alike.row(), _chance_of_pictures(context, first, other)),
    ]


def _at_held_out_images(
    context: Context, spec: FeaturesSpec, first: _Side, other: _Side, number: int
) -> dict[str, Any]:
    """Return the agreement of the features' outputs at test images, with what features of the same spectrum give.

    Args:
        context: of the experiment.
        spec: how many test images.
        first: the experiment's kernel.
        other: the kernel that is compared with it.
        number: of the other kernel, for its draws.
    """
    generator = context.generator(Stream.CHANCE_OUTPUTS, number)
    k = len(first.eigenvalues)
    none = {"value": None, "low": None, "high": None}
    if len(first.outputs) <= k:  # k functions span all values at as few images
        return _row(OUTPUT_COSINE, none, (math.nan, math.nan))
    spaces = common_spaces(first.vectors, other.vectors, first.eigenvalues, other.eigenvalues)
    found = output_agreement(first.outputs, other.outputs, spaces, generator)
    rank = first.features.rank
    outputs = feature_outputs(first.features, context.test[0][: spec.compare_test], rank)
    draws = chance_of_outputs(outputs, first.features.eigenvalues[:rank], other.eigenvalues, _DRAWS, generator)
    low, high = np.quantile(draws, [0.025, 0.975])
    return _row(OUTPUT_COSINE, found.row(), (float(low), float(high))) | {"n": found.n}


def _chance_of_pictures(context: Context, first: _Side, other: _Side) -> Interval:
    """Return what the pictures of the same space of functions agree by when the space is turned at random."""
    k = len(other.pictures)
    draws: list[float] = []
    for draw in range(_DRAWS):
        generator = context.generator(Stream.CHANCE_PICTURES, draw)
        # The Q of a Gaussian matrix is a random orthogonal one.
        rotation, _ = torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64))
        turned = torch.einsum("ij,j...->i...", rotation.to(other.pictures), other.pictures)
        cosines = [picture_cosine(a, b).mean() for a, b in zip(first.pictures, turned, strict=True)]
        draws.append(float(torch.stack(cosines).mean()))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _row(measure: str, value: dict[str, Any], chance: Interval) -> dict[str, Any]:
    return {"measure": measure, "n": None, **value, "null_low": chance[0], "null_high": chance[1]}


def _correlation(measure: str, a: NDArray[Any], b: NDArray[Any]) -> dict[str, Any]:
    """Return Spearman's correlation of k pairs; independent ranks give ± 1.96 / sqrt(k - 1) in 95 % of the cases."""
    bound = 1.96 / max(len(a) - 1, 1) ** 0.5
    return _row(f"rank correlation of the {measure}", rank_correlation(a, b).row(), (-bound, bound))
