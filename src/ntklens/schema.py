"""The tables of a record: which columns each of them has.

The stages write these tables; the claims, the report and the command line read them by name. A table that a stage adds
to a record has to be listed here with exactly its columns, so that a misspelled column is an error and not an empty cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ntklens.statistics import Estimate
from ntklens.vocabulary import FRAGILE, ROBUST


@dataclass(frozen=True)
class Table:
    """The columns of a table.

    Attributes:
        columns: columns of every row; a value that could not be measured is None.
        optional: columns that some rows, or the rows of some experiments, do not have.
    """

    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def every(self) -> set[str]:
        """All columns, the optional ones among them."""
        return {*self.columns, *self.optional}


def bounds(column: str) -> tuple[str, str]:
    """Return the columns that hold the ends of a column's 95 % interval.

    Example:
        >>> bounds("accuracy"), bounds("value")
        (('accuracy_low', 'accuracy_high'), ('low', 'high'))
    """
    _, low, high = _estimate(column)
    return low, high


def _estimate(column: str = "value") -> tuple[str, ...]:
    """Return the columns of an estimate with its interval, as `Estimate.row` names them."""
    estimate = Estimate(math.nan, math.nan, math.nan, 0)
    return tuple(estimate.row("" if column == "value" else column))


_ACCURACY = _estimate("accuracy")
_ROBUST_ACCURACY = _estimate("robust_accuracy")
_CERTIFIED = _estimate("certified_accuracy")
_VALUE = _estimate()
_COSINE = _estimate("cosine")
_EXAMPLE = ("index", "label", "prediction", "adversarial_prediction", "eps", "norm")
_BAND = ("first", "last", "label_energy")
_RUN = ("training", "seed")
_POLAR = ("radius", "angle", "radius_top", "angle_top", "radius_bottom", "angle_bottom")

_JUDGED = ("measure", "estimate", "low", "high", "side", "margin", "unit", "would_decide")

WORST_CASE = (*_ACCURACY, *_ROBUST_ACCURACY, "pgd_accuracy", "n")
"""Columns of a model's accuracy on clean images, under PGD alone, and in the worst case of several attacks."""

AUDIT_SHARES = ("aligned", "conflicting", "success", "clean_accuracy", "noise_accuracy", "perturbed_accuracy")
"""Columns of shares in the rows of audits, which are no tables of a record."""

