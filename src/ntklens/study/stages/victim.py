"""An attack on the user's own network, from inside or from samples of the data alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ntklens.attacks import AttackResult, attack, correct, diagnose, logits_of
from ntklens.attacks.diagnose import check_clean_accuracy
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import BinaryLogits, load_network
from ntklens.progress import Progress
from ntklens.statistics import paired_difference
from ntklens.study.context import Context, Rows, StageResult
from ntklens.study.spec import VictimSpec
from ntklens.study.stages.gallery import gallery
from ntklens.study.stages.surrogate import attack_source
from ntklens.study.streams import Stream
from ntklens.vocabulary import CLEAN, NOISE

_CHECKED = 200
"""Number of test images that the self-checks take."""


def victim_stage(context: Context, spec: VictimSpec, progress: Progress) -> StageResult:
    """Measure the accuracy of the user's network on clean, noisy and attacked images, and check what was attacked.

    With a surrogate the victim is asked for outputs alone: those that the search of the surrogate's training time takes,
    and those that score the images.
    """
    x, y = context.test
    threat = context.threat
    victim = checked_victim(context, spec)
    source, meta = attack_source(context, spec, victim)
    progress(0.3)
    generator = context.generator(Stream.VICTIM)
    options = _attack_options(context, spec, generator)
    noise_generator = context.generator(Stream.NOISE)
    results = {
        CLEAN: attack(victim, x, y, 0.0, "none", threat.norm, victim=victim),
        NOISE: attack(victim, x, y, threat.eps, "noise", threat.norm, victim=victim, generator=noise_generator),
        spec.method: attack(source, x, y, threat.eps, spec.method, threat.norm, victim=victim, **options),
    }
    progress(0.7)
    clean, attacked = results[CLEAN], results[spec.method]
    right = {name: (result.predictions == y).cpu().numpy() for name, result in results.items()}
    difference = paired_difference(right[NOISE], right[spec.method])
    effect = {"comparison": f"noise minus {spec.method}", "eps": threat.eps, **difference.row(), "n": difference.n}
    table, arrays = gallery(context, clean.predictions, attacked.predictions, attacked.x_adv)
    tables: dict[str, Rows] = {
        "victim": [_row(result, name) for name, result in results.items()],
        "victim_effect": [effect],
        "victim_meta": [meta],
        "victim_gallery": table,
    }
    if spec.checks:
        tables["victim_checks"] = _checks(context, spec, victim, source, generator)
    tensors = {
        "x": x,
        "x_adv": attacked.x_adv,
        "y": y,
        "predictions": attacked.predictions,
        "success": attacked.success,
    }
    return StageResult(tables, arrays | {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()})


def checked_victim(context: Context, spec: VictimSpec) -> nn.Module:
    """Load the user's network and show it two images; its output has one logit per class.

    Raises:
        InputError: the network does not load, or does not take the images of the experiment.
    """
    victim: nn.Module
    if spec.path.endswith(".safetensors"):
        victim = KernelMachine.load(spec.path, context.kernel(), Ridge(context.spec.kernel.ridge))
    else:
        victim = load_network(spec.path, spec.weights)
    victim = victim.to(context.spec.device)
    x, y = context.test
    try:
        with torch.no_grad():
            if len(context.data.classes) == 2 and victim(x[:2]).shape[1:] == (1,):
                victim = BinaryLogits(victim).eval()
            correct(victim, x[:2], y[:2])
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        shape = "x".join(map(str, x.shape[1:]))
        raise InputError(f"the victim does not take images of shape {shape}: {first_line(error)}") from error
    return victim


def _attack_options(context: Context, spec: VictimSpec, generator: torch.Generator) -> dict[str, Any]:
    """Return the options of the attack's method, with a generator where the method draws."""
    threat = context.threat
    if spec.method == "square":
        return {"queries": spec.queries, "generator": generator}
    options: dict[str, Any] = {"loss": threat.loss}
    if spec.method == "pgd":
        options |= {
            "steps": threat.steps,
            "momentum": spec.momentum,
            "diversity": spec.diversity,
            "translation": spec.translation,
        }
        if spec.diversity:
            options["generator"] = generator
    return options


def _checks(
    context: Context, spec: VictimSpec, victim: nn.Module, source: nn.Module, generator: torch.Generator
) -> Rows:
    """Return the self-checks of the model that the images are made on.

    With a surrogate this is not the victim: a surrogate whose gradients lead nowhere fools nobody, and would make any
    victim look robust. The victim's accuracy on clean images is then checked beside.
    """
    x, y = context.test
    threat = context.threat
    sample = slice(0, _CHECKED)
    checks = diagnose(source, x[sample], y[sample], threat.eps, threat.norm, generator=generator)
    if spec.surrogate is not None:
        victim_check = check_clean_accuracy(logits_of(victim, x), y)
        checks.append(replace(victim_check, name="victim's clean accuracy"))
    return [{"check": c.name, "passed": "yes" if c.passed else "no", "seen": c.sentence} for c in checks]


def _row(result: AttackResult, name: str) -> dict[str, Any]:
    row = result.row()
    return {
        "attack": name,
        "norm": row["norm"],
        "eps": row["eps"],
        **result.robust_accuracy.row("accuracy"),
        "fooled": row["success"],
        "queries": row["queries"],
        "gradient_evaluations": row["gradient_evaluations"],
        "seconds": row["seconds"],
    }
