"""An attack on the user's own network, from inside or from samples of the data alone."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.attacks import AttackResult, attack, correct, diagnose, logits_of
from ntklens.attacks.diagnose import check_clean_accuracy
from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel
from ntklens.linalg import GradientFlow, Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import BinaryLogits, build, load_network
from ntklens.progress import Progress
from ntklens.statistics import paired_difference
from ntklens.study.context import Context, StageResult
from ntklens.study.spec import VictimSpec
from ntklens.study.stages.gallery import gallery
from ntklens.study.streams import Stream
from ntklens.transfer import TrainingRecipe, check_surrogate, match_time, search_time, surrogate

_PROBE = 100
"""Images, set aside from the surrogate's, that the victim is asked about in the search of a time."""
_CHECKED = 200
"""Images that the self-checks take."""


def victim_stage(context: Context, spec: VictimSpec, progress: Progress) -> StageResult:
    """Clean accuracy, noise, and the attack asked for; the images it made; and whether its gradients can be trusted.

    With a surrogate the victim is asked for outputs alone: those that a search of its time takes, and the scores.
    """
    (x, y), a = context.test, context.threat
    victim = checked_victim(context, spec)
    source, meta = _source(context, spec, victim)
    progress(0.3)
    run = partial(attack, victim=victim, norm=a.norm)
    generator = context.generator(Stream.VICTIM)
    options = _options(context, spec)
    if spec.method == "square" or options.get("diversity"):
        options["generator"] = generator
    results = [
        run(victim, x, y, 0.0, "none"),
        run(victim, x, y, a.eps, "noise", generator=context.generator(Stream.NOISE)),
        run(source, x, y, a.eps, spec.method, **options),
    ]
    progress(0.7)
    found = results[-1]
    rows = [_row(r, name) for r, name in zip(results, ("clean", "noise", spec.method), strict=True)]
    hits = [r.predictions == y for r in results]
    effect = paired_difference(hits[1].cpu().numpy(), hits[2].cpu().numpy())
    summary = {"comparison": f"noise minus {spec.method}", "eps": a.eps, **effect.row(), "n": effect.n}
    checks = []
    if spec.checks:  # of what the images are made on: a surrogate whose gradients lead nowhere attacks nobody
        some = slice(0, _CHECKED)
        made = diagnose(source, x[some], y[some], a.eps, a.norm, generator=generator)
        if spec.surrogate is not None:
            made.append(replace(check_clean_accuracy(logits_of(victim, x), y), name="victim's clean accuracy"))
        checks = [{"check": c.name, "passed": "yes" if c.passed else "no", "seen": c.sentence} for c in made]
    table, arrays = gallery(context, hits[0], results[0].predictions, found.predictions, found.x_adv)
    arrays |= {"x": x, "x_adv": found.x_adv, "y": y, "predictions": found.predictions, "success": found.success}
    tables = {"victim": rows, "victim_effect": [summary], "victim_meta": [meta], "victim_gallery": table}
    if checks:
        tables["victim_checks"] = checks
    return StageResult(tables, {k: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for k, v in arrays.items()})


