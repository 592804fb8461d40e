"""The section on the kernel over training (claims C7 and C8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ntklens.record import Record
from ntklens.report.figures import dynamics, style
from ntklens.report.sections.base import Plate, Rows, Section, numbers, only_row, plate_of, rows_of
from ntklens.vocabulary import FGSM, PGD, STANDARD, WATCHED
from ntklens.wording import norm_sign, pixels


def dynamics_section(record: Record) -> Section:
    """Return the kernel's path over the epochs, and what can be done with the kernel that training leaves."""
    has_path = len({row["epoch"] for row in rows_of(record, "dynamics")}) > 1
    plates = [
        *(_path(record) if has_path else []),
        *_continued(record),
        *_machines(record),
    ]
    tables = numbers(
        record,
        {
            "advice": "advice",
            "settling": "when each kernel settles, and what its training has come to",
            "equal_accuracy": "effective rank where both trainings are equally accurate",
            "lazy_epochs": "noise of the steps: first epochs from which on the velocity stays below a threshold",
            "continued": "linearised continuations",
            "kernel_machines": "machines on the networks' kernels",
            "dynamics": "epoch by epoch",
        },
    )
    return Section("dynamics", "How training moves the kernel", _text(record), plates, tables)


def _text(record: Record) -> str:
    meta = only_row(record, "dynamics_meta")
    trainings = dynamics.trainings(rows_of(record, "dynamics"))
    if _is_tracked(record):
        return (
            f"The tangent kernel was recorded by a KernelTracker over {'each' if len(trainings) > 1 else 'the'} training, "
            f"on the same {meta['probe']} clean probe images each time. Accuracies are on these images."
        )
    if _is_watched(record):
        return (
            f"The tangent kernel of {style.plain(meta['architecture'], 60)} was measured at the "
            f"checkpoints of its training, on the same {meta['probe']} clean test images each "
            f"time. {_scored(meta)}{_attack(meta)}"
        )
    images = {
        STANDARD: "clean images",
        FGSM: "one-step (FGSM) examples",
        PGD: f"PGD-{meta['attack_steps']} examples",
    }
    *first, last = [f"on {images[training]}" for training in trainings]
    texts = f"{', '.join(first)} and {last}" if first else last
    text = (
        f"A small network ({meta['architecture']}) was trained from one initialisation per seed "
        f"{texts} (ε = {pixels(meta['eps'])}); "
        f"after each epoch its tangent kernel was measured on the same {meta['probe']} clean test "
        "images."
    )
    if meta.get("images"):
        text += f" The images are other ones than those of the sections above: {meta['images']}."
    if meta["tracker_share"] is not None:
        text += f" The measuring took {100 * meta['tracker_share']:.1f} % as long as the training."
    return text


def _scored(meta: dict[str, Any]) -> str:
    """Return on how many images checkpoints are scored; a record of an earlier version does not tell."""
    return f"Accuracies are on {meta['scored']:,} test images. " if meta.get("scored") else ""


def _attack(meta: dict[str, Any]) -> str:
    """Return the attack of the accuracies; a record that does not tell its norm is of an earlier version."""
    norm = f" in {norm_sign(meta['norm'])}" if meta.get("norm") else ""
    return f"The attack is PGD with {meta['attack_steps']} steps at ε = {pixels(meta['eps'])}{norm}."


def _path(record: Record) -> list[Plate]:
    """Return what is seen over the epochs."""
    rows = rows_of(record, "dynamics")
    meta = only_row(record, "dynamics_meta")
    names = {training: f"dynamics/distance_{training}" for training in dynamics.trainings(rows)}
    maps = {training: record.array(name) for training, name in names.items() if record.has(name)}
    attack = "" if _is_tracked(record) else f"{_attack(meta)} "
    first_seed = " The first seed is drawn." if meta["seeds"] > 1 else ""
    distances = [
        Plate(
            lambda: dynamics.distance_maps(maps, rows),
            "Distance between the kernels of every two epochs. Dark blocks along the diagonal "
            "are spells in which the kernel keeps its shape; a bright edge shows how far it has "
            "moved from its start. All maps have one colour scale.",
            "Heat maps of the kernel distance between every two epochs, one map per training.",
        )
    ]
    return [
        *_settling(record),
        *(distances if maps else []),
        Plate(
            lambda: dynamics.polar(rows),
            "The kernel's path from its start, the centre. The radius is |K(t) - K(0)| as a "
            "share of |K(T) - K(0)|, where T is the last epoch of each training, marked by a "
            f"star. The angle tells how far the kernel has turned from K(0).{first_seed}",
            "Three polar plots of the kernel's path: whole, in its top eigenspace, and in the rest.",
        ),
        Plate(
            lambda: dynamics.over_epochs(rows, meta),
            "Accuracy with 95 % Wilson intervals, and five measures of the kernel without one. "
            f"{attack}{_seeds(record)}The velocity does not tell when a kernel has settled: late in a training it "
            "is the noise of the steps, which a smaller learning rate or larger batches reduce. It stays below the dotted "
            f"line from there to the end, for three epochs at least: {_lazy_epochs(record)}.",
            "Six line plots against the epoch: accuracy, effective rank, alignment, concentration, trace and velocity.",
        ),
        *_one_step(record),
    ]


