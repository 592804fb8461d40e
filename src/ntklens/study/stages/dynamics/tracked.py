"""What is read off the path of a kernel, whether the training is the experiment's own or one that is watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ntklens.dynamics import KernelTracker, advice
from ntklens.networks import network_source
from ntklens.study.context import Context, Rows
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.attacks import knows_one_step, one_step, scored
from ntklens.study.stages.dynamics.settled import settling_row
from ntklens.vocabulary import FGSM, WATCHED

THRESHOLDS = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Velocities, in kernel distance per epoch, whose first lazy epochs are listed beside that of the experiment's own."""


def kernel_tracker(
    context: Context, spec: DynamicsSpec, folder: Path, outputs: tuple[int, ...] | None = None
) -> KernelTracker:
    """Return a tracker on the first test images that keeps its kernels in a folder.

    Args:
        context: of the experiment.
        spec: of the trainings.
        folder: of the kernels.
        outputs: the network's output of each class; None for the same order.
    """
    x, y = (tensor[: spec.probe] for tensor in context.test)
    y = y if outputs is None else torch.tensor(outputs, device=y.device)[y]
    attack = one_step(context) if knows_one_step(spec) else None
    return KernelTracker(x, y, top_k=spec.top_k, folder=folder, attack=attack)


def path_tables(training: str, seed: int, tracker: KernelTracker, spec: DynamicsSpec) -> dict[str, Rows]:
    """Return the tables of one path of a kernel: its measures per epoch, when it settles, and advice.

    The alarm for catastrophic overfitting is for training on one-step images. It is also given for watched checkpoints,
    since nobody knows how these were trained; a fall of the cosine alone, without one of the accuracy under PGD, is none.
    """
    run: dict[str, Any] = {"training": training, "seed": seed}
    rows = tracker.rows()
    thresholds = sorted({*THRESHOLDS, spec.lazy_threshold}, reverse=True)
    may_be_one_step = training in (FGSM, WATCHED)
    pieces = advice(rows, spec.lazy_threshold, tracker.distance(), one_step=may_be_one_step)
    return {
        "dynamics": [run | row for row in rows],
        "settling": [run | settling_row(rows, tracker.settling())],
        "lazy_epochs": [run | {"threshold": t, "epoch": tracker.lazy_epoch(t)} for t in thresholds],
        "advice": [run | piece.row() for piece in pieces],
    }


def dynamics_meta(context: Context, spec: DynamicsSpec) -> dict[str, Any]:
    """Return the row of the table "dynamics_meta": what the figures say of the experiment."""
    return {
        "top_k": spec.top_k,
        "probe": min(spec.probe, len(context.data.test)),
        "seeds": spec.seeds,
        "lazy_threshold": spec.lazy_threshold,
        "architecture": network_source(spec.architecture, spec.weights).label,
        "attack_steps": spec.attack_steps,
        "majority": float(torch.bincount(context.test[1]).max()) / len(context.data.test),
        "eps": context.threat.eps,
        "norm": context.threat.norm,
        "images": None if spec.data is None else _images(context),
        "fingerprint": context.data.fingerprint(),
        "scored": len(scored(spec, len(context.data.test))),
    }


def _images(context: Context) -> str:
    """Return what images a training is on, where they are other ones than the experiment's."""
    data = context.data
    return (
        f"{data.name} ({', '.join(data.classes)}), {len(data.train):,} to train on and {len(data.test):,} to score on"
    )
