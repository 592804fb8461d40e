"""A small network under standard and adversarial training, its kernel measured after every epoch (claims C7 and C8)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ntklens.attacks import accuracy, fgsm, pgd
from ntklens.dynamics import KernelTracker, advice
from ntklens.errors import NumericalFailure
from ntklens.networks import build, train
from ntklens.progress import Progress
from ntklens.statistics import Estimate
from ntklens.study.context import Context, StageResult
from ntklens.study.spec import DynamicsSpec
from ntklens.study.streams import Stream

THRESHOLDS = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Velocities, in kernel distance an epoch, below which a kernel is asked to stay, beside the experiment's own."""


@dataclass(frozen=True)
class Training:
    """One training that is done.

    Attributes:
        name: "standard", "FGSM" or "PGD".
        seed: of its initialisation and of its batches.
        final: the network at its end, in eval mode.
        folder: of its snapshots.
    """

    name: str
    seed: int
    final: nn.Module
    folder: Path

    def at(self, epoch: int) -> nn.Module:
        """The network as it was after an epoch that the experiment asked for."""
        return _filled(self.final, self.folder / f"epoch-{epoch}.safetensors")


def trained(context: Context, spec: DynamicsSpec, result: StageResult, progress: Progress) -> list[Training]:
    """Every training of every seed that comes to its end; rows, distance maps, lazy epochs and advice go to the result.

    One that diverges has its rows up to there, and a word about it among the advice.

    The tracker's time is told as a share of the training's own, without tests.
    """
    runs: list[Training] = []
    count = len(spec.trainings) * spec.seeds
    measured, worked, done = 0.0, 0.0, 0
    for seed in range(spec.seeds):
        for name in spec.trainings:

            def tick(epoch: int, before: int = done) -> None:
                progress((before + epoch / spec.epochs) / count)

            start = time.perf_counter()
            run, tracker, aside = _one(context, spec, name, seed, tick)
            worked += time.perf_counter() - start - aside
            measured += tracker.seconds
            found = found_of(name, seed, tracker, spec)
            if isinstance(run, Training):
                runs.append(run)
            else:
                del found["lazy_epochs"]
                told = {
                    "training": name,
                    "seed": seed,
                    "kind": "broken off",
                    "epoch": tracker.epochs[-1],
                    "text": str(run),
                }
                found["advice"].append(told)
            for table, rows in found.items():
                result.tables.setdefault(table, []).extend(rows)
            done += 1
            if seed == 0:
                result.arrays[f"distance_{name}"] = tracker.distance().numpy()
    share = measured / worked if worked > 0 else math.nan
    result.tables["dynamics_meta"] = [meta_of(context, spec) | {"tracker_share": share}]
    return runs


def found_of(name: str, seed: int, tracker: KernelTracker, spec: DynamicsSpec) -> dict[str, list[dict[str, Any]]]:
    """Tables of one path of a kernel: epoch by epoch, first lazy epochs by threshold, advice."""
    own: dict[str, Any] = {"training": name, "seed": seed}
    rows, one_step = tracker.rows(), name in ("FGSM", "watched")
    thresholds = sorted({*THRESHOLDS, spec.lazy_threshold}, reverse=True)
    return {
        "dynamics": [{**own, **row} for row in rows],
        "lazy_epochs": [{**own, "threshold": t, "epoch": tracker.lazy_epoch(t)} for t in thresholds],
        "advice": [
            {**own, **a.row()} for a in advice(rows, spec.lazy_threshold, tracker.distance(), one_step=one_step)
        ],
    }


def meta_of(context: Context, spec: DynamicsSpec) -> dict[str, Any]:
    """What the figures say of an experiment."""
    return {
        "top_k": spec.top_k,
        "probe": min(spec.probe, len(context.test[1])),
        "seeds": spec.seeds,
        "lazy_threshold": spec.lazy_threshold,
        "architecture": spec.architecture,
        "attack_steps": spec.attack_steps,
        "eps": context.threat.eps,
    }


def attack_of(name: str, context: Context, spec: DynamicsSpec) -> Callable[[nn.Module, Tensor, Tensor], Tensor] | None:
    """What a training puts in the place of its images; None for the standard one."""
    threat = context.threat
    if name == "FGSM":
        return lambda model, x, y: fgsm(model, x, y, threat.eps, threat.norm)
    if name == "PGD":
        return lambda model, x, y: pgd(model, x, y, threat.eps, threat.norm, steps=spec.attack_steps)
    return None


def tested(context: Context, spec: DynamicsSpec, model: nn.Module) -> dict[str, float]:
    """Accuracy on the test images, clean and under PGD and one step on this very model."""
    x, y = context.test
    clean = accuracy(model, x, y)
    found = {name: accuracy(model, _attacked(name, context, spec, model), y) for name in ("PGD", "FGSM")}
    row = _columns(clean, "accuracy", "accuracy") | _columns(found["PGD"], "robust_accuracy", "robust")
    return row | {"one_step_accuracy": found["FGSM"].value}


def _attacked(name: str, context: Context, spec: DynamicsSpec, model: nn.Module) -> Tensor:
    attack = attack_of(name, context, spec)
    assert attack is not None
    return attack(model, *context.test)


def _one(
    context: Context, spec: DynamicsSpec, name: str, seed: int, tick: Callable[[int], None]
) -> tuple[Training | NumericalFailure, KernelTracker, float]:
    """The training, or why there is none; its tracker, and the seconds of its tracking and tests."""
    x_test, y_test = context.test
    network = _initialised(context, spec, seed)
    folder = context.scratch / "dynamics" / f"{name}-{seed}"
    probe = slice(0, spec.probe)
    tracker = KernelTracker(
        x_test[probe],
        y_test[probe],
        top_k=spec.top_k,
        folder=folder / "track",
        attack=attack_of("FGSM", context, spec),
    )
    kept, aside = {*spec.linear_from}, 0.0

    def on_epoch(epoch: int, model: nn.Module, loss: float) -> None:
        nonlocal aside
        start = time.perf_counter()
        tracker.record(model, epoch, train_loss=loss, **tested(context, spec, model))
        if epoch in kept:
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / f"epoch-{epoch}.safetensors")
        aside += time.perf_counter() - start
        tick(epoch)

    try:
        final = train(
            network,
            *context.train,
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            learning_rate=spec.learning_rate,
            momentum=spec.momentum,
            attack=attack_of(name, context, spec),
            generator=context.generator(Stream.TRAINING, seed),
            on_epoch=on_epoch,
            checkpoint=folder / "training.safetensors",
        )
    except NumericalFailure as failure:
        return failure, tracker, aside
    return Training(name, seed, final, folder), tracker, aside


def _columns(estimate: Estimate, name: str, stem: str) -> dict[str, float]:
    return {name: estimate.value, f"{stem}_low": estimate.low, f"{stem}_high": estimate.high}


def _initialised(context: Context, spec: DynamicsSpec, seed: int) -> nn.Module:
    """Torch's own initialisation, drawn from the experiment's seed; the global random state is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(context.spec.seed + 1000 * seed)
        network = build(spec.architecture, context.data.shape, len(context.data.classes), width=spec.width)
    return network.to(context.spec.device)


def initial(context: Context, spec: DynamicsSpec, seed: int) -> nn.Module:
    """The network that all trainings of a seed start from."""
    return _initialised(context, spec, seed).eval()


def _filled(like: nn.Module, path: Path) -> nn.Module:
    network = copy.deepcopy(like)
    network.load_state_dict(load_file(path))
    return network.eval()
