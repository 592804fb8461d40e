"""Machines and single features with both ends of their robust accuracy: the attacked one and the certified one (N1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ntklens.attacks import Threat
from ntklens.bounds import KernelBounds
from ntklens.certificates import ATTACK_STEPS, certify
from ntklens.features import FeatureScores, NTKFeatures
from ntklens.linalg import GradientFlow, Ridge
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.study.context import Context, Rows
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.features.scores import majority, selection_half
from ntklens.study.streams import Stream
from ntklens.vocabulary import ALL, HEAD, RIDGE, TAIL

_FIRST = (10, 50)
"""Numbers of first features of the machines that are certified at the largest radius alone."""
_RIDGE = 1e-2
"""Ridge over λ_1 of the machine that is certified."""
_TIME = 1e3
"""Training time, times λ_1, of the machine that is certified."""
_SHARE_OF_FEATURES = 0.3
"""Share of the single features in the progress."""


def certified(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, meta: Rows, progress: Progress
) -> dict[str, Rows]:
    """Certify machines of sets of features, and single features, beside the attacks on them.

    The images are drawn from those that did not choose the head.

    Args:
        context: of the experiment.
        features: all features.
        spec: how many images, features, and which radii.
        meta: the table "head_tail_meta", without whose row there is no head to certify.
        progress: receives the share done.

    Returns:
        The tables "certified" (one row per machine and radius), "certified_features" (one row per feature) and
        "certified_meta"; none where nothing is asked for or attacked.
    """
    threat = context.threat
    if not spec.certified or not meta or threat.eps == 0:
        return {}
    x, y = drawn_images(context, spec.certified)
    if context.spec.device != "cpu":
        # Bounds are computed on the CPU, of a copy: a machine moves in place, and this one is the experiment's.
        machine = features.machine
        features = NTKFeatures(machine.with_coefficients(machine.coefficients, machine.filter).to("cpu"))
    radii = [threat.eps * part for part in spec.certified_radii]
    jobs = [
        (name, machine, eps)
        for name, machine, is_curve in _machines(features, meta[0]["k"])
        for eps in (radii if is_curve else radii[-1:])
    ]
    rows: Rows = []
    about = ""
    for done, (name, machine, eps) in enumerate(jobs):
        share = (1 - _SHARE_OF_FEATURES) / len(jobs)
        found = certify(machine, x, y, eps, threat.norm, progress=progress.part(done * share, share))
        about = found.about
        rows.append(
            {
                "machine": name,
                "eps": eps,
                **found.clean_accuracy.row("accuracy"),
                **found.attacked_accuracy.row("robust_accuracy"),
                **found.certified_accuracy.row("certified_accuracy"),
                "undecided": int((found.tier == "undecided").sum()),
                "n": len(x),
            }
        )
    singles = _single_features(
        features,
        spec,
        x,
        y,
        Threat(radii[-1], threat.norm, ATTACK_STEPS),
        progress.part(1 - _SHARE_OF_FEATURES, _SHARE_OF_FEATURES),
    )
    told: dict[str, Any] = {"majority": majority(y), "eps": radii[-1], "norm": threat.norm, "steps": ATTACK_STEPS}
    told |= {"n": len(x), "head": meta[0]["k"], "about": about}
    return {"certified": rows, "certified_features": singles, "certified_meta": [told]}


def check_certified(context: Context) -> None:
    """Raise UnsupportedLayer, before a run is made, where no bound is known for the experiment's machine."""
    is_saved = context.network.kind == "machine"
    kernel = context.machine.kernel if is_saved else context.kernel()
    inputs = context.machine.train_inputs if is_saved else context.train[0]
    KernelBounds(kernel, inputs.to("cpu"))


def drawn_images(context: Context, count: int) -> tuple[Tensor, Tensor]:
    """Return so many test images that did not choose the head, and their classes: drawn by the seed, from all classes."""
    x, y = context.data.test.x, context.data.test.y
    scoring = (~selection_half(context).cpu()).nonzero().flatten()
    drawn = scoring[torch.randperm(len(scoring), generator=context.generator(Stream.CERTIFIED))]
    # The first of each class come first, then the second ones, so that the classes have about equal parts.
    rank = torch.empty(len(drawn), dtype=torch.long)
    for c in torch.unique(y[drawn]):
        members = (y[drawn] == c).nonzero().flatten()
        rank[members] = torch.arange(len(members))
    chosen = drawn[rank.argsort(stable=True)[:count]].sort().values
    return x[chosen], y[chosen]


def _machines(features: NTKFeatures, k: int) -> Iterator[tuple[str, KernelMachine, bool]]:
    """Yield machines by name, and whether each is certified at all radii."""
    rank, largest = features.rank, float(features.eigenvalues[0])
    yield HEAD, features.keep(range(k)), True
    for first in _FIRST:
        if first < rank and first != k:
            yield f"first {first}", features.keep(range(first)), False
    yield RIDGE, features.machine.refilter(Ridge(_RIDGE * largest)), True
    yield f"stopped at {_TIME:g} / λ_1", features.machine.refilter(GradientFlow(_TIME / largest)), False
    yield ALL, features.keep(range(rank)), True
    yield TAIL, features.keep(range(k, rank)), True


def _single_features(
    features: NTKFeatures, spec: FeaturesSpec, x: Tensor, y: Tensor, threat: Threat, progress: Progress
) -> Rows:
    """Return the table "certified_features": each feature's accuracy, clean, under attack and proved."""
    index = range(min(spec.certified_features, features.rank))
    outcomes = features.outcomes(x, y, threat, index, progress=progress.part(0.0, 0.2))
    scores = {
        "usefulness": FeatureScores.of(index, outcomes.clean),
        "robustness": FeatureScores.of(index, outcomes.attacked),
        "certified": features.certified(x, y, threat, index, progress=progress.part(0.2, 0.8)),
    }
    return [
        {"index": i}
        | {key: value for name, found in scores.items() for key, value in found[i].row(name).items()}
        | {"n": len(x)}
        for i in index
    ]
