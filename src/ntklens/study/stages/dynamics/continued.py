"""Linearised training from an epoch on, beside the network that trained on to the end (Loo et al. 2022)."""

from __future__ import annotations

from typing import Any

from ntklens.errors import NumericalFailure
from ntklens.networks import linearize, train
from ntklens.study.context import Context, Progress
from ntklens.study.spec import DynamicsSpec
from ntklens.study.stages.dynamics.trainings import Training, attack_of, tested


def continued(context: Context, spec: DynamicsSpec, runs: list[Training], progress: Progress) -> list[dict[str, Any]]:
    """Clean and robust accuracy of expansions about the network of an epoch, trained on clean and on attacked images.

    Attacks of the training and of the test are taken on the expansion itself. A training that diverges has no accuracy.
    """
    rows = []
    starts = [(run, epoch, data) for run in runs for epoch in spec.linear_from for data in ("standard", "PGD")]
    for done, (run, epoch, data) in enumerate(starts):
        row: dict[str, Any] = {"training": run.name, "seed": run.seed, "from_epoch": epoch, "linearised": data}
        try:
            network = train(
                linearize(run.at(epoch)),
                *context.train,
                epochs=spec.linear_epochs,
                batch_size=spec.batch_size,
                learning_rate=spec.linear_rate,
                momentum=spec.momentum,
                attack=attack_of(data, context, spec),
                generator=context.generator(12, run.seed, epoch),
                checkpoint=run.folder / f"linear-{epoch}-{data}.safetensors",
            )
            rows.append(row | tested(context, spec, network))
        except NumericalFailure:
            rows.append(row | {"accuracy": None, "robust_accuracy": None})
        progress((done + 1) / len(starts))
    for run in runs:
        row = {"training": run.name, "seed": run.seed, "from_epoch": spec.epochs, "linearised": "not"}
        rows.append(row | tested(context, spec, run.final))
    return rows
