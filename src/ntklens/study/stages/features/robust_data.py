"""What networks learn from data in which only some features are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.attacks import correct
from ntklens.features import NTKFeatures, ProjectedData, random_dataset, robust_dataset
from ntklens.features.robust_data import Kind
from ntklens.networks import BinaryLogits, labels, network_source, train
from ntklens.progress import Progress
from ntklens.study import networks
from ntklens.study.context import Arrays, Context, Rows
from ntklens.study.rows import over_seeds
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.features.scores import selection_half
from ntklens.study.streams import Stream
from ntklens.targets import class_logits
from ntklens.vocabulary import ROBUST

_PROJECTED: tuple[Kind, ...] = ("labels", "images")
"""What of the training set is projected on the chosen features."""


@dataclass(frozen=True)
class _Variant:
    """The training set as it is, or projected in one way.

    Attributes:
        name: "original", "features: ..." or "random".
        projected: "labels", "images" or "nothing".
        rank: number of features that are left.
        datasets: the training set of each seed.
        is_selected: whether the features were selected by their scores on half of the test images, so that the networks
            are tested on the other half alone.
    """

    name: str
    projected: str
    rank: int
    datasets: list[ProjectedData]
    is_selected: bool = False


def networks_on_robust_data(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, selected: dict[str, list[int]], progress: Progress
) -> tuple[dict[str, Rows], Arrays]:
    """Train networks on the original set, on robust ones, and on random ones of the same rank, and attack them.

    Args:
        context: of the experiment.
        features: all features.
        spec: architectures, ranks, seeds and epochs.
        selected: indices of the features of each category, selected by half of the test images.
        progress: receives the share done.

    Returns:
        The table "robust_data", one row per architecture and training set, and the arrays "robust_*": the images, targets
        and classes of the last robust set, for `export_robust_data`.
    """
    if not spec.robust_networks:
        return {}, {}
    y = context.test[1]
    scoring = ~selection_half(context)
    sets = _feature_sets(features, spec, selected, scoring)
    variants = _variants(context, features, spec, sets)
    name_of = labels(map(network_source, spec.robust_networks))
    total = len(spec.robust_networks) * len(variants) * spec.robust_seeds
    done = 0
    rows: Rows = []
    for architecture in spec.robust_networks:
        for variant in variants:
            counted = scoring if variant.is_selected else torch.ones_like(scoring)
            clean: list[float] = []
            robust: list[float] = []
            for seed, dataset in enumerate(variant.datasets):
                network = _trained(context, spec, architecture, dataset, seed)
                right = correct(network, *context.test)
                right_under_attack = right & correct(network, context.attacked_test("pgd", network), y)
                clean.append(float(right[counted].double().mean()))
                robust.append(float(right_under_attack[counted].double().mean()))
                done += 1
                progress.step(done, total)
            row: dict[str, Any] = {
                "network": name_of[network_source(architecture)],
                "trained_on": variant.name,
                "projected": variant.projected,
                "rank": variant.rank,
                "seeds": len(clean),
                "n": int(counted.sum()),
            }
            rows.append(row | over_seeds(clean, "accuracy") | over_seeds(robust, "robust_accuracy"))
    return {"robust_data": rows}, _export_arrays(context, features, sets)


def _feature_sets(
    features: NTKFeatures, spec: FeaturesSpec, selected: dict[str, list[int]], scoring: Tensor
) -> dict[str, list[int]]:
    """Return the sets of features that training sets are projected on: the robust ones, and the first ones."""
    firsts = {f"first {k}": list(range(k)) for k in spec.robust_ranks if k < len(features)}
    robust = {ROBUST: selected[ROBUST]} if selected[ROBUST] and bool(scoring.any()) else {}
    return robust | firsts


def _variants(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, sets: dict[str, list[int]]
) -> list[_Variant]:
    """Return the training sets: the original, its projections on each set, and random ones of each rank."""
    machine = features.machine
    original = ProjectedData(machine.train_inputs, machine.targets, context.train[1], len(features), "labels")
    variants = [_Variant("original", "nothing", len(features), [original] * spec.robust_seeds)]
    for name, indices in sets.items():
        for projected in _PROJECTED:
            datasets = [robust_dataset(features, indices, projected)] * spec.robust_seeds
            variants.append(_Variant(f"features: {name}", projected, len(indices), datasets, name == ROBUST))
    for rank in dict.fromkeys(len(indices) for indices in sets.values()):
        for projected in _PROJECTED:
            # Every seed draws a subspace of its own, so that the interval over the seeds covers the draw.
            generators = (context.generator(Stream.RANDOM_PROJECTION, rank, s) for s in range(spec.robust_seeds))
            draws = [random_dataset(features, rank, projected, generator) for generator in generators]
            variants.append(_Variant("random", projected, rank, draws))
    return variants


def _trained(context: Context, spec: FeaturesSpec, architecture: str, data: ProjectedData, seed: int) -> nn.Module:
    """Train a network in torch's own parametrisation by SGD on the squared error."""
    network = networks.initial_network(
        context,
        network_source(architecture),
        context.seed(Stream.ROBUST_NETWORK, seed),
        width=spec.robust_width,
        outputs=context.outputs,
    )
    if isinstance(network, BinaryLogits):
        network = network.network
    targets = data.targets.to(data.x)
    with torch.no_grad():
        outputs = network.eval()(data.x[:2]).shape[1]
    if (outputs, targets.shape[1]) == (2, 1):
        targets = class_logits(targets)  # a network with two logits in the place of the scalar f
    network = train(
        network,
        data.x,
        targets,
        epochs=spec.robust_epochs,
        batch_size=50,
        learning_rate=0.02,
        generator=context.generator(Stream.ROBUST_NETWORK, seed, 1),
    )
    return BinaryLogits(network).eval() if outputs == 1 else network


def _export_arrays(context: Context, features: NTKFeatures, sets: dict[str, list[int]]) -> Arrays:
    """Return the last robust set with projected images, for `export_robust_data`."""
    if not sets:
        return {}
    last = next(reversed(sets.values()))
    data = robust_dataset(features, last, "images")
    arrays: dict[str, Tensor] = {
        "robust_targets": data.targets,
        "robust_images": data.x,
        "robust_y": context.train[1],
    }
    return {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
