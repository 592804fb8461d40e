"""Machines of chosen features, and what a training time or a ridge keeps of all of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ntklens.attacks import correct, fgsm
from ntklens.features import UNSCORED, FeatureScores, NTKFeatures, bands, categories, subsets
from ntklens.linalg import Filter, GradientFlow, Ridge
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.statistics import Estimate
from ntklens.study.context import Context, Rows
from ntklens.study.rows import share_right
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.features.head_tail import head_and_tail
from ntklens.study.stages.features.scores import majority, selection_half

_JOBS_OF_HEAD_AND_TAIL = 6
"""Share of head and tail in the progress, in machines that are attacked by one step."""


def first_features(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Score machines of the first k features on all test images, and head and tail on the scoring half.

    Args:
        context: of the experiment.
        features: all features.
        spec: `top_k` holds the numbers of first features.
        progress: receives the share done.

    Returns:
        The table "top_k", and those of `head_and_tail`.
    """
    rank = features.rank
    sizes = sorted({k for k in spec.top_k if k < rank} | {rank})
    jobs = len(sizes) + _JOBS_OF_HEAD_AND_TAIL
    rows: Rows = []
    one_step: dict[int, Tensor] = {}
    for k in sizes:
        clean, one_step[k] = _outcomes(context, features.keep(range(k)), *context.test)
        rows.append({"k": k, **_columns(share_right(clean), share_right(one_step[k]))})
        progress.step(len(rows), jobs)
    rest = progress.part(len(rows) / jobs, _JOBS_OF_HEAD_AND_TAIL / jobs)
    return {"top_k": rows} | head_and_tail(context, features, one_step, rest)


def kept_features(context: Context, features: NTKFeatures, scored: Rows, progress: Progress) -> dict[str, Rows]:
    """Score machines of each category of features on the scoring half of the test images.

    Args:
        context: of the experiment.
        features: all features.
        scored: the table "features", whose categories `by_half` are used.
        progress: receives the share done.

    Returns:
        The table "subsets".
    """
    x, y = context.test
    rank = features.rank
    names = [str(row["by_half"]) for row in scored] + [UNSCORED] * (rank - len(scored))
    sets = {name: indices for name, indices in subsets(names).items() if 0 < len(indices) < rank or name == "all"}
    scoring = ~selection_half(context)
    if len(sets) == 1 or not bool(scoring.any()):
        return {}  # "all" alone is the last row of "top_k"; and without images of the other half nothing can be scored
    rows: Rows = []
    for name, indices in sets.items():
        energy = float(features.label_energy[indices].sum())
        accuracies = _accuracies(context, features.keep(indices), x[scoring], y[scoring])
        rows.append({"features": name, "count": len(indices), "label_energy": energy, **_columns(*accuracies)})
        progress.step(len(rows), len(sets))
    return {"subsets": rows}


def scored_bands(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Score machines of the features from one of `spec.top_k` to the next, and sort them by the rule for single features.

    A test of thousands of features asks each one for strong evidence. Features that give too little of it one by one may
    give enough together.

    Returns:
        The table "bands", one row per band of the spectrum.
    """
    parts = bands((0, *sorted(set(spec.top_k))), features.rank)
    accuracies: list[tuple[Estimate, Estimate]] = []
    for band in parts:
        accuracies.append(_accuracies(context, features.keep(band), *context.test))
        progress.step(len(accuracies), len(parts))
    clean, robust = (FeatureScores(tuple(range(len(parts))), estimates) for estimates in zip(*accuracies, strict=True))
    names = categories(clean, robust, majority(context.test[1]))
    rows: Rows = []
    for band, category, pair in zip(parts, names, accuracies, strict=True):
        energy = float(features.label_energy[band.start : band.stop].sum())
        row = {"first": band.start, "last": band.stop - 1, "count": len(band), "label_energy": energy}
        rows.append(row | _columns(*pair) | {"category": category})
    return {"bands": rows}


def trade_off(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Measure accuracy, clean and under attack, over the training time and over the ridge.

    Both ranges are spread evenly on a logarithmic scale. Training times go from 0.1 / λ_1, before the first feature is
    learned, to 10 / λ_n, after the last one; ridges go from 0.1 λ_n to 10 λ_1 in the same way.

    Returns:
        The table "trade_off", one row per time and per ridge.
    """
    largest, smallest = float(features.eigenvalues[0]), float(features.eigenvalues[-1])
    smallest = max(smallest, 1e-12 * largest)
    # Exponents of ten.
    first_time, last_time = math.log10(0.1 / largest), math.log10(10 / smallest)
    first_ridge, last_ridge = math.log10(0.1 * smallest), math.log10(10 * largest)
    filters: list[tuple[str, float, Filter]] = []
    for share in torch.linspace(0, 1, spec.trade_off).tolist():
        time = 10 ** (first_time + share * (last_time - first_time))
        ridge = 10 ** (first_ridge + share * (last_ridge - first_ridge))
        filters += [("time", time, GradientFlow(time)), ("ridge", ridge, Ridge(ridge))]
    rows: Rows = []
    for done, (knob, value, filter) in enumerate(filters, 1):
        row = {"knob": knob, "value": value, "label_energy": features.learned(filter)}
        rows.append(row | _columns(*_accuracies(context, features.machine.refilter(filter), *context.test)))
        progress.step(done, len(filters))
    return {"trade_off": sorted(rows, key=lambda row: (row["knob"], row["value"]))}


def _accuracies(context: Context, machine: KernelMachine, x: Tensor, y: Tensor) -> tuple[Estimate, Estimate]:
    """Return the accuracy on images, and the share on which both the image and its one-step example are right."""
    clean, robust = _outcomes(context, machine, x, y)
    return share_right(clean), share_right(robust)


def _outcomes(context: Context, machine: KernelMachine, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return on which images a machine is right, and on which its one-step examples are right as well."""
    threat = context.threat
    clean = correct(machine, x, y)
    return clean, clean & correct(machine, fgsm(machine, x, y, threat.eps, threat.norm), y)


def _columns(clean: Estimate, robust: Estimate) -> dict[str, Any]:
    return clean.row("accuracy") | robust.row("robust_accuracy") | {"n": clean.n}