def checked_victim(context: Context, spec: VictimSpec) -> nn.Module:
    """The user's network.

    Raises:
        InputError: it does not load, or does not take these images.
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
    except Exception as error:
        shape = "x".join(map(str, x.shape[1:]))
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"the victim does not take images of shape {shape}: {first}") from error
    return victim


def _options(context: Context, spec: VictimSpec) -> dict[str, Any]:
    a = context.threat
    if spec.method == "square":
        return {"queries": spec.queries}
    options: dict[str, Any] = {"loss": a.loss}
    if spec.method == "pgd":
        options |= {"steps": a.steps, "momentum": spec.momentum}
        options |= {"diversity": spec.diversity, "translation": spec.translation}
    return options


def _source(context: Context, spec: VictimSpec, victim: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    """What the images are made on, and how it came to be."""
    meta: dict[str, Any] = {
        "victim": spec.path,
        "surrogate": spec.surrogate,
        "method": spec.method,
        "test": len(context.test[0]),
    }
    if spec.surrogate is None:
        return victim, meta
    sample = _sample(context, spec)
    x, y = (part[:sample] for part in context.train)
    model = _surrogate(context, spec, x, y)
    meta |= {"sample": len(x), "queries": 0, "kernel": isinstance(model, KernelMachine)}
    if isinstance(model, KernelMachine) and spec.time != "inf":
        aside, labels = (part[sample : sample + _PROBE] for part in context.train)
        if spec.time == "search":
            found = search_time(model, victim, aside, labels, context.threat.eps, context.threat.norm)
            meta |= {"time": found.time, "search_fooled": found.fooled, "queries": found.queries}
            model = model.refilter(found.filter)
        elif spec.time == "match":
            time = match_time(model, victim, aside)
            meta |= {"time": time.filter.time, "correlation": time.correlation, "queries": time.queries}
            model = model.refilter(time.filter)
        else:
            meta |= {"time": float(spec.time)}
            model = model.refilter(GradientFlow(float(spec.time)))
    meta["time"] = None if math.isinf(meta.get("time", math.inf)) else meta["time"]
    return model, meta


def check_surrogate_of(context: Context, spec: VictimSpec) -> None:
    """Refuse a surrogate that is not known or takes no such images.

    Raises:
        InputError: the same.
    """
    if spec.surrogate is None:
        return
    _sample(context, spec)
    if ".py:" in spec.surrogate:
        analytic_kernel(load_network(spec.surrogate)).graph(context.data.shape)
        return
    name = _full_name(spec.surrogate)
    check_surrogate(name)
    kind, _, architecture = name.partition("+")[0].partition(":")
    if kind == "noise":
        raise InputError("noise is the control of every attack already; give a surrogate with a model, such as fc3.")
    if kind in ("ntk", "net"):
        build(architecture, context.data.shape, context.outputs, width=1)


def _sample(context: Context, spec: VictimSpec) -> int:
    """Training images that the surrogate is fitted on; a search of its time sets others aside."""
    n = len(context.data.train)
    searched = spec.time in ("search", "match")
    sample = min(spec.sample, n - (_PROBE if searched else 0))
    if sample < 2:
        raise InputError(
            f"a search of the time sets {_PROBE} of the {n} training images aside, and nothing is left for the surrogate; "
            "give more images, or a --time such as inf."
        )
    for part in (slice(0, sample), slice(sample, sample + _PROBE)) if searched else (slice(0, sample),):
        seen = set(context.data.train.y[part].tolist())
        missing = [name for c, name in enumerate(context.data.classes) if c not in seen]
        if missing:
            raise InputError(
                f"training images {part.start} to {min(part.stop, n) - 1} are to be of all classes, and there are none of "
                f"{missing[0]}: bring the images into another order, or take a larger --sample."
            )
    return sample


def _full_name(surrogate: str) -> str:
    named = ":" in surrogate or surrogate.partition("+")[0] in ("linear", "rbf", "noise")
    return surrogate if named else f"ntk:{surrogate}"


def _surrogate(context: Context, spec: VictimSpec, x: Tensor, y: Tensor) -> nn.Module:
    """The model that the images are made on, fitted."""
    assert spec.surrogate is not None
    k = context.spec.kernel
    if ".py:" in spec.surrogate:
        kernel = analytic_kernel(load_network(spec.surrogate), k.w_std, k.b_std)
        return KernelMachine(kernel, Ridge(k.ridge)).fit(x, y)
    made = surrogate(
        _full_name(spec.surrogate),
        x,
        y,
        len(context.data.classes),
        seed=context.spec.seed,
        w_std=k.w_std,
        b_std=k.b_std,
        ridge=k.ridge,
        training=TrainingRecipe(width=spec.width, epochs=spec.epochs),
    )
    assert made.model is not None
    return made.model


def _row(result: AttackResult, name: str) -> dict[str, Any]:
    row = result.row()
    accuracy = result.robust_accuracy
    return {"attack": name, "norm": row["norm"], "eps": row["eps"], **accuracy.row("accuracy"),
            "fooled": row["success"], "queries": row["queries"],
            "gradient_evaluations": row["gradient_evaluations"], "seconds": row["seconds"]}  # fmt: skip
