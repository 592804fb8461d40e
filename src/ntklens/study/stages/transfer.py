"""The kernel's adversarial images against finite networks trained on the same data (claim C2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.attacks import correct
from ntklens.linalg import GradientDescent
from ntklens.networks import Centred, gradient_descent
from ntklens.statistics import mean, proportion
from ntklens.study.context import Context, Progress, StageResult
from ntklens.study.spec import TransferSpec
from ntklens.study.stages.lazy import logits, over_steps, regimes, start_network
from ntklens.transfer import gradient_cosine

CLEAN, NOISE, INFINITE, MATCHED = "clean", "noise", "kernel t=inf", "kernel matched time"
SURROGATE, WHITE_BOX = "trained surrogate", "white-box"
COMPARISONS = ((NOISE, MATCHED), (NOISE, INFINITE), (MATCHED, WHITE_BOX), (SURROGATE, WHITE_BOX))
"""Differences of accuracy that the claim is about: how much a source fools beyond noise, and short of the white box."""


def transfer_stage(context: Context, progress: Progress) -> StageResult:
    """Accuracy of networks of several widths and seeds on images attacked elsewhere, with both controls.

    Each network has the kernel's architecture and parametrisation and is trained by full-batch gradient descent, T steps
    at the rate (spec) / λ_1. Its output is f - f_0. The matched machine stops at the same T. The trained surrogate is a
    network of the same width from another seed.
    """
    spec = context.spec.transfer or TransferSpec()
    machine, (x, y), eps = context.machine, context.test, context.attack.eps
    rate = spec.rate / float(machine.factorisation.spectrum.eigenvalues[0])
    matched = machine.refilter(GradientDescent(spec.steps, rate))
    seconds: dict[str, float] = {}

    def attacked(source: str, model: nn.Module, attack: str = "fgsm") -> Tensor:
        start = time.perf_counter()
        found = context.run_attack(attack, model, x, y, eps)
        seconds[source] = seconds.get(source, 0.0) + time.perf_counter() - start
        return found

    shared = {
        CLEAN: x,
        NOISE: attacked(NOISE, machine, "noise"),
        INFINITE: attacked(INFINITE, machine),
        MATCHED: attacked(MATCHED, matched),
    }
    rows: list[dict[str, Any]] = []
    effects: list[dict[str, Any]] = []
    steps_done, all_steps = 0, len(spec.widths) * (spec.seeds + 1) * spec.steps
    all_steps += spec.seeds * spec.steps * (len(spec.checkpoints) + len(spec.regimes))

    def advance(steps: int) -> None:
        nonlocal steps_done
        steps_done += steps
        progress(min(1.0, steps_done / all_steps))

    def tick(step: int, loss: float) -> None:
        advance(1)

    training = 0.0
    for width in spec.widths:
        start = time.perf_counter()
        networks = [
            _network(context, width, seed, spec.steps, rate, lambda *_: advance(1)) for seed in range(spec.seeds + 1)
        ]
        training += time.perf_counter() - start
        right: dict[str, list[Tensor]] = {}
        for seed in range(spec.seeds):
            victim, surrogate = networks[seed], networks[seed + 1]
            images = shared | {
                SURROGATE: attacked(SURROGATE, surrogate),
                WHITE_BOX: attacked(WHITE_BOX, victim),
            }
            agreement = float((victim(x).argmax(1) == matched.predict(x)).double().mean())
            models = {INFINITE: machine, MATCHED: matched, SURROGATE: surrogate}
            for source, found in images.items():
                hits = correct(victim, found, y)
                right.setdefault(source, []).append(hits)
                alike = gradient_cosine(models[source], victim, x, y).row("cosine") if source in models else {}
                rows.append(_row(width, seed, source, eps, hits, agreement) | alike)
        effects += [_effect(width, a, b, right) for a, b in COMPARISONS]
    victims = len(spec.widths) * spec.seeds
    per_network = training / (len(spec.widths) * (spec.seeds + 1))
    seconds = {s: t / (victims if s in (SURROGATE, WHITE_BOX) else 1) for s, t in seconds.items()}
    seconds[SURROGATE] += per_network
    evaluations = dict.fromkeys(seconds, len(x)) | {NOISE: 0}
    evaluations[SURROGATE] += spec.steps * len(context.data.train)
    costs = [{"source": s, "seconds": t, "gradient_evaluations": evaluations[s]} for s, t in seconds.items()]
    meta = {"steps": spec.steps, "learning_rate": rate, "seeds": spec.seeds}
    tables = {"transfer": rows, "transfer_effect": effects, "transfer_cost": costs, "transfer_meta": [meta]}
    tables["transfer_steps"] = over_steps(context, spec, rate, lambda: advance(spec.steps))
    tables["transfer_regimes"] = regimes(context, spec, rate, lambda: advance(spec.steps))
    return StageResult({name: table for name, table in tables.items() if table})


def _network(
    context: Context, width: int, seed: int, steps: int, rate: float, tick: Callable[[int, float], None]
) -> nn.Module:
    """A trained network with logits out."""
    x, _ = context.train
    network = Centred(start_network(context, width, seed))
    targets = context.machine.targets.to(x)
    return logits(context, gradient_descent(network, x, targets, steps=steps, learning_rate=rate, on_step=tick))


def _row(width: int, seed: int, source: str, eps: float, right: Tensor, agreement: float) -> dict[str, Any]:
    accuracy = proportion(int(right.sum()), len(right))
    return {
        "victim": f"width {width}, seed {seed}",
        "width": width,
        "seed": seed,
        "source": source,
        "eps": 0.0 if source == CLEAN else eps,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "n": accuracy.n,
        "agreement": agreement,
    }


def _effect(width: int, first: str, second: str, right: dict[str, list[Tensor]]) -> dict[str, Any]:
    """Mean difference of accuracy on the same images, averaged over the seeds, with its interval over images."""
    pairs = zip(right[first], right[second], strict=True)
    difference = torch.stack([a.double() - b.double() for a, b in pairs]).mean(0)
    return {
        "width": width,
        "first": first,
        "second": second,
        **mean(difference.cpu().numpy()).row(),
        "n": len(difference),
    }
