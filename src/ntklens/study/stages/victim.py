"""An attack on the user's own network, from inside or from samples of the data alone."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.attacks import AttackResult, attack, correct, diagnose, logits_of
from ntklens.attacks.diagnose import check_clean_accuracy
from ntklens.attacks.model import Model
from ntklens.attacks.run import Counted
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import BinaryLogits, load_network
from ntklens.networks.outputs import is_probability
from ntklens.progress import Progress
from ntklens.statistics import paired_difference
from ntklens.study.context import Context, Rows, StageResult
from ntklens.study.parts import ATTACK, CHECKS, SEARCH, SURROGATE
from ntklens.study.spec import VictimSpec
from ntklens.study.stages.check_plan import CheckPlan, check_plan
from ntklens.study.stages.gallery import gallery
from ntklens.study.stages.surrogate import attack_source
from ntklens.study.streams import Stream
from ntklens.vocabulary import CLEAN, NOISE

_PROBABILITY_IMAGES = 200
"""Images on which a single output is looked at: a logit of a trained network has both signs on so many."""


def victim_stage(context: Context, spec: VictimSpec, progress: Progress) -> StageResult:
    """Measure the accuracy of the user's network on clean, noisy and attacked images, and check what was attacked.

    With a surrogate the victim is asked for outputs alone: those that the search of the surrogate's training time takes,
    and those that score the images. Every image that it is shown is counted.
    """
    x, y = context.test
    threat = context.threat
    victim = Counted(checked_victim(context, spec)).eval()
    victim.is_checked = True  # `checked_victim` has asked whether its logits depend on the rest of the batch
    parts = context.parts("victim", progress, {SURROGATE: 1.0, SEARCH: 1.0, ATTACK: 2.0, CHECKS: 1.0})
    source, meta = attack_source(context, spec, victim, parts)
    searched = victim.queries
    generator = context.generator(Stream.VICTIM)
    options = _attack_options(context, spec, generator)
    noise_generator = context.generator(Stream.NOISE)
    with parts(ATTACK) as part:
        options["progress"] = part
        results = {
            CLEAN: attack(victim, x, y, 0.0, "none", threat.norm, victim=victim),
            NOISE: attack(victim, x, y, threat.eps, "noise", threat.norm, victim=victim, generator=noise_generator),
            spec.method: attack(source, x, y, threat.eps, spec.method, threat.norm, victim=victim, **options),
        }
    made = {name: result.queries for name, result in results.items()}
    if spec.surrogate is not None:
        # What the attack asked was the surrogate; the victim was asked in the search for the surrogate's time.
        made = dict.fromkeys(results, 0) | {spec.method: searched}
    scoring = victim.queries - sum(made.values())
    clean, attacked = results[CLEAN], results[spec.method]
    right = {name: (result.predictions == y).cpu().numpy() for name, result in results.items()}
    difference = paired_difference(right[NOISE], right[spec.method])
    effect = {"comparison": f"noise minus {spec.method}", "eps": threat.eps, **difference.row(), "n": difference.n}
    table, arrays = gallery(context, clean.predictions, attacked.predictions, attacked.x_adv)
    tables: dict[str, Rows] = {
        "victim": [_row(result, name, made[name]) for name, result in results.items()],
        "victim_effect": [effect],
        "victim_gallery": table,
    }
    before = victim.queries + victim.gradients
    if spec.checks:
        plan = check_plan(attacked.queries, attacked.gradient_evaluations, len(x))
        with parts(CHECKS) as part:
            tables["victim_checks"] = _checks(context, spec, victim, source, generator, plan, part)
    asked = victim.queries + victim.gradients
    counts = {
        "outputs": _outputs(victim.model, x[:1]),
        "classes": len(context.data.classes),
        "scoring_queries": scoring,
        "check_queries": asked - before,
    }
    tables["victim_meta"] = [meta | counts | {"asked": asked}]
    tensors = {
        "x": x,
        "x_adv": attacked.x_adv,
        "y": y,
        "predictions": attacked.predictions,
        "success": attacked.success,
    }
    return StageResult(tables, arrays | {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()})


def checked_victim(context: Context, spec: VictimSpec) -> nn.Module:
    """Load the user's network and show it two images; its output has one logit per class, and may have more.

    Raises:
        InputError: the network does not load, does not take the images of the experiment, or has fewer outputs than the
            data have classes.
    """
    victim: nn.Module
    if spec.path.endswith(".safetensors"):
        if spec.weights is not None:
            raise InputError(
                f"{spec.path} is a kernel machine and holds all of itself; give --weights with a file.py:factory alone."
            )
        # The file has the machine's filter; a ridge that is given has to be its own.
        ridge = context.spec.kernel.ridge
        victim = KernelMachine.load(spec.path, context.kernel(), Ridge(ridge) if ridge else None)
    else:
        victim = load_network(spec.path, spec.weights)
    victim = victim.to(context.spec.device)
    x, y = context.test
    try:
        with torch.no_grad():
            if len(context.data.classes) == 2 and victim(x[:2]).shape[1:] == (1,):
                _check_is_no_probability(victim, x[:_PROBABILITY_IMAGES])
                victim = BinaryLogits(victim).eval()
            check_number_of_outputs(context, victim, "victim")
            start = time.perf_counter()
            correct(victim, x[:2], y[:2])
            # Two images, and six more with which the guard asks whether they depend on one another.
            context.victim_seconds = (time.perf_counter() - start) / 8
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        shape = "x".join(map(str, x.shape[1:]))
        raise InputError(f"the victim does not take images of shape {shape}: {first_line(error)}") from error
    return victim


def _check_is_no_probability(network: Model, x: Tensor) -> None:
    """Raise InputError where a single output has passed a sigmoid: its border between the classes is 0.5, not 0."""
    with torch.enable_grad():
        f = network(x)
    if is_probability(f):
        raise InputError(
            f"expected one logit, positive for the second class; got an output between 0 and 1 for all of {len(x)} images, "
            "as a sigmoid gives it. Return the value before the sigmoid, or the logits of both classes, (-f/2, f/2)."
        )


def check_number_of_outputs(context: Context, network: nn.Module, who: str) -> None:
    """Raise InputError where a network has fewer outputs than the data have classes, whichever of them a batch holds.

    Args:
        context: of the experiment.
        network: images to logits.
        who: what the network is called in the sentence.
    """
    outputs, classes = _outputs(network, context.test[0][:2]), context.data.classes
    if outputs == 1 and len(classes) == 2:
        raise InputError(f"the {who} has one output, f; return the logits of both classes, (-f/2, f/2).")
    if outputs is not None and outputs < len(classes):
        names = ", ".join(map(str, classes[:3])) + (", …" if len(classes) > 3 else "")
        raise InputError(
            f"the {who} has {outputs} output{'s' * (outputs > 1)}, and the data have {len(classes)} classes ({names}). "
            f"Choose the classes that it was trained on, in its order, with --classes ({outputs} of them)."
        )


@torch.no_grad()
def _outputs(network: Model, x: Tensor) -> int | None:
    """Return the number of a network's logits; None where it does not return a matrix."""
    logits = network(x)
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None


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
    context: Context,
    spec: VictimSpec,
    victim: nn.Module,
    source: nn.Module,
    generator: torch.Generator,
    plan: CheckPlan,
    progress: Progress,
) -> Rows:
    """Return the self-checks of the model that the images are made on.

    With a surrogate this is not the victim: a surrogate whose gradients lead nowhere fools nobody, and would make any
    victim look robust. The victim's accuracy on clean images is then checked beside.

    Returns:
        The table "victim_checks", whose column `of` names the model that was checked.
    """
    x, y = context.test
    threat = context.threat
    sample = slice(0, plan.images)
    size: dict[str, Any] = {"steps": plan.steps, "queries": plan.queries, "attacked": plan.attacked}
    checks = diagnose(
        source, x[sample], y[sample], threat.eps, threat.norm, generator=generator, progress=progress, **size
    )
    checked = "victim" if spec.surrogate is None else "surrogate"
    checks_of = [(checked, check) for check in checks]
    if spec.surrogate is not None:
        victim_check = check_clean_accuracy(logits_of(victim, x), y)
        checks_of.append(("victim", replace(victim_check, name="victim's clean accuracy")))
    return [
        {
            "of": of,
            "check": check.name,
            "passed": "yes" if check.passed else "no",
            "images": check.images,
            "seen": re.sub(r"\b([Tt])he model\b", rf"\1he {of}", check.sentence),
        }
        for of, check in checks_of
    ]


def _row(result: AttackResult, name: str, queries: int) -> dict[str, Any]:
    row = result.row()
    return {
        "attack": name,
        "norm": row["norm"],
        "eps": row["eps"],
        **result.robust_accuracy.row("accuracy"),
        "fooled": row["success"],
        "queries": queries,
        "gradient_evaluations": row["gradient_evaluations"],
        "seconds": row["seconds"],
    }
