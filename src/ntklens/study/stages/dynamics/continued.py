"""Linearised training from an epoch on, beside the network that trained on to the end (Loo et al. 2022)."""

from __future__ import annotations

from ntklens.errors import NumericalFailure
from ntklens.networks import linearize, train
from ntklens.progress import Progress
from ntklens.study.context import Context, Rows
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.attacks import training_attack
from ntklens.study.stages.dynamics.trainings import Training
from ntklens.study.stages.dynamics.worst import NOT_MEASURED, worst_columns, worst_outcomes
from ntklens.study.streams import Stream
from ntklens.vocabulary import NOT_LINEARISED, PGD, STANDARD


def continued(context: Context, spec: DynamicsSpec, trainings: list[Training], progress: Progress) -> Rows:
    """Train the first-order expansion about the network of an epoch, on clean and on attacked images, and score it.

    During training, the expansion itself is attacked. It is tested by `worst_outcomes`, and so are the networks that
    trained on to the end. An expansion whose training diverges has no accuracy.

    Returns:
        The table "continued", one row per expansion and one per network.
    """
    sample = slice(0, spec.machine_test)
    x, y = (tensor[sample] for tensor in context.test)
    jobs = [(run, epoch, data) for run in trainings for epoch in spec.linear_from for data in (STANDARD, PGD)]
    rows: Rows = []
    for done, (run, epoch, data) in enumerate(jobs, 1):
        row = {"training": run.name, "seed": run.seed, "from_epoch": epoch, "linearised": data}
        try:
            start = run.at(epoch)
            network = train(
                linearize(start),
                *context.train,
                epochs=spec.linear_epochs,
                batch_size=spec.batch_size,
                learning_rate=spec.linear_rate,
                momentum=spec.momentum,
                attack=training_attack(data, context, spec),
                generator=context.generator(Stream.LINEARISED_TRAINING, run.seed, epoch),
                checkpoint=run.folder / f"linear-{epoch}-{data}.safetensors",
            )
            rows.append(row | worst_columns(*worst_outcomes(context, spec, network, [start], x, y)))
        except NumericalFailure:
            rows.append(row | NOT_MEASURED)
        progress.step(done, len(jobs))
    for run in trainings:
        row = {"training": run.name, "seed": run.seed, "from_epoch": spec.epochs, "linearised": NOT_LINEARISED}
        rows.append(row | worst_columns(*worst_outcomes(context, spec, run.final, [], x, y)))
    return rows
