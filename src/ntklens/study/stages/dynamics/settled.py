"""When the kernel of each training settles, and how concentrated it is, at the end and at equal accuracy (C7 and C8)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ntklens.dynamics import Settling
from ntklens.dynamics.settling import first_crossing, interpolated, learned_epoch
from ntklens.schema import bounds
from ntklens.study.context import Rows
from ntklens.vocabulary import PGD, STANDARD

EQUAL_SHARE = 0.97
"""Share of the lower one of two final accuracies at which two trainings are compared as equally accurate.

It is below 1, so that both reach it while their accuracy still grows."""


def settling_row(rows: Sequence[Mapping[str, float]], path: Settling) -> dict[str, Any]:
    """Return the columns of the table "settling": when one kernel settles, and what its training has come to.

    Args:
        rows: of the training's tracker.
        path: of the same tracker.
    """
    learned = learned_epoch([row.get("train_loss", math.nan) for row in rows], path.epochs)
    last = rows[-1]
    scores = {
        key: last.get(key, math.nan) for score in ("accuracy", "robust_accuracy") for key in (score, *bounds(score))
    }
    return {
        "epoch": path.epoch,
        "settled": path.has_settled,
        "first_epoch": path.epochs[0],
        "last_epoch": path.epochs[-1],
        "area": path.area,
        "learned_epoch": learned,
        "distance_when_learned": math.nan if learned is None else path.at(learned),
        "centred_rank": last["centred_rank"],
        **scores,
    }


def equal_accuracy(dynamics: Rows, settled: Rows) -> Rows:
    """Return the table "equal_accuracy": the effective rank of both trainings of a seed where both are equally accurate.

    That is where their clean accuracy first reaches 97 % of the lower one of the two at the end, on the line between two
    epochs. Seeds of which a training did not come to its end are left out.

    Args:
        dynamics: the table of that name.
        settled: the table "settling".
    """
    final = {(row["seed"], row["training"]): row["accuracy"] for row in settled}
    rows: Rows = []
    for seed in sorted({row["seed"] for row in settled}):
        if not {(seed, STANDARD), (seed, PGD)} <= set(final):
            continue
        level = EQUAL_SHARE * min(final[seed, STANDARD], final[seed, PGD])
        for training in (STANDARD, PGD):
            path = [row for row in dynamics if (row["seed"], row["training"]) == (seed, training)]
            epochs = [row["epoch"] for row in path]
            epoch = first_crossing(epochs, [row["accuracy"] for row in path], level)
            # The last epoch reaches the level, so there is a first one.
            rank = math.nan if epoch is None else interpolated(epochs, [row["centred_rank"] for row in path], epoch)
            columns = {"training": training, "seed": seed, "accuracy": level, "epoch": epoch, "centred_rank": rank}
            rows.append(columns)
    return rows