TABLES: dict[str, dict[str, Table]] = {
    "data": {"data": Table(("name", "classes", "train", "test", "shape", "fingerprint", "licence", "notes"))},
    "attack": {
        "attack_curve": Table(("model", "attack", "norm", "eps", *_ACCURACY, "n")),
        "attack_effect": Table(("comparison", "eps", *_VALUE, "n")),
        "gallery": Table(_EXAMPLE),
    },
    "victim": {
        "victim": Table(
            (
                *("source", "kind", "attack", "norm", "eps", *_ACCURACY, "rounded_accuracy", "fooled", "queries"),
                *("gradient_evaluations", "fitting_seconds", "attack_seconds"),
            )
        ),
        "victim_effect": Table(("first", "second", "eps", *_VALUE, "n")),
        "victim_sources": Table(
            ("source", "kind", "sample", "queries", "time"), optional=("search_fooled", "correlation", "loss")
        ),
        "victim_notes": Table(("source", "text")),
        "victim_meta": Table(
            (
                *("victim", "strongest", "test", "files", "outputs", "classes", *_estimate("worst_accuracy")),
                *("asked", "scoring_queries", "check_queries", "repeated_queries"),
            ),
            optional=("class_outputs",),
        ),
        "victim_gallery": Table(_EXAMPLE),
        "victim_checks": Table(("of", "check", "passed", "images", "seen")),
    },
    "lazy": {
        "lazy": Table(("victim", "width", "seed", "source", "eps", *_ACCURACY, "n", "agreement"), optional=_COSINE),
        "lazy_effect": Table(("width", "first", "second", *_VALUE, "n", "seeds", "seed_share")),
        "lazy_narrowing": Table(("narrowest", "widest", *_VALUE, "n", "seeds", "seed_share")),
        "lazy_cost": Table(("source", "seconds", "gradient_evaluations")),
        "lazy_meta": Table(("steps", "learning_rate", "seeds")),
        "lazy_steps": Table(("steps", "seed", "width", "source", "accuracy"), optional=_COSINE),
        "lazy_regimes": Table(
            (
                *("regime", "width", "seeds", "clean", "noise", "kernel", "white_box", *_VALUE, "cosine"),
                *(*_estimate("beyond_noise"), "n", "seed_share"),
            )
        ),
    },
    "transfer": {
        "transfer": Table(("surrogate", "victim", "seed", "eps", *_ACCURACY, *_estimate("fooled"), "n")),
        "transfer_means": Table(("surrogate", "victim", "seeds", *_ACCURACY, *_estimate("fooled"))),
        "transfer_cost": Table(
            ("surrogate", "fitting_seconds", "attack_seconds", "training_gradients", "attack_gradients")
        ),
        "transfer_meta": Table(
            ("eps", "norm", "steps", "loss", "seeds", "epochs", "sample", "train", "test", "width", "given")
        ),
    },
    "features": {
        "features": Table(
            (
                *("index", "eigenvalue", "label_energy", "one_step", "category", "by_half"),
                *_estimate("usefulness"),
                *_estimate("robustness"),
            )
        ),
        "features_meta": Table(("majority", "eps", "norm", "n", "steps")),
        "spectrum_meta": Table(("n", "effective_rank", "trace")),
        "top_k": Table(("k", *_ACCURACY, *_ROBUST_ACCURACY, "n")),
        "subsets": Table(("features", "count", "label_energy", *_ACCURACY, *_ROBUST_ACCURACY, "n")),
        "head_tail": Table(
            (
                *("features", "first", "last", "count", "label_energy", *_ACCURACY, *_ROBUST_ACCURACY),
                *(*_estimate("survives"), "n"),
            )
        ),
        "head_tail_effect": Table(("first", "second", "attacked", *_VALUE, "n")),
        "head_tail_meta": Table(("k", "rank", "n_chosen", "n", "majority", "eps", "norm", "steps")),
        "head_choice": Table(("k", *_ROBUST_ACCURACY, "n")),
        "bands": Table((*_BAND, "count", "category", *_ACCURACY, *_ROBUST_ACCURACY, "n")),
        "trade_off": Table(("knob", "value", "label_energy", *_ACCURACY, *_ROBUST_ACCURACY, "n")),
        "consistency": Table(("kernel_a", "kernel_b", "measure", *_VALUE, "n", "null_low", "null_high")),
        "side_by_side": Table(("kernel",)),
        "picture_rows": Table(("index", "usefulness", "robustness")),
        "picture_columns": Table(("index", "label")),
        "frames": Table(("index", "usefulness", "robustness")),
        "learning": Table(("step", *_BAND, "network", "kernel")),
        "learning_meta": Table(("width", "learning_rate", *_VALUE, "n")),
        "attribution": Table(("class", "images", ROBUST, FRAGILE)),
        "carriers": Table(("features", "index", "label", "share")),
        "certified": Table(("machine", "eps", *_ACCURACY, *_ROBUST_ACCURACY, *_CERTIFIED, "undecided", "n")),
        "certified_features": Table(
            ("index", *_estimate("usefulness"), *_estimate("robustness"), *_estimate("certified"), "n")
        ),
        "certified_meta": Table(("majority", "eps", "norm", "steps", "n", "head", "about")),
        "robust_data": Table(
            ("network", "trained_on", "projected", "rank", *_ACCURACY, *_ROBUST_ACCURACY, "seeds", "n")
        ),
    },
    "dynamics": {
        "dynamics": Table(
            (
                *(*_RUN, "epoch", "velocity", "concentration", "effective_rank", "trace", "alignment"),
                *("centred_rank", "distance_to_end", "distance_with_noise", "specialisation", *_POLAR),
                *("probe_loss", "probe_accuracy", *_ACCURACY),
            ),
            optional=(
                *("train_loss", "adversarial_cosine", "adversarial_trace"),
                *(*_ROBUST_ACCURACY, "one_step_accuracy"),
            ),
        ),
        "dynamics_meta": Table(
            ("top_k", "probe", "seeds", "lazy_threshold", "architecture", "attack_steps", "eps"),
            optional=("tracker_share", "norm", "majority", "images", "fingerprint", "scored"),
        ),
        "settling": Table(
            (
                *(*_RUN, "epoch", "settled", "first_epoch", "last_epoch", "area", "learned_epoch"),
                *("distance_when_learned", "centred_rank", *_ACCURACY, *_ROBUST_ACCURACY),
            )
        ),
        "equal_accuracy": Table((*_RUN, "accuracy", "epoch", "centred_rank")),
        "lazy_epochs": Table((*_RUN, "threshold", "epoch")),
        "advice": Table((*_RUN, "kind", "epoch", "text")),
        "continued": Table((*_RUN, "from_epoch", "linearised", *WORST_CASE)),
        "kernel_machines_effect": Table(("first", "second", *_VALUE, "n", "seeds", "seed_share")),
        "kernel_machines": Table((*_RUN, "fitted_on", *WORST_CASE, "feature_usefulness", "feature_robustness")),
    },
    "claims": {
        "claims": Table(("claim", "statement", "verdict", "figure", *_JUDGED)),
        "claim_parts": Table(("claim", "verdict", "decides", *_JUDGED)),
        "summary": Table(("text",), optional=("about",)),
    },
}
"""The tables by the stage that writes them. A stage leaves out those that its experiment does not ask for."""


def check_tables(stage: str, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Raise ValueError unless every table belongs to the stage and every row has the columns that are listed here."""
    known = TABLES[stage]
    for name, rows in tables.items():
        if name not in known:
            raise ValueError(f'expected a table of the stage "{stage}" ({", ".join(known)}); got "{name}".')
        for row in rows:
            missing = sorted(set(known[name].columns) - set(row))
            unknown = sorted(set(row) - known[name].every)
            if missing or unknown:
                raise ValueError(
                    f'expected the columns of the table "{name}"; got a row without {missing} and with {unknown}. '
                    "Add them to ntklens.schema, or correct the row."
                )
