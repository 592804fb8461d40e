"""Images made on surrogates, most of them never trained, against victims that they have not seen."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from ntklens.progress import Progress
from ntklens.statistics import mean
from ntklens.study.context import Context, StageResult
from ntklens.study.spec import TransferSpec
from ntklens.study.streams import Stream
from ntklens.transfer import CLEAN, Surrogate, TrainingRecipe, TransferScore, surrogate, transfer_scores

WHITE_BOX = "white-box"
_SURROGATE_SEED = 1000
"""So far are the seeds of trained surrogates from those of the victims."""


def transfer_stage(context: Context, spec: TransferSpec, progress: Progress) -> StageResult:
    """Accuracy of every victim on the images of every surrogate, over seeds of the victim, and what each surrogate costs.

    Surrogates are fitted on a sample of the training images and victims trained on all of them. White-box images are
    made on the victim itself. Success has two definitions: 1 - accuracy on the attacked images, and the share fooled
    among the images that the victim had right before.
    """
    x, y = context.test
    sources, costs = _sources(context, spec, progress.part(0.0, 0.4))
    train_x, train_y = context.train
    how = _training(spec)
    total, done = len(spec.victims) * spec.seeds, 0
    rows: list[dict[str, Any]] = []
    spent = 0.0
    for architecture in spec.victims:
        for seed in range(spec.seeds):

            def tell(share: float, before: int = done) -> None:
                progress(0.4 + 0.6 * (before + share) / total)

            victim = how.network(
                architecture, train_x, train_y, len(context.data.classes), context.spec.seed + seed, tell
            )
            start = time.perf_counter()
            own = _images(context, Surrogate(WHITE_BOX, victim), x, y)
            spent += time.perf_counter() - start
            for name, scored in transfer_scores(victim, x, y, {**sources, WHITE_BOX: own}).items():
                rows.append(_row(context, name, architecture, seed, scored))
            done += 1
    costs.append({"surrogate": WHITE_BOX, "fitting_seconds": 0.0, "attack_seconds": spent / total,
                  "training_gradients": 0, "attack_gradients": len(x) * context.threat.steps})  # fmt: skip
    a = context.threat
    meta = {
        "eps": a.eps,
        "norm": a.norm,
        "steps": a.steps,
        "loss": a.loss,
        "seeds": spec.seeds,
        "epochs": spec.epochs,
        "sample": min(spec.sample, len(train_x)),
        "train": len(train_x),
        "test": len(x),
        "width": spec.width,
    }
    tables = {"transfer": rows, "transfer_means": _means(rows), "transfer_cost": costs, "transfer_meta": [meta]}
    return StageResult(tables)


def _training(spec: TransferSpec, rounds: float = 1) -> TrainingRecipe:
    return TrainingRecipe(round(spec.epochs * rounds), spec.batch_size, spec.learning_rate, spec.width)


def _images(context: Context, source: Surrogate, x: Tensor, y: Tensor) -> Tensor:
    a = context.threat
    return source.images(x, y, a.eps, a.norm, steps=a.steps, loss=a.loss, generator=context.generator(Stream.TRANSFER))


def _sources(
    context: Context, spec: TransferSpec, progress: Progress
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Each surrogate's images of the test set, and its cost."""
    (x, y), (train_x, train_y), k = context.test, context.train, context.spec.kernel
    sources: dict[str, Tensor] = {}
    costs = []
    models: dict[str, Surrogate] = {}
    for done, name in enumerate(spec.surrogates, 1):
        made = surrogate(
            name,
            train_x[: spec.sample],
            train_y[: spec.sample],
            len(context.data.classes),
            seed=context.spec.seed + _SURROGATE_SEED,
            w_std=k.w_std,
            b_std=k.b_std,
            ridge=k.ridge,
            training=_training(spec, len(train_x) / min(spec.sample, len(train_x))),
            models=models,
        )
        start = time.perf_counter()
        sources[name] = _images(context, made, x, y)
        attack = time.perf_counter() - start
        costs.append({
            "surrogate": name,
            "fitting_seconds": made.seconds,
            "attack_seconds": attack,
            "training_gradients": made.gradient_evaluations,
            "attack_gradients": 0 if made.model is None else len(x) * context.threat.steps,
        })  # fmt: skip
        progress(done / len(spec.surrogates))
    return sources, costs


def _row(context: Context, name: str, victim: str, seed: int, scored: TransferScore) -> dict[str, Any]:
    return {
        "surrogate": name,
        "victim": victim,
        "seed": seed,
        "eps": 0.0 if name == CLEAN else context.threat.eps,
        **scored.accuracy.row("accuracy"),
        **scored.fooled.row("fooled"),
        "n": scored.accuracy.n,
    }


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds with Student's interval over them, which one seed does not give."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["surrogate"], row["victim"]), []).append(row)
    out = []
    for (source, victim), group in cells.items():
        values: dict[str, float | None] = {}
        for key in ("accuracy", "fooled"):
            found = mean([r[key] for r in group], within=(0, 1))
            low, high = (None, None) if found.n < 2 else (found.low, found.high)
            values |= {key: found.value, f"{key}_low": low, f"{key}_high": high}
        out.append({"surrogate": source, "victim": victim, "seeds": len(group), **values})
    return out
