"""Attacks on the user's own network: from inside, by its outputs, and from samples of the data alone, side by side."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ntklens.attacks import Check, diagnose
from ntklens.attacks.diagnose import check_clean_accuracy
from ntklens.errors import InputError
from ntklens.networks import network_source
from ntklens.progress import Progress
from ntklens.statistics import paired_difference
from ntklens.study.class_outputs import class_outputs
from ntklens.study.context import Arrays, Context, Rows, StageResult
from ntklens.study.parts import ATTACK, CHECKS, SEARCH, SURROGATE
from ntklens.study.rows import share_right
from ntklens.study.spec import VictimSpec
from ntklens.study.stages.check_plan import check_plan
from ntklens.study.stages.gallery import gallery
from ntklens.study.stages.surrogate import is_surrogate, model_at, sources
from ntklens.study.stages.victim_attacks import Asked, Attacked, attack_by
from ntklens.study.stages.victim_model import checked_victim
from ntklens.study.streams import Stream
from ntklens.vocabulary import CLEAN, KERNEL_SOURCE, NOISE, TRAINED_SOURCE, WHITE_BOX_SOURCE


def victim_stage(context: Context, spec: VictimSpec, progress: Progress) -> StageResult:
    """Measure the accuracy of the user's network on clean, noisy and attacked images, and check what was attacked.

    Each source of attacked images is kept in the scratch folder when it is done, and so is the number of images that the
    victim was shown, so that a run which goes on after an interruption asks for nothing twice and forgets no question.
    Surrogates ask the victim for outputs alone: those that the search of their training time takes, and those that score
    the images.
    """
    y = context.test[1]
    context.scratch.mkdir(parents=True, exist_ok=True)
    is_drawn = spec.checks and network_source(spec.path, spec.weights).draws_its_weights()
    victim = Asked(checked_victim(context, spec), context.scratch / "asked.txt").eval()
    parts = context.parts("victim", progress, {SURROGATE: 1.0, SEARCH: 1.0, ATTACK: 2.0, CHECKS: 1.0})
    names = (CLEAN, NOISE, *sources(context, spec))
    every: dict[str, Attacked] = {}
    for number, name in enumerate(names):
        with parts.turn(number, len(names)):
            every[name] = attack_by(context, spec, victim, name, every.get(CLEAN), parts)
    notes: Rows = [{"source": name, "text": result.note} for name, result in every.items() if result.note]
    results = {name: result for name, result in every.items() if result.row is not None}
    if len(results) == 2:
        raise InputError(str(notes[0]["text"]))
    rows = {name: result.row for name, result in results.items() if result.row is not None}
    strongest = _lowest(rows, [name for name in rows if name not in (CLEAN, NOISE)])
    right = {name: result.predictions == y for name, result in results.items()}
    table, arrays = gallery(
        context, results[CLEAN].predictions, results[strongest].predictions, results[strongest].x_adv
    )
    tables: dict[str, Rows] = {
        "victim": list(rows.values()),
        "victim_effect": [_effect(context, right, *pair) for pair in _pairs(rows)],
        "victim_sources": [result.source for result in results.values() if result.source is not None],
        "victim_notes": notes,
        "victim_gallery": table,
    }
    before = victim.asked
    if spec.checks:
        with parts(CHECKS) as part:
            tables["victim_checks"] = _checks(context, spec, victim, rows, results, part, is_drawn=is_drawn)
    checking = victim.asked - before
    counts = {
        "strongest": strongest,
        "check_queries": checking,
        # What an interrupted run had asked in a part that it did not finish, which has been asked again.
        "repeated_queries": victim.asked - checking - sum(result.making + result.scoring for result in every.values()),
    }
    tables["victim_meta"] = [_meta(context, spec, victim, every, right) | counts]
    return StageResult(tables, arrays | _arrays(context, results, strongest))


def _meta(
    context: Context, spec: VictimSpec, victim: Asked, every: dict[str, Attacked], right: dict[str, Tensor]
) -> dict[str, Any]:
    """Return the columns of the table "victim_meta" that no choice is needed for."""
    order = class_outputs(context, "the victim")(every[CLEAN].outputs)
    attacked = [of_source for name, of_source in right.items() if name != NOISE]
    return {
        "victim": spec.path,
        "test": len(context.data.test),
        "files": context.data.test.names is not None,
        "outputs": every[CLEAN].outputs,
        "class_outputs": None if order is None else ", ".join(map(str, order)),
        "classes": len(context.data.classes),
        # An image counts where it is right clean and under every attack: lower than the lowest of them.
        **share_right(torch.stack(attacked).all(0)).row("worst_accuracy"),
        "asked": victim.asked,
        "scoring_queries": sum(result.scoring for result in every.values()),
    }


def _lowest(rows: dict[str, dict[str, Any]], names: list[str]) -> str:
    """Return the source under which the victim's accuracy is lowest, the first of equals."""
    return min(names, key=lambda name: rows[name]["accuracy"])


