"""Adversarial images made from the kernel alone, against the kernel machine itself (claim C1)."""

from __future__ import annotations

from typing import Any

import torch

from ntklens.attacks import correct, evaluate
from ntklens.progress import Progress
from ntklens.statistics import paired_difference, proportion
from ntklens.study.context import Context, StageResult
from ntklens.study.spec import AttackSpec
from ntklens.study.stages.gallery import gallery

_ATTACKS = ("noise", "fgsm", "pgd")


def attack_stage(context: Context, spec: AttackSpec, progress: Progress) -> StageResult:
    """Accuracy against ε for noise, one step and PGD, and a gallery of attacked images."""
    machine, (x, y) = context.machine, context.test
    name = f"{context.spec.kernel.architecture} kernel machine, t = ∞"
    curve: list[dict[str, Any]] = []
    right: dict[str, torch.Tensor] = {}
    examples = x
    epsilons = sorted({*spec.curve, spec.eps} - {0.0})
    clean = correct(machine, x, y)
    jobs = [(a, e) for a in _ATTACKS for e in epsilons]
    for attack in _ATTACKS:
        curve.append(_row(name, attack, spec.norm, 0.0, clean))
    for done, (attack, eps) in enumerate(jobs, 1):
        found = context.attacked(attack, machine, x, y, eps)
        score = evaluate(machine, x, found, y, eps, spec.norm)
        hits = score.predictions == y
        curve.append(_row(name, attack, spec.norm, eps, hits))
        if eps == spec.eps:
            right[attack] = hits
            examples = found if attack == "fgsm" else examples
        progress(done / len(jobs))
    curve.sort(key=lambda row: (_ATTACKS.index(row["attack"]), row["eps"]))
    right = dict.fromkeys(_ATTACKS, clean) | right  # at ε = 0 nothing was attacked
    effect = paired_difference(right["noise"].cpu().numpy(), right["fgsm"].cpu().numpy())
    summary = {"comparison": "noise minus one step", "eps": spec.eps, **effect.row(), "n": effect.n}
    before = machine.predict(x)
    table, arrays = gallery(context, before == y, before, machine.predict(examples), examples)
    return StageResult({"attack_curve": curve, "attack_effect": [summary], "gallery": table}, arrays)


def _row(model: str, attack: str, norm: str, eps: float, right: torch.Tensor) -> dict[str, Any]:
    accuracy = proportion(int(right.sum()), len(right))
    values = {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high, "n": accuracy.n}
    return {"model": model, "attack": attack, "norm": norm, "eps": eps, **values}
