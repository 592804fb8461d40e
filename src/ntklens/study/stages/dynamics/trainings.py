"""The kernel of a small network over standard and adversarial training (claims C7 and C8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ntklens.attacks import accuracy, pgd
from ntklens.dynamics import KernelTracker
from ntklens.networks import build, train
from ntklens.statistics import Estimate
from ntklens.study.context import Context, Progress, StageResult
from ntklens.study.spec import DynamicsSpec

TRAININGS = ("standard", "adversarial")


def dynamics_stage(context: Context, progress: Progress) -> StageResult:
    """Train twice from one initialisation and one order of batches, and measure the kernel after every epoch."""
    spec = context.spec.dynamics or DynamicsSpec()
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    lazy: dict[str, float | None] = {}
    epochs = 2 * spec.epochs
    for number, name in enumerate(TRAININGS):

        def tick(epoch: int, number: int = number) -> None:
            progress((number * spec.epochs + epoch) / epochs)

        tracker = _track(context, spec, tick, adversarial=name == "adversarial")
        rows += [{"training": name, **row} for row in tracker.rows()]
        arrays[f"distance_{name}"] = tracker.distance().numpy()
        lazy[name] = tracker.lazy_epoch(spec.lazy_threshold)
    arrays["epochs"] = np.arange(spec.epochs + 1)
    meta = {
        "top_k": spec.top_k,
        "probe": spec.probe,
        "lazy_threshold": spec.lazy_threshold,
        "lazy_epoch_standard": lazy["standard"],
        "lazy_epoch_adversarial": lazy["adversarial"],
        "architecture": spec.architecture,
        "attack_steps": spec.attack_steps,
        "eps": context.attack.eps,
    }
    return StageResult({"dynamics": rows, "dynamics_meta": [meta]}, arrays)


def _track(context: Context, spec: DynamicsSpec, tick: Callable[[int], None], *, adversarial: bool) -> KernelTracker:
    (x, y), (x_test, y_test), threat = context.train, context.test, context.attack
    network = _initialised(context, spec)
    tracker = KernelTracker(x_test[: spec.probe], y_test[: spec.probe], top_k=spec.top_k)

    def attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return pgd(model, images, labels, threat.eps, threat.norm, steps=spec.attack_steps)

    def on_epoch(epoch: int, model: nn.Module, loss: float) -> None:
        clean = accuracy(model, x_test, y_test)
        robust = accuracy(model, attack(model, x_test, y_test), y_test)
        scalars = _columns(clean, "accuracy", "accuracy") | _columns(robust, "robust_accuracy", "robust")
        tracker.record(model, epoch, train_loss=loss, **scalars)
        tick(epoch)

    train(
        network,
        x,
        y,
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        momentum=spec.momentum,
        attack=attack if adversarial else None,
        generator=context.generator(11),
        on_epoch=on_epoch,
    )
    return tracker


def _columns(estimate: Estimate, name: str, stem: str) -> dict[str, float]:
    return {name: estimate.value, f"{stem}_low": estimate.low, f"{stem}_high": estimate.high}


def _initialised(context: Context, spec: DynamicsSpec) -> nn.Module:
    """Torch's own initialisation, drawn from the experiment's seed; the global random state is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(context.spec.seed)
        network = build(spec.architecture, context.data.shape, len(context.data.classes), width=32)
    return network.to(context.spec.device)
