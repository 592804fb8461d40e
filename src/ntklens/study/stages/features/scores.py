"""What each feature is worth, what machines of chosen ones are, and what a time or a ridge keeps."""

from __future__ import annotations

import math
from typing import Any

import torch

from ntklens.attacks import accuracy, fgsm
from ntklens.dynamics.measures import effective_rank
from ntklens.features import FRAGILE, ROBUST, UNSCORED, FeatureScores, NTKFeatures, Threat, bands, categories, subsets
from ntklens.linalg import Filter, GradientFlow, Ridge
from ntklens.machine import KernelMachine
from ntklens.statistics import Estimate
from ntklens.study.context import Context, Progress
from ntklens.study.spec import FeaturesSpec

Rows = list[dict[str, Any]]


def scores(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Usefulness of each feature, its robustness to an attack on itself, and its category."""
    (x, y), attack = context.test, context.attack
    count = min(spec.scored or len(features), len(features))
    indices = range(count)
    useful = features.usefulness(x, y, indices)
    one_step = features.robustness(x, y, Threat(attack.eps, attack.norm), indices, progress=lambda s: progress(0.3 * s))
    robust = one_step
    if spec.steps > 1:
        threat = Threat(attack.eps, attack.norm, spec.steps, attack.step_size)
        robust = features.robustness(x, y, threat, indices, progress=lambda s: progress(0.3 + 0.7 * s))
    majority = _majority(context)
    names = categories(useful, robust, majority)
    energy = features.label_energy
    rows = []
    for i in indices:
        row = {"index": i, "eigenvalue": float(features.eigenvalues[i]), "label_energy": float(energy[i])}
        row |= {**useful[i].row("usefulness"), **robust[i].row("robustness"), "one_step": one_step[i].value}
        rows.append(row | {"category": names[i]})
    meta = {"majority": majority, "eps": attack.eps, "norm": attack.norm, "n": len(y), "steps": spec.steps}
    spectrum = {
        "n": len(features),
        "effective_rank": effective_rank(features.eigenvalues),
        "trace": float(features.eigenvalues.sum()),
    }
    return {"features": rows, "features_meta": [meta], "spectrum_meta": [spectrum]}


def categorised(rows: Rows) -> dict[str, list[int]]:
    """Indices of the robust and of the useful non-robust features among those scored."""
    return {kind: [int(r["index"]) for r in rows if r["category"] == kind] for kind in (ROBUST, FRAGILE)}


def kept_features(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, scored: Rows, progress: Progress
) -> dict[str, Rows]:
    """Machines of the first k features, and of the features of each category."""
    sizes = sorted({k for k in spec.top_k if k < len(features)} | {len(features)})
    names = [str(r["category"]) for r in scored] + [UNSCORED] * (len(features) - len(scored))
    sets = {name: indices for name, indices in subsets(names).items() if indices}
    top, chosen = [], []
    for k in sizes:
        top.append({"k": k, **_row(context, features.keep(range(k)))})
        progress(len(top) / (len(sizes) + len(sets)))
    for name, indices in sets.items():
        energy = float(features.label_energy[indices].sum())
        made = {"features": name, "count": len(indices), "label_energy": energy}
        chosen.append(made | _row(context, features.keep(indices)))
        progress((len(top) + len(chosen)) / (len(sizes) + len(sets)))
    return {"top_k": top, "subsets": chosen}


def scored_bands(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Machines of the features from one of `spec.top_k` to the next, sorted by the rule for single features.

    Features that each say too little for a test of thousands may say much together.
    """
    parts = bands((0, *sorted(set(spec.top_k))), len(features))
    found = []
    for part in parts:
        found.append(_measured(context, features.keep(part)))
        progress(len(found) / len(parts))
    clean, robust = (FeatureScores(tuple(range(len(parts))), side) for side in zip(*found, strict=True))
    kinds = categories(clean, robust, _majority(context))
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
        rows.append(row | _row(context, features.machine.refilter(filter)))
        progress(done / len(knobs))
    return {"trade_off": sorted(rows, key=lambda r: (r["knob"], r["value"]))}


def _majority(context: Context) -> float:
    """Share of the most frequent class among the test images."""
    y = context.test[1]
    return float(torch.bincount(y).max()) / len(y)


def _row(context: Context, machine: KernelMachine) -> dict[str, Any]:
    return _columns(*_measured(context, machine))


def _measured(context: Context, machine: KernelMachine) -> tuple[Estimate, Estimate]:
    """Accuracy on the test images and on their one-step examples."""
    (x, y), attack = context.test, context.attack
    return accuracy(machine, x, y), accuracy(machine, fgsm(machine, x, y, attack.eps, attack.norm), y)


def _columns(clean: Estimate, robust: Estimate) -> dict[str, Any]:
    row = {"accuracy": clean.value, "low": clean.low, "high": clean.high, "n": clean.n}
    return row | {"robust_accuracy": robust.value, "robust_low": robust.low, "robust_high": robust.high}