def _pairs(rows: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the pairs that are compared: noise and each source; the best kernel and the best of two other kinds."""
    pairs = [(NOISE, name) for name in rows if name not in (CLEAN, NOISE)]
    best = {
        kind: _lowest(rows, names)
        for kind in (KERNEL_SOURCE, TRAINED_SOURCE, WHITE_BOX_SOURCE)
        if (names := [name for name, row in rows.items() if row["kind"] == kind])
    }
    if KERNEL_SOURCE in best:
        pairs += [(best[KERNEL_SOURCE], name) for kind, name in best.items() if kind != KERNEL_SOURCE]
    return pairs


def _effect(context: Context, right: dict[str, Tensor], first: str, second: str) -> dict[str, Any]:
    """Return the row of a paired difference between the accuracies under two sources."""
    difference = paired_difference(right[first].cpu().numpy(), right[second].cpu().numpy())
    return {"first": first, "second": second, "eps": context.threat.eps, **difference.row(), "n": difference.n}


def _arrays(context: Context, results: dict[str, Attacked], strongest: str) -> Arrays:
    """Return the images, those of the strongest source under the plain names and those of each under its own."""
    x, y = context.test
    attacked, clean = results[strongest], results[CLEAN]
    files = context.data.test.names or tuple(f"{i:06d}" for i in range(len(y)))
    tensors = {
        "x": x,
        "x_adv": attacked.x_adv,
        "y": y,
        "clean_predictions": clean.predictions,
        "predictions": attacked.predictions,
        "success": (clean.predictions == y) & (attacked.predictions != y),
    }
    for name, result in results.items():
        if name != CLEAN:
            tensors |= {f"x_adv_{name}": result.x_adv, f"predictions_{name}": result.predictions}
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()} | {
        "files": np.array(files),
        "classes": np.array(context.data.classes),
    }


def _checks(
    context: Context,
    spec: VictimSpec,
    victim: Asked,
    rows: dict[str, dict[str, Any]],
    results: dict[str, Attacked],
    progress: Progress,
    *,
    is_drawn: bool,
) -> Rows:
    """Return the self-checks of the models that the figures rest on: the victim, and the strongest surrogate.

    A surrogate whose gradients lead nowhere fools nobody, and would make any victim look robust. Where surrogates alone
    attack, the victim is asked for nothing more: its accuracy on clean images is known.

    Returns:
        The table "victim_checks", whose column `of` names the model that was checked.
    """
    x, y = context.test
    threat = context.threat
    checks_of: list[tuple[str, Check]] = []
    surrogates = [name for name in rows if name not in (CLEAN, NOISE) and is_surrogate(name)]

    def add(who: str, model: nn.Module, attacks: list[str], progress: Progress) -> None:
        # The checks of a model ask it for no more than the attacks on it have.
        plan = check_plan(
            sum(int(rows[name]["queries"]) for name in attacks),
            sum(int(rows[name]["gradient_evaluations"]) for name in attacks),
            len(x),
        )
        generator = context.generator(Stream.VICTIM, 1)
        checks = diagnose(
            model, x[: plan.images], y[: plan.images], threat.eps, threat.norm, generator=generator, steps=plan.steps,
            queries=plan.queries, attacked=plan.attacked, progress=progress,
        )  # fmt: skip
        checks_of.extend((who, check) for check in checks)

    on_victim = [name for name in rows if name not in (CLEAN, NOISE) and not is_surrogate(name)]
    if not on_victim:
        check = check_clean_accuracy(one_hot(results[CLEAN].predictions, results[CLEAN].outputs), y)
        checks_of.append(("victim", replace(check, name="victim's clean accuracy")))
    else:
        add("victim", victim, on_victim, progress.part(0.0, 0.5 if surrogates else 1.0))
    if surrogates:
        name = _lowest(rows, surrogates)
        source = results[name].source
        add(
            f"surrogate {name}",
            model_at(context, spec, name, None if source is None else source["time"]),
            [name],
            progress.part(0.5, 0.5),
        )
    if is_drawn:
        sentence = (
            "The victim's weights are other ones for another seed, so none were loaded. Give --weights, or load them in "
            "the factory."
        )
        checks_of.append(("victim", Check("loaded weights", False, sentence)))
    return [
        {
            "of": of,
            "check": check.name,
            "passed": check.passed,
            "images": check.images,
            "seen": _of(of, check.sentence),
        }
        for of, check in checks_of
    ]


def _of(who: str, sentence: str) -> str:
    """Return a check's sentence with the name of what was checked in place of "the model"."""
    return re.sub(r"\b([Tt])he model\b", lambda match: f"{match[1]}he {who}", sentence)
