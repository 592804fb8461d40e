"""NTK features: which are useful, which robust, what they look like, and whether kernels agree on them (C3 to C6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ntklens.attacks import accuracy, fgsm
from ntklens.dynamics.measures import effective_rank
from ntklens.features import NTKFeatures, categories, eigenfeatures, random_overlap, subspace_overlap
from ntklens.machine import KernelMachine
from ntklens.statistics import Estimate, rank_correlation
from ntklens.study.context import Context, Progress, StageResult
from ntklens.study.spec import FeaturesSpec


def features_stage(context: Context, progress: Progress) -> StageResult:
    """Usefulness and robustness of each feature, top-k machines, pictures, and overlap with other kernels' features."""
    spec = context.spec.features or FeaturesSpec()
    features = eigenfeatures(context.machine)
    count = min(spec.scored or len(features), len(features))
    tables: dict[str, list[dict[str, Any]]] = {}
    tables |= _scores(context, features, count, lambda share: progress(0.6 * share))
    tables["top_k"] = _top_k(context, features, spec, lambda share: progress(0.6 + 0.1 * share))
    tables["consistency"] = _consistency(context, features, spec, lambda share: progress(0.7 + 0.25 * share))
    pictures, arrays = _pictures(context, features, spec, tables["features"])
    arrays |= {
        "eigenvalues": features.eigenvalues.cpu().numpy(),
        "label_energy": features.label_energy.cumsum(0).cpu().numpy(),
    }
    progress(1.0)
    return StageResult(tables | pictures, arrays)


def _scores(context: Context, features: NTKFeatures, count: int, progress: Progress) -> dict[str, list[dict[str, Any]]]:
    (x, y), attack = context.test, context.attack

    def one_step(model: KernelMachine, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return fgsm(model, images, labels, attack.eps, attack.norm)

    useful = features.usefulness(x, y, range(count))
    robust = features.robustness(x, y, one_step, range(count), progress=progress)
    majority = float(torch.bincount(y).max()) / len(y)
    names = categories(useful, robust, majority)
    rows = [
        {
            "index": i,
            "eigenvalue": float(features.eigenvalues[i]),
            **useful[i].row("usefulness"),
            **robust[i].row("robustness"),
            "category": names[i],
        }
        for i in range(count)
    ]
    meta = {"majority": majority, "eps": attack.eps, "norm": attack.norm, "n": len(y)}
    spectrum = {
        "n": len(features),
        "effective_rank": effective_rank(features.eigenvalues),
        "trace": float(features.eigenvalues.sum()),
    }
    return {"features": rows, "features_meta": [meta], "spectrum_meta": [spectrum]}


def _top_k(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> list[dict[str, Any]]:
    (x, y), attack = context.test, context.attack
    sizes = sorted({k for k in spec.top_k if k < len(features)} | {len(features)})
    rows = []
    for done, k in enumerate(sizes, 1):
        machine = features.keep(range(k))
        clean = accuracy(machine, x, y)
        robust = accuracy(machine, fgsm(machine, x, y, attack.eps, attack.norm), y)
        rows.append(
            {"k": k, "accuracy": clean.value, "low": clean.low, "high": clean.high, "n": clean.n}
            | {"robust_accuracy": robust.value, "robust_low": robust.low, "robust_high": robust.high}
        )
        progress(done / len(sizes))
    return rows


def _consistency(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress
) -> list[dict[str, Any]]:
    """For each other kernel: overlap of the top eigenspaces on the training images, and agreement on robustness."""
    (x, y), attack, own = context.test, context.attack, context.spec.kernel.architecture
    k, n = min(spec.subspace, len(features) // 2), len(features)
    low, high = random_overlap(n, k, 20, context.generator(5))
    indices = list(range(min(5 * k, n)))
    rows: list[dict[str, Any]] = []
    mine = features.robustness(x, y, attack.eps, indices).values
    others = [a for a in spec.compare if a != own]
    for done, name in enumerate(others, 1):
        other = eigenfeatures(KernelMachine(context.kernel(name), context.machine.filter).fit(*context.train))
        overlap = subspace_overlap(features.eigenvectors[:, :k], other.eigenvectors[:, :k])
        ranks = rank_correlation(mine, other.robustness(x, y, attack.eps, indices).values)
        pair = {"kernel_a": own, "kernel_b": name}
        rows.append(
            pair
            | {"measure": f"overlap of the top {k} eigenspaces", "value": overlap, "low": None, "high": None}
            | {"null_low": low, "null_high": high}
        )
        rows.append(
            pair
            | {"measure": f"rank correlation of robustness, features 0 to {indices[-1]}", **_bounds(ranks)}
            | {"null_low": None, "null_high": None}
        )
        progress(done / len(others))
    return rows


def _bounds(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _pictures(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, scores: list[dict[str, Any]]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, np.ndarray]]:
    """Gradient images of chosen features at the first test images of each class in turn."""
    x, y = context.test
    classes = len(context.data.classes)
    turns = [torch.nonzero(y == c).flatten().tolist() for c in range(classes)]
    columns = [q[r] for r in range(max(map(len, turns))) for q in turns if r < len(q)][: spec.images]
    rows = [i for i in spec.pictured if i < len(scores)]
    images, labels = x[columns], y[columns]
    grid = np.stack([features.picture(images, i, labels).cpu().numpy() for i in rows])
    tables = {
        "picture_rows": [{k: scores[i][k] for k in ("index", "usefulness", "robustness")} for i in rows],
        "picture_columns": [{"index": c, "label": context.data.classes[int(y[c])]} for c in columns],
    }
    return tables, {"picture_images": images.cpu().numpy(), "pictures": grid}
