"""Which training images carry the useful non-robust features, and what networks learn from data without them."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ntklens.attacks import accuracy
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
from ntklens.networks import BinaryLogits, build, train
from ntklens.statistics import mean
from ntklens.study.context import Context, Progress
from ntklens.study.spec import FeaturesSpec

_SHOWN = 6
"""Images pictured at each end."""


def who_carries_them(
    context: Context, features: NTKFeatures, kinds: dict[str, list[int]]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, NDArray[Any]]]:
    """The label energy of the robust and of the useful non-robust features, by class and by training image."""
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

    The projected labels of the last robust set are kept as arrays for the export.
    """
    if not spec.robust_networks:
        return {}, {}
    sets = {f"first {k}": list(range(k)) for k in spec.robust_ranks if k < len(features)}
    if kinds[ROBUST]:
        sets = {"robust and useful": kinds[ROBUST], **sets}
    targets = features.machine.targets
    x, y = features.machine.train_inputs, context.train[1]
    data: list[tuple[str, str, int, ProjectedData]] = [
        ("original", "", len(features), ProjectedData(x, targets, y, len(features), "labels"))
    ]
    for name, indices in sets.items():
        for kind in ("labels", "images"):
            control = random_dataset(features, len(indices), kind, context.generator(9, len(indices)))
            data.append((f"features: {name}", kind, len(indices), robust_dataset(features, indices, kind)))
            data.append(("random", kind, len(indices), control))
    rows = []
    total, done = len(spec.robust_networks) * len(data) * spec.robust_seeds, 0
    for architecture in spec.robust_networks:
        for name, kind, rank, made in data:
            clean, robust = [], []
            for seed in range(spec.robust_seeds):
                network = _trained(context, spec, architecture, made, seed)
                clean.append(accuracy(network, *context.test).value)
                robust.append(accuracy(network, context.images_of("pgd", network), context.test[1]).value)
                done += 1
                progress(done / total)
            a, b = (mean(shares, within=(0, 1)) for shares in (clean, robust))
            row = {"network": architecture, "trained_on": name, "projected": kind or "nothing", "rank": rank}
            row |= {"accuracy": a.value, "low": a.low, "high": a.high, "seeds": a.n}
            rows.append(row | {"robust_accuracy": b.value, "robust_low": b.low, "robust_high": b.high})
    return {"robust_data": rows}, _export(context, features, sets)


def _trained(context: Context, spec: FeaturesSpec, architecture: str, data: ProjectedData, seed: int) -> nn.Module:
    """A network in torch's own parametrisation, trained by SGD on the squared error."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(1 << 31, (1,), generator=context.generator(8, seed))))
        network = build(architecture, context.data.shape, context.outputs, width=spec.robust_width)
    network = train(
        network.to(context.spec.device),
        data.x,
        data.targets.to(data.x),
        epochs=spec.robust_epochs,
        batch_size=50,
        learning_rate=0.02,
        generator=context.generator(8, seed, 1),
    )
    return BinaryLogits(network).eval() if context.outputs == 1 else network


def _export(context: Context, features: NTKFeatures, sets: dict[str, list[int]]) -> dict[str, NDArray[Any]]:
    """The last of the robust sets, for `export_robust_data`."""
    if not sets:
        return {}
    indices = next(reversed(sets.values()))
    labels, images = (robust_dataset(features, indices, kind) for kind in ("labels", "images"))
    arrays: dict[str, Tensor] = {
        "robust_targets": labels.targets,
        "robust_images": images.x,
        "robust_y": context.train[1],
    }
    return {name: array.cpu().numpy() for name, array in arrays.items()}
