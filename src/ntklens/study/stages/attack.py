"""Adversarial images made from the kernel alone, against the kernel machine itself (claim C1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ntklens.attacks import correct, evaluate
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.statistics import paired_difference
from ntklens.study.context import Context, Rows, StageResult
from ntklens.study.parts import KERNEL_MATRIX
from ntklens.study.rows import accuracy_columns
from ntklens.study.spec import AttackSpec
from ntklens.study.stages.gallery import gallery

_ATTACKS = ("noise", "fgsm", "pgd")


def attack_stage(context: Context, threat: AttackSpec, progress: Progress) -> StageResult:
    """Measure the accuracy of the kernel machine against ε for noise, one step and PGD; pick some attacked images."""
    parts = context.parts("attack", progress, {KERNEL_MATRIX: 1.0, "attacks": 2.0})
    with parts(KERNEL_MATRIX) as fitting:
        machine = context.fitted(fitting)
    with parts("attacks") as attacking:
        return _attacked(context, threat, machine, attacking)


def _attacked(context: Context, threat: AttackSpec, machine: KernelMachine, progress: Progress) -> StageResult:
    """Attack the machine at every radius, and return the tables of the stage."""
    x, y = context.test
    radii = sorted({*threat.curve, threat.eps} - {0.0})
    clean = correct(machine, x, y)
    curve: Rows = [_row(context, attack, 0.0, clean) for attack in _ATTACKS]
    # What is kept at the threat model's own radius is which images each attack leaves right, and the images of one step. At
    # ε = 0 nothing is attacked, and all attacks leave what is right on the clean images.
    right: dict[str, Tensor] = dict.fromkeys(_ATTACKS, clean)
    x_adv_one_step = x
    jobs = [(attack, eps) for attack in _ATTACKS for eps in radii]
    # Attacks take as long as their gradients: one per image in a step.
    weights = [{"noise": 0.5, "fgsm": 1.5}.get(attack, threat.steps + 0.5) for attack, _ in jobs]
    total = sum(weights) or 1.0
    for done, (attack, eps) in enumerate(jobs):
        part = progress.part(sum(weights[:done]) / total, weights[done] / total)
        x_adv = context.attacked(attack, machine, x, y, eps, part)
        hits = evaluate(machine, x, x_adv, y, eps, threat.norm).predictions == y
        curve.append(_row(context, attack, eps, hits))
        if eps == threat.eps:
            right[attack] = hits
            if attack == "fgsm":
                x_adv_one_step = x_adv
        part(1.0)
    curve.sort(key=lambda row: (_ATTACKS.index(row["attack"]), row["eps"]))
    difference = paired_difference(right["noise"].cpu().numpy(), right["fgsm"].cpu().numpy())
    effect = {"comparison": "noise minus one step", "eps": threat.eps, **difference.row(), "n": difference.n}
    table, arrays = gallery(context, machine.predict(x), machine.predict(x_adv_one_step), x_adv_one_step)
    return StageResult({"attack_curve": curve, "attack_effect": [effect], "gallery": table}, arrays)


def _row(context: Context, attack: str, eps: float, right: Tensor) -> dict[str, Any]:
    model = f"{context.kernel_label} machine, t = ∞"
    row = {"model": model, "attack": attack, "norm": context.threat.norm, "eps": eps}
    return row | accuracy_columns(right)
