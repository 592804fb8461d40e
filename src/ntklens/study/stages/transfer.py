"""Images made on surrogates, most of them never trained, against victims that they have not seen."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from ntklens.progress import Parts, Progress
from ntklens.study.class_outputs import class_outputs
from ntklens.study.context import Context, Rows, StageResult
from ntklens.study.networks import given_network, named_surrogates, named_victims
from ntklens.study.parts import of_surrogate, of_victim
from ntklens.study.rows import over_seeds
from ntklens.study.spec import TransferSpec
from ntklens.study.streams import Stream
from ntklens.transfer import Surrogate, SurrogateName, TrainingRecipe, TransferScore, surrogate, transfer_scores
from ntklens.vocabulary import CLEAN, WHITE_BOX

_SURROGATE_SEED = 1000
"""Offset between the seeds of trained surrogates and those of the victims."""


def transfer_stage(context: Context, spec: TransferSpec, progress: Progress) -> StageResult:
    """Measure the accuracy of every victim on the images of every surrogate, and what each surrogate costs.

    Surrogates are fitted on a sample of the training images, victims are trained on all of them, over several seeds; a
    victim with weights of its own is taken as it is.
    White-box images are made on the victim itself. Success has two definitions: 1 - accuracy on the attacked images, and
    the share fooled among the images that the victim classified right before.
    """
    x, y = context.test
    x_train, y_train = context.train
    classes = len(context.data.classes)
    surrogates, victims_by_source = named_surrogates(context, spec), named_victims(context, spec)
    weights = dict.fromkeys(map(of_surrogate, surrogates), 0.4 / max(1, len(surrogates)))
    weights |= dict.fromkeys(map(of_victim, victims_by_source.values()), 0.6 / max(1, len(victims_by_source)))
    parts = context.parts("transfer", progress, weights)
    images, costs = _surrogate_images(context, spec, surrogates, parts)
    training = _training(spec)
    # A network that brings its weights is one victim, whatever the seed.
    given = {source for source in victims_by_source if not source.draws_its_weights()}
    rows: Rows = []
    white_box_seconds = 0.0
    victims = 0
    for network, name in victims_by_source.items():
        with parts(of_victim(name)) as part:
            seeds = 1 if network in given else spec.seeds
            for seed in range(seeds):
                if network in given:
                    victim = given_network(context, network)
                else:
                    victim_progress = part.part(seed / seeds, 0.9 / seeds)
                    victim_seed = context.spec.seed + seed
                    victim = training.network(network, x_train, y_train, classes, victim_seed, victim_progress)
                start = time.perf_counter()
                own_attack = part.part((seed + 0.9) / seeds, 0.1 / seeds)
                x_white_box = _attacked(context, Surrogate(WHITE_BOX, victim), own_attack)
                white_box_seconds += time.perf_counter() - start
                victims += 1
                # The scores include that of the clean images.
                for source, result in transfer_scores(victim, x, y, images | {WHITE_BOX: x_white_box}).items():
                    rows.append(_row(context, source, name, seed, result))
    costs.append(
        {
            "surrogate": WHITE_BOX,
            "fitting_seconds": 0.0,
            "attack_seconds": white_box_seconds / victims,
            "training_gradients": 0,
            "attack_gradients": len(x) * context.threat.steps,
        }
    )
    named = [name for source, name in victims_by_source.items() if source in given]
    tables = {
        "transfer": rows,
        "transfer_means": _means(rows),
        "transfer_cost": costs,
        "transfer_meta": [_meta(context, spec) | {"given": ", ".join(named)}],
    }
    return StageResult(tables)


def _training(spec: TransferSpec, factor: float = 1) -> TrainingRecipe:
    """Return the recipe of a training with `factor` times the epochs of the spec."""
    return TrainingRecipe(round(spec.epochs * factor), spec.batch_size, spec.learning_rate, spec.width)


def _attacked(context: Context, source: Surrogate, progress: Progress | None = None) -> Tensor:
    """Return the test images, attacked on a surrogate."""
    threat = context.threat
    x, y = context.test
    generator = context.generator(Stream.TRANSFER)
    options: dict[str, Any] = {"steps": threat.steps, "loss": threat.loss, "progress": progress}
    return source.images(x, y, threat.eps, threat.norm, generator=generator, **options)


def _surrogate_images(
    context: Context, spec: TransferSpec, surrogates: dict[str, SurrogateName], parts: Parts
) -> tuple[dict[str, Tensor], Rows]:
    """Return the images that each surrogate makes of the test set, by its name, and the table of costs."""
    kernel = context.spec.kernel
    x_train, y_train = context.train
    n_test = len(context.test[1])
    sample = min(spec.sample, len(x_train))
    # A surrogate sees fewer images than a victim, and takes as many steps by as many more epochs.
    training = _training(spec, len(x_train) / sample)
    fitted: dict[str, Surrogate] = {}
    images: dict[str, Tensor] = {}
    costs: Rows = []
    for name, known in surrogates.items():
        fitting = _fitting_share(known, sample, n_test * context.threat.steps, training)
        with parts(of_surrogate(name)) as progress:
            source = surrogate(
                known,
                x_train[:sample],
                y_train[:sample],
                len(context.data.classes),
                seed=context.spec.seed + _SURROGATE_SEED,
                w_std=kernel.w_std,
                b_std=kernel.b_std,
                ridge=kernel.ridge,
                width=kernel.width,
                training=training,
                models=fitted,
                class_outputs=class_outputs(context, name),
                progress=progress.part(0.0, fitting),
            )
            start = time.perf_counter()
            images[name] = _attacked(context, source, progress.part(fitting, 1 - fitting))
            attack_seconds = time.perf_counter() - start
        costs.append(
            {
                "surrogate": name,
                "fitting_seconds": source.seconds,
                "attack_seconds": attack_seconds,
                "training_gradients": source.gradient_evaluations,
                "attack_gradients": 0 if source.model is None else n_test * context.threat.steps,
            }
        )
    return images, costs


def _fitting_share(known: SurrogateName, sample: int, gradients: int, training: TrainingRecipe) -> float:
    """Return the share of a surrogate's time in which it is fitted or trained; the attack takes the rest.

    Args:
        known: the surrogate.
        sample: number of its images.
        gradients: number of gradients that the attack takes.
        training: how a network is trained.
    """
    if known.kind == "net":
        steps = 0 if known.network is not None and known.network.is_trained else training.epochs * sample
        return steps / (steps + gradients + 1)
    # A gradient takes the pairs with the whole sample, each about three times as long as a value; one half of the matrix
    # is computed.
    return sample / (sample + 6 * gradients)


def _row(context: Context, source: str, victim: str, seed: int, result: TransferScore) -> dict[str, Any]:
    """Return the row of one source on one victim."""
    return {
        "surrogate": source,
        "victim": victim,
        "seed": seed,
        "eps": 0.0 if source == CLEAN else context.threat.eps,
        **result.accuracy.row("accuracy"),
        **result.fooled.row("fooled"),
        "n": result.accuracy.n,
    }


def _means(rows: Rows) -> Rows:
    """Return the means over the seeds, one row per surrogate and victim."""
    cells: dict[tuple[str, str], Rows] = {}
    for row in rows:
        cells.setdefault((row["surrogate"], row["victim"]), []).append(row)
    return [
        {"surrogate": source, "victim": victim, "seeds": len(cell)}
        | over_seeds([row["accuracy"] for row in cell], "accuracy")
        | over_seeds([row["fooled"] for row in cell], "fooled")
        for (source, victim), cell in cells.items()
    ]


def _meta(context: Context, spec: TransferSpec) -> dict[str, Any]:
    threat = context.threat
    n_train = len(context.data.train)
    return {
        "eps": threat.eps,
        "norm": threat.norm,
        "steps": threat.steps,
        "loss": threat.loss,
        "seeds": spec.seeds,
        "epochs": spec.epochs,
        "sample": min(spec.sample, n_train),
        "train": n_train,
        "test": len(context.data.test),
        "width": spec.width,
    }
