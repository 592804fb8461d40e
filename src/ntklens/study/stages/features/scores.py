"""What each feature is worth, what machines of chosen ones are, and what a time or a ridge keeps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ntklens.attacks import correct, fgsm
from ntklens.dynamics.measures import effective_rank
from ntklens.features import FRAGILE, ROBUST, UNSCORED, FeatureScores, NTKFeatures, Threat, bands, categories, subsets
from ntklens.linalg import Filter, GradientFlow, Ridge
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.statistics import Estimate, proportion
from ntklens.study.context import Context
from ntklens.study.spec import FeaturesSpec

Rows = list[dict[str, Any]]


def scores(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Usefulness of each feature, its robustness to an attack on itself, and its category: by all test images, and by half.

    Machines of chosen features are scored on the other half, of which the choice knows nothing.
    """
    (x, y), attack = context.test, context.threat
    indices = range(min(spec.scored or features.rank, features.rank))
    several = spec.steps > 1
    one = Threat(attack.eps, attack.norm)
    first = features.outcomes(x, y, one, indices, progress=progress.part(0.0, 0.3 if several else 1.0))
    made = first
    if several:
        threat = Threat(attack.eps, attack.norm, spec.steps, attack.step_size)
        made = features.outcomes(x, y, threat, indices, progress=progress.part(0.3, 0.7))
    useful, robust, one_step = (FeatureScores.of(indices, r) for r in (made.clean, made.attacked, first.attacked))
    names, half = categories(useful, robust, majority(y)), choosing(y)
    some, kept = (FeatureScores.of(indices, right[:, half]) for right in (made.clean, made.attacked))
    chosen = categories(some, kept, majority(y[half]))
    energy = features.label_energy
    rows = []
    for i in indices:
        row = {"index": i, "eigenvalue": float(features.eigenvalues[i]), "label_energy": float(energy[i])}
        row |= {**useful[i].row("usefulness"), **robust[i].row("robustness"), "one_step": one_step[i].value}
        rows.append(row | {"category": names[i], "by_half": chosen[i]})
    meta = {"majority": majority(y), "eps": attack.eps, "norm": attack.norm, "n": len(y), "steps": spec.steps}
    spectrum = {
        "n": len(features),
        "effective_rank": effective_rank(features.eigenvalues),
        "trace": float(features.eigenvalues.sum()),
    }
    return {"features": rows, "features_meta": [meta], "spectrum_meta": [spectrum]}


def choosing(y: Tensor) -> Tensor:
    """Which test images choose features, (n,): every second one of each class; the others score what was chosen."""
    half = torch.zeros_like(y, dtype=torch.bool)
    for c in torch.unique(y):
        half[(y == c).nonzero().flatten()[::2]] = True
    return half


def categorised(rows: Rows, key: str = "category") -> dict[str, list[int]]:
    """Indices of the robust and of the useful non-robust features among those scored, by all images or `by_half`."""
    return {kind: [int(r["index"]) for r in rows if r[key] == kind] for kind in (ROBUST, FRAGILE)}


def kept_features(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, scored: Rows, progress: Progress
) -> dict[str, Rows]:
    """Machines of the first k features, and of the features of each category, the latter on images that did not choose."""
    (x, y), total = context.test, features.rank
    sizes = sorted({k for k in spec.top_k if k < total} | {total})
    names = [str(r["by_half"]) for r in scored] + [UNSCORED] * (total - len(scored))
    sets = {name: indices for name, indices in subsets(names).items() if 0 < len(indices) < total or name == "all"}
    others = ~choosing(y)
    sets = sets if len(sets) > 1 and bool(others.any()) else {}
    top, chosen = [], []
    for k in sizes:
        top.append({"k": k, **_row(context, features.keep(range(k)), x, y)})
        progress(len(top) / (len(sizes) + len(sets)))
    for name, indices in sets.items():
        energy = float(features.label_energy[indices].sum())
        found = _row(context, features.keep(indices), x[others], y[others])
        chosen.append({"features": name, "count": len(indices), "label_energy": energy, **found})
        progress((len(top) + len(chosen)) / (len(sizes) + len(sets)))
    return {"top_k": top, "subsets": chosen}


def scored_bands(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Machines of the features from one of `spec.top_k` to the next, sorted by the rule for single features.

    Features that each say too little for a test of thousands may say much together.
    """
    parts = bands((0, *sorted(set(spec.top_k))), features.rank)
    found = []
    for part in parts:
        found.append(_measured(context, features.keep(part), *context.test))
        progress(len(found) / len(parts))
    clean, robust = (FeatureScores(tuple(range(len(parts))), side) for side in zip(*found, strict=True))
    kinds = categories(clean, robust, majority(context.test[1]))
    rows = []
    for part, kind, (c, r) in zip(parts, kinds, found, strict=True):
        energy = float(features.label_energy[part.start : part.stop].sum())
        place = {"first": part.start, "last": part.stop - 1, "count": len(part), "label_energy": energy}
        rows.append(place | _columns(c, r) | {"category": kind})
    return {"bands": rows}


def trade_off(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Accuracy, clean and under attack, over the training time and over the ridge."""
    largest, smallest = float(features.eigenvalues[0]), float(features.eigenvalues[-1])
    smallest = max(smallest, 1e-12 * largest)
    low, high = math.log10(0.1 / largest), math.log10(10 / smallest)
    knobs: list[tuple[str, float, Filter]] = []
    for place in torch.linspace(0, 1, spec.trade_off).tolist():
        time = 10 ** (low + place * (high - low))
        ridge = 10 ** (math.log10(0.1 * smallest) + place * (math.log10(10 * largest) - math.log10(0.1 * smallest)))
        knobs += [("time", time, GradientFlow(time)), ("ridge", ridge, Ridge(ridge))]
    rows = []
    for done, (knob, value, filter) in enumerate(knobs, 1):
        row = {"knob": knob, "value": value, "label_energy": features.learned(filter)}
        rows.append(row | _row(context, features.machine.refilter(filter, features.spectrum), *context.test))
        progress(done / len(knobs))
    return {"trade_off": sorted(rows, key=lambda r: (r["knob"], r["value"]))}


def majority(y: Tensor) -> float:
    """Share of the most frequent class among images."""
    return float(torch.bincount(y).max()) / len(y) if len(y) else 1.0


def _row(context: Context, machine: KernelMachine, x: Tensor, y: Tensor) -> dict[str, Any]:
    return _columns(*_measured(context, machine, x, y))


def _measured(context: Context, machine: KernelMachine, x: Tensor, y: Tensor) -> tuple[Estimate, Estimate]:
    """Accuracy on images, and on them and their one-step examples both."""
    clean = correct(machine, x, y)
    attacked = clean & correct(machine, fgsm(machine, x, y, context.threat.eps, context.threat.norm), y)
    return proportion(int(clean.sum()), len(y)), proportion(int(attacked.sum()), len(y))


def _columns(clean: Estimate, robust: Estimate) -> dict[str, Any]:
    row = {"accuracy": clean.value, "low": clean.low, "high": clean.high, "n": clean.n}
    return row | {"robust_accuracy": robust.value, "robust_low": robust.low, "robust_high": robust.high}
