"""Linearised training from an epoch on, beside the network that trained on to the end (Loo et al. 2022)."""

from __future__ import annotations

from typing import Any

from ntklens.errors import NumericalFailure
from ntklens.networks import linearize, train
from ntklens.progress import Progress
from ntklens.study.context import Context
from ntklens.study.spec import DynamicsSpec
from ntklens.study.stages.dynamics.trainings import Training, attack_of
from ntklens.study.stages.dynamics.worst import worst_case
from ntklens.study.streams import Stream


def continued(context: Context, spec: DynamicsSpec, runs: list[Training], progress: Progress) -> list[dict[str, Any]]:
    """Clean and robust accuracy of expansions about the network of an epoch, trained on clean and on attacked images.

    The attack of the training is taken on the expansion itself; the test is `worst_case`, for the networks as they went on
    to the end as well. A training that diverges has no accuracy.
    """
    rows: list[dict[str, Any]] = []
    seen = slice(0, spec.machine_test)
    x, y = context.test[0][seen], context.test[1][seen]
    starts = [(run, epoch, data) for run in runs for epoch in spec.linear_from for data in ("standard", "PGD")]
    for done, (run, epoch, data) in enumerate(starts):
        row: dict[str, Any] = {"training": run.name, "seed": run.seed, "from_epoch": epoch, "linearised": data}
        try:
            start = run.at(epoch)
            network = train(
                linearize(start),
                *context.train,
                epochs=spec.linear_epochs,
                batch_size=spec.batch_size,
                learning_rate=spec.linear_rate,
                momentum=spec.momentum,
                attack=attack_of(data, context, spec),
                generator=context.generator(Stream.LINEARISED_TRAINING, run.seed, epoch),
                checkpoint=run.folder / f"linear-{epoch}-{data}.safetensors",
            )
            rows.append(row | worst_case(context, spec, network, [start], x, y))
        except NumericalFailure:
            rows.append(row | {"accuracy": None, "robust_accuracy": None, "pgd_accuracy": None})
        progress((done + 1) / len(starts))
    for run in runs:
        row = {"training": run.name, "seed": run.seed, "from_epoch": spec.epochs, "linearised": "not"}
        rows.append(row | worst_case(context, spec, run.final, [], x, y))
    return rows