def _settling(record: Record) -> list[Plate]:
    """Return how the kernels come to their ends; a record of an earlier version has no such table."""
    rows, settled = rows_of(record, "dynamics"), rows_of(record, "settling")
    if not settled or all(row.get("distance_to_end") is None for row in rows):
        return []
    trainings = {row["training"] for row in settled}
    comparison = (
        "Where the lines of PGD training lie left of those of standard training, its kernel settles earlier. "
        if {STANDARD, PGD} <= trainings
        else ""
    )
    return [
        Plate(
            lambda: dynamics.settling(rows, settled),
            "How the kernel comes to where its training leaves it. Drawn is the squared distance of the centred cosine "
            "kernel to its mean over the last tenth of the epochs, as a share of that at the start, from products of "
            "displacements whose noise is independent, so that the noise of the steps does not add to it. "
            f"{_seeds(record)}{comparison}Epochs from which on less than a tenth is left: "
            f"{_by_training(settled, _settled_at)}.",
            "Line plot of the distance of the kernel to its end against the epoch, with the settling epochs marked.",
        )
    ]


def _settled_at(row: dict[str, Any]) -> str:
    """Return when a kernel settles, whether that counts, and from where it is measured if not from the start."""
    if row["epoch"] is None:
        return "not within this run"
    # A record of an earlier version does not tell the last two.
    first = row.get("first_epoch") or 0
    remarks = [] if row.get("settled", True) else ["which does not count as settled yet"]
    remarks += [f"measured from epoch {first:g}, the first record"] if first > 0 else []
    return f"{row['epoch']:.1f}" + (f" ({', '.join(remarks)})" if remarks else "")


def _seeds(record: Record) -> str:
    """Return how many runs the lines are, where there may be several."""
    if _is_watched(record) or _is_tracked(record):
        return ""
    seeds = only_row(record, "dynamics_meta")["seeds"]
    return "There is one run of each training. " if seeds == 1 else f"Each line is one of {seeds} seeds. "


def _is_tracked(record: Record) -> bool:
    """Return whether the record is of a tracker's folder, which knows no attack of the test."""
    return only_row(record, "dynamics_meta")["eps"] is None


def _is_watched(record: Record) -> bool:
    return any(row["training"] == WATCHED for row in rows_of(record, "dynamics"))


def _lazy_epochs(record: Record) -> str:
    """Return the first lazy epochs of each training at the experiment's own threshold."""
    threshold = only_row(record, "dynamics_meta")["lazy_threshold"]
    rows = [row for row in rows_of(record, "lazy_epochs") if row["threshold"] == threshold]
    told = _by_training(
        rows, lambda row: "not for good within this run" if row["epoch"] is None else f"from {row['epoch']:g}"
    )
    return told or "no training came to its end"


def _by_training(rows: Rows, text: Callable[[dict[str, Any]], str]) -> str:
    """Return the epochs of each training's seeds, as "standard 11.7, 14.5; PGD 8.7, 9.7"."""
    epochs = {name: [text(row) for row in rows if row["training"] == name] for name in dynamics.trainings(rows)}
    return "; ".join(f"{name} {', '.join(texts)}" for name, texts in epochs.items() if texts)


def _one_step(record: Record) -> list[Plate]:
    """Return whether one-step training breaks down; for watched checkpoints too, whose training is not known."""
    rows = rows_of(record, "dynamics")
    if not {row["training"] for row in rows} & {FGSM, WATCHED}:
        return []
    alarms = [row for row in rows_of(record, "advice") if row["kind"] == "catastrophic overfitting"]
    return [
        Plate(
            lambda: dynamics.one_step(rows, alarms),
            "How one-step training fares. Where it breaks down (catastrophic overfitting), "
            "accuracy under one step parts from accuracy under PGD, and tangents of one-step "
            "images turn away from those of the images. An alarm is a fall of the cosine by over "
            "0.05 while the accuracies part. It is given for one-step training, and for watched "
            "checkpoints, whose training is not known; in other trainings the cosine may fall "
            f"for other reasons. Alarms in this run: {len(alarms) or 'none'}.",
            "Two line plots against the epoch: accuracy under one step and PGD, and the cosine between tangents.",
        )
    ]


def _continued(record: Record) -> list[Plate]:
    rows = rows_of(record, "continued")
    means = " Points are means over the seeds." if len({row["seed"] for row in rows}) > 1 else ""
    return plate_of(
        rows,
        dynamics.continued,
        "The network of an epoch was replaced by its first-order expansion, whose kernel is "
        "fixed, and trained on. Where a line comes up to the dotted one of its colour, all that "
        "the training still did after that epoch could be done with the kernel of that "
        f"epoch.{means}{_worst_case(rows)}",
        "Two line plots of accuracy, clean and under attack, against the epoch of the expansion.",
    )


def _machines(record: Record) -> list[Plate]:
    rows = rows_of(record, "kernel_machines")
    return plate_of(
        rows,
        dynamics.machines,
        "Kernel machines on the tangent kernels of these networks, all fitted on the same clean "
        "images. If the red triangles of an adversarially trained network lie right of the "
        "others, the robustness is in its kernel. Intervals are 95 % Wilson "
        f"intervals.{_worst_case(rows)}",
        "Dot plot of clean and robust accuracy of kernel machines, one row per network.",
    )


def _worst_case(rows: Rows) -> str:
    """Return what robust means, and how much more robust the models would look under PGD alone."""
    gaps = [row["pgd_accuracy"] - row["robust_accuracy"] for row in rows if row["pgd_accuracy"] is not None]
    if not gaps:
        return ""
    return (
        " Robust means right on the clean image, under PGD on the function itself and on the "
        "network, and under Square, which asks for no gradient: these functions jump where a unit "
        "switches, which gradients do not see. Under PGD on the function alone they are right on "
        f"up to {100 * max(gaps):.0f} points more."
    )
