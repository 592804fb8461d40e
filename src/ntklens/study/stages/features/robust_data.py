"""Which training images carry the useful non-robust features, and what networks learn from data without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ntklens.attacks import correct
from ntklens.features import (
    FRAGILE,
    ROBUST,
    NTKFeatures,
    ProjectedData,
    attribution,
    class_shares,
    random_dataset,
    robust_dataset,
)
from ntklens.features.robust_data import Kind
from ntklens.networks import BinaryLogits, build, train
from ntklens.progress import Progress
from ntklens.statistics import mean
from ntklens.study.context import Context
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.features.scores import choosing
from ntklens.study.streams import Stream

_SHOWN = 6
"""Images pictured at each end."""
_KINDS: tuple[Kind, ...] = ("labels", "images")


def who_carries_them(
    context: Context, features: NTKFeatures, kinds: dict[str, list[int]]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, NDArray[Any]]]:
    """The label energy of the robust and of the useful non-robust features, by class and by training image."""
    if not any(kinds.values()):
        return {}, {}
    (x, y), names = context.train, context.data.classes
    arrays: dict[str, NDArray[Any]] = {}
    rows: list[dict[str, Any]] = [{"class": name, "images": int((y == c).sum())} for c, name in enumerate(names)]
    shown: list[dict[str, Any]] = []
    for kind in (ROBUST, FRAGILE):
        each = attribution(features, kinds[kind])
        share = class_shares(each, y)
        for c, row in enumerate(rows):
            row[kind] = float(share[c])
        key = "robust" if kind == ROBUST else "fragile"
        arrays[f"attribution_{key}"] = each.cpu().numpy()
        if kinds[kind]:
            top = each.argsort(descending=True, stable=True)[:_SHOWN].tolist()
            arrays[f"carriers_{key}"] = x[top].cpu().numpy()
            shown += [{"features": kind, "index": i, "label": names[int(y[i])], "share": float(each[i])} for i in top]
    return {"attribution": rows, "carriers": shown}, arrays


def networks_on_robust_data(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, kinds: dict[str, list[int]], progress: Progress
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, NDArray[Any]]]:
    """Clean and robust accuracy of networks trained on the original set, on robust ones, and on random ones of one rank.

    Each seed has a random subspace of its own. Features that were chosen by half of the test images are tested on the other
    half. The images of the last robust set are kept as arrays for the export.
    """
    if not spec.robust_networks:
        return {}, {}
    sets = {f"first {k}": list(range(k)) for k in spec.robust_ranks if k < len(features)}
    others = ~choosing(context.test[1])
    chosen = {ROBUST: kinds[ROBUST]} if kinds[ROBUST] and bool(others.any()) else {}
    sets = {**chosen, **sets}
    x, y = features.machine.train_inputs, context.train[1]
    whole = ProjectedData(x, features.machine.targets, y, len(features), "labels")
    plan = [_Variant("original", "nothing", len(features), [whole] * spec.robust_seeds)]
    for name, indices in sets.items():
        for kind in _KINDS:
            same = [robust_dataset(features, indices, kind)] * spec.robust_seeds
            plan.append(_Variant(f"features: {name}", kind, len(indices), same, name in chosen))
    for rank in dict.fromkeys(len(indices) for indices in sets.values()):
        for kind in _KINDS:
            draws = (context.generator(Stream.RANDOM_PROJECTION, rank, seed) for seed in range(spec.robust_seeds))
            plan.append(_Variant("random", kind, rank, [random_dataset(features, rank, kind, g) for g in draws]))
    rows = []
    total, done = len(spec.robust_networks) * len(plan) * spec.robust_seeds, 0
    for architecture in spec.robust_networks:
        for data in plan:
            clean, robust = [], []
            part = others if data.chosen else torch.ones_like(others)
            for seed, made in enumerate(data.sets):
                network = _trained(context, spec, architecture, made, seed)
                right = correct(network, *context.test)
                attacked = right & correct(network, context.attacked_test("pgd", network), context.test[1])
                clean.append(float(right[part].double().mean()))
                robust.append(float(attacked[part].double().mean()))
                done += 1
                progress(done / total)
            a, b = (mean(shares, within=(0, 1)) for shares in (clean, robust))
            row = {"network": architecture, "trained_on": data.name, "projected": data.kind, "rank": data.rank}
            row |= {"accuracy": a.value, "low": a.low, "high": a.high, "seeds": a.n, "n": int(part.sum())}
            row |= {"robust_accuracy": b.value, "robust_low": b.low, "robust_high": b.high}
            one = dict.fromkeys(("low", "high", "robust_low", "robust_high")) if a.n < 2 else {}
            rows.append(row | one)
    return {"robust_data": rows}, _export(context, features, sets)


@dataclass(frozen=True)
class _Variant:
    """The training set as it is, or changed in one way.

    Attributes:
        name: of it.
        kind: "labels", "images" or "nothing".
        rank: of what is left.
        sets: one a seed.
        chosen: whether its features were chosen by their scores on some test images.
    """

    name: str
    kind: str
    rank: int
    sets: list[ProjectedData]
    chosen: bool = False


def _trained(context: Context, spec: FeaturesSpec, architecture: str, data: ProjectedData, seed: int) -> nn.Module:
    """A network in torch's own parametrisation, trained by SGD on the squared error."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(1 << 31, (1,), generator=context.generator(Stream.ROBUST_NETWORK, seed))))
        network = build(architecture, context.data.shape, context.outputs, width=spec.robust_width)
    network = train(
        network.to(context.spec.device),
        data.x,
        data.targets.to(data.x),
        epochs=spec.robust_epochs,
        batch_size=50,
        learning_rate=0.02,
        generator=context.generator(Stream.ROBUST_NETWORK, seed, 1),
    )
    return BinaryLogits(network).eval() if context.outputs == 1 else network


def _export(context: Context, features: NTKFeatures, sets: dict[str, list[int]]) -> dict[str, NDArray[Any]]:
    """The last of the robust sets, for `export_robust_data`."""
    if not sets:
        return {}
    made = robust_dataset(features, next(reversed(sets.values())), "images")
    arrays: dict[str, Tensor] = {"robust_targets": made.targets, "robust_images": made.x, "robust_y": context.train[1]}
    return {name: array.cpu().numpy() for name, array in arrays.items()}
