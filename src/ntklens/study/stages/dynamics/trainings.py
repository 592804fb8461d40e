"""A small network under standard and adversarial training, its kernel measured after every epoch (claims C7 and C8)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from ntklens.dynamics import KernelTracker
from ntklens.errors import NumericalFailure
from ntklens.modules import copied
from ntklens.networks import network_source, train
from ntklens.progress import Progress
from ntklens.study import networks
from ntklens.study.context import Context, Rows, StageResult
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.attacks import accuracies, tests_at, training_attack
from ntklens.study.stages.dynamics.settled import equal_accuracy
from ntklens.study.stages.dynamics.tracked import dynamics_meta, kernel_tracker, path_tables
from ntklens.study.streams import Stream


@dataclass(frozen=True)
class Training:
    """A training that has come to its end.

    Attributes:
        name: "standard", "FGSM" or "PGD".
        seed: seed of its initialisation and of its batches.
        final: the network at the end, in eval mode.
        folder: folder of its snapshots.
    """

    name: str
    seed: int
    final: nn.Module
    folder: Path

    def at(self, epoch: int) -> nn.Module:
        """Return the network as it was after one of the epochs in `DynamicsSpec.linear_from`."""
        network = copied(self.final)
        network.load_state_dict(load_file(_snapshot(self.folder, epoch)))
        return network.eval()


def trained(context: Context, spec: DynamicsSpec, progress: Progress) -> tuple[StageResult, list[Training]]:
    """Run every training of every seed and measure its kernel.

    A training that diverges has its rows up to that epoch, and the reason among the advice, but settles nowhere. The time
    of the tracker is told as a share of the time of the trainings without their tests.

    Returns:
        The tables "dynamics", "settling", "equal_accuracy", "lazy_epochs", "advice" and "dynamics_meta" with the distance
        maps of the first seed, and the trainings that came to their end.
    """
    trainings: list[Training] = []
    tables: dict[str, Rows] = {}
    result = StageResult(tables)
    jobs = [(seed, name) for seed in range(spec.seeds) for name in spec.trainings]
    tracker_seconds = 0.0
    training_seconds = 0.0
    for number, (seed, name) in enumerate(jobs):
        start = time.perf_counter()
        outcome = _train(context, spec, name, seed, progress.part(number / len(jobs), 1 / len(jobs)))
        training_seconds += time.perf_counter() - start - outcome.measuring_seconds
        tracker_seconds += outcome.tracker.seconds
        new_rows = path_tables(name, seed, outcome.tracker, spec)
        if isinstance(outcome.end, Training):
            trainings.append(outcome.end)
        else:
            # The last epochs before a divergence say nothing about where the kernel would have settled.
            del new_rows["lazy_epochs"], new_rows["settling"]
            last = {"kind": "broken off", "epoch": outcome.tracker.epochs[-1], "text": str(outcome.end)}
            new_rows["advice"].append({"training": name, "seed": seed} | last)
        for table, rows in new_rows.items():
            tables.setdefault(table, []).extend(rows)
        if seed == 0:
            result.arrays[f"distance_{name}"] = outcome.tracker.distance().numpy()
    tables["equal_accuracy"] = equal_accuracy(tables["dynamics"], tables.get("settling", []))
    share = tracker_seconds / training_seconds if training_seconds > 0 else math.nan
    tables["dynamics_meta"] = [dynamics_meta(context, spec) | {"tracker_share": share}]
    return result, trainings


@dataclass(frozen=True)
class _Outcome:
    """What one training leaves.

    Attributes:
        end: the training, or the reason why it did not come to its end.
        tracker: the path of its kernel.
        measuring_seconds: seconds that the tracker and the tests took.
    """

    end: Training | NumericalFailure
    tracker: KernelTracker
    measuring_seconds: float


def _train(context: Context, spec: DynamicsSpec, name: str, seed: int, progress: Progress) -> _Outcome:
    folder = context.scratch / "dynamics" / f"{name}-{seed}"
    tracker = kernel_tracker(context, spec, folder / "track")
    measuring_seconds = 0.0

    def on_epoch(epoch: int, network: nn.Module, loss: float) -> None:
        nonlocal measuring_seconds
        start = time.perf_counter()
        under_attack = tests_at(spec, epoch)
        tracker.record(network, epoch, train_loss=loss, **accuracies(context, spec, network, under_attack=under_attack))
        if epoch in spec.linear_from:
            # safetensors takes contiguous tensors only.
            state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
            save_file(state, _snapshot(folder, epoch))
        measuring_seconds += time.perf_counter() - start
        progress.step(epoch, spec.epochs)

    end: Training | NumericalFailure
    try:
        final = train(
            initial_network(context, spec, seed),
            *context.train,
            epochs=spec.epochs,
            batch_size=spec.batch_size,
            learning_rate=spec.learning_rate,
            momentum=spec.momentum,
            attack=training_attack(name, context, spec),
            generator=context.generator(Stream.TRAINING, seed),
            on_epoch=on_epoch,
            checkpoint=folder / "training.safetensors",
        )
        end = Training(name, seed, final, folder)
    except NumericalFailure as failure:
        end = failure
    return _Outcome(end, tracker, measuring_seconds)


def initial_network(context: Context, spec: DynamicsSpec, seed: int) -> nn.Module:
    """Build the network that all trainings of a seed start from, in torch's own parametrisation."""
    source = network_source(spec.architecture, spec.weights)
    return networks.initial_network(context, source, context.spec.seed + 1000 * seed, width=spec.width)


def _snapshot(folder: Path, epoch: int) -> Path:
    """Return the file of a training's network after an epoch."""
    return folder / f"epoch-{epoch}.safetensors"
