"""Networks of several widths, shown images that were attacked elsewhere."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.attacks import correct
from ntklens.linalg import GradientDescent
from ntklens.networks import Centred
from ntklens.study.context import Context, Rows
from ntklens.study.rows import accuracy_columns, over_both
from ntklens.study.spec import LazySpec
from ntklens.study.stages.lazy.networks import descended, initial_network
from ntklens.study.stages.lazy.steps import StepCount
from ntklens.transfer import gradient_cosine
from ntklens.vocabulary import CLEAN, KERNEL_INFINITE, KERNEL_MATCHED, NOISE, SURROGATE, WHITE_BOX

COMPARISONS = (
    (NOISE, KERNEL_MATCHED),
    (NOISE, KERNEL_INFINITE),
    (KERNEL_MATCHED, WHITE_BOX),
    (SURROGATE, WHITE_BOX),
)
"""Pairs of sources whose accuracies are compared: what a source fools beyond noise, and short of the white box."""


def by_width(context: Context, spec: LazySpec, learning_rate: float, steps: StepCount) -> dict[str, Rows]:
    """Measure the accuracy of networks of several widths and seeds on the images of every source.

    Returns:
        The tables "lazy" (one row per network and source), "lazy_effect" (one row per width and pair of `COMPARISONS`),
        "lazy_narrowing" (the gap of `KERNEL_MATCHED` to the white box at the smallest width minus that at the largest),
        "lazy_cost" (one row per source) and "lazy_meta". Intervals of differences are over images and seeds.
    """
    machine = context.machine
    x, y = context.test
    matched = machine.refilter(GradientDescent(spec.steps, learning_rate))
    attack = _TimedAttack(context)
    shared = {
        CLEAN: x,
        NOISE: attack(NOISE, machine, "noise"),
        KERNEL_INFINITE: attack(KERNEL_INFINITE, machine),
        KERNEL_MATCHED: attack(KERNEL_MATCHED, matched),
    }
    rows: Rows = []
    effects: Rows = []
    gaps: dict[int, Tensor] = {}
    training_seconds = 0.0
    for width in spec.widths:
        start = time.perf_counter()
        # Network s is a victim, and network s + 1 its surrogate: every network but the first serves twice.
        networks = [_trained(context, width, seed, spec.steps, learning_rate, steps) for seed in range(spec.seeds + 1)]
        training_seconds += time.perf_counter() - start
        right: dict[str, list[Tensor]] = {}
        for seed in range(spec.seeds):
            victim, surrogate = networks[seed], networks[seed + 1]
            images = shared | {SURROGATE: attack(SURROGATE, surrogate), WHITE_BOX: attack(WHITE_BOX, victim)}
            models = {KERNEL_INFINITE: machine, KERNEL_MATCHED: matched, SURROGATE: surrogate}
            agreement = float((victim(x).argmax(1) == matched.predict(x)).double().mean())
            for source, x_adv in images.items():
                hits = correct(victim, x_adv, y)
                right.setdefault(source, []).append(hits)
                cosine = gradient_cosine(models[source], victim, x, y).row("cosine") if source in models else {}
                rows.append(_row(context, width, seed, source, hits, agreement) | cosine)
        effects += [
            {"width": width, "first": first, "second": second} | over_both(_differences(right, first, second))
            for first, second in COMPARISONS
        ]
        gaps[width] = _differences(right, KERNEL_MATCHED, WHITE_BOX)
    meta = {"steps": spec.steps, "learning_rate": learning_rate, "seeds": spec.seeds}
    costs = _costs(context, spec, attack.seconds, training_seconds)
    tables = {"lazy": rows, "lazy_effect": effects, "lazy_cost": costs, "lazy_meta": [meta]}
    return tables | {"lazy_narrowing": _narrowing(gaps)}


class _TimedAttack:
    """Attacks the test images, and adds up the seconds that each source takes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.seconds: dict[str, float] = {}

    def __call__(self, source: str, model: nn.Module, attack: str = "fgsm") -> Tensor:
        start = time.perf_counter()
        x_adv = self._context.attacked_test(attack, model)
        self.seconds[source] = self.seconds.get(source, 0.0) + time.perf_counter() - start
        return x_adv


def _trained(context: Context, width: int, seed: int, steps: int, learning_rate: float, count: StepCount) -> nn.Module:
    network = Centred(initial_network(context, width, seed))
    return descended(context, network, steps, learning_rate, on_step=lambda step, loss: count.add(1))


def _row(context: Context, width: int, seed: int, source: str, right: Tensor, agreement: float) -> dict[str, Any]:
    return {
        "victim": f"width {width}, seed {seed}",
        "width": width,
        "seed": seed,
        "source": source,
        "eps": 0.0 if source == CLEAN else context.threat.eps,
        **accuracy_columns(right),
        "agreement": agreement,
    }


def _differences(right: dict[str, list[Tensor]], first: str, second: str) -> Tensor:
    """Return, for each seed and image, whether the network is right on the first source's image minus on the second's."""
    pairs = zip(right[first], right[second], strict=True)
    return torch.stack([a.double() - b.double() for a, b in pairs])


def _narrowing(gaps: dict[int, Tensor]) -> Rows:
    """Return by how much the gap to the white box is smaller at the largest width than at the smallest one."""
    narrowest, widest = min(gaps), max(gaps)
    if narrowest == widest:
        return []
    row = {"narrowest": narrowest, "widest": widest}
    return [row | over_both(gaps[narrowest] - gaps[widest])]


def _costs(context: Context, spec: LazySpec, seconds: dict[str, float], training_seconds: float) -> Rows:
    """Return the seconds and gradient evaluations that the images of each source take, for one victim."""
    victims = len(spec.widths) * spec.seeds
    trained = len(spec.widths) * (spec.seeds + 1)
    n_test, n_train = len(context.data.test), len(context.data.train)
    rows = []
    for source, attack_seconds in seconds.items():
        # Surrogates and white boxes are attacked once per victim; the other images are made once for all victims.
        per_victim = attack_seconds / (victims if source in (SURROGATE, WHITE_BOX) else 1)
        evaluations = 0 if source == NOISE else n_test
        if source == SURROGATE:
            per_victim += training_seconds / trained
            evaluations += spec.steps * n_train
        rows.append({"source": source, "seconds": per_victim, "gradient_evaluations": evaluations})
    return rows
