"""What the report says of each stage: a sentence, figures with captions, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from ntklens.record import Record
from ntklens.report.figures import attack, dynamics, features, style, transfer


@dataclass(frozen=True)
class Plate:
    """A figure with what to see in it."""

    make: Callable[[], Figure]
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    key: str
    title: str
    text: str
    plates: list[Plate] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def sections(record: Record) -> Iterator[Section]:
    """The sections whose stage is in the record."""
    makers = {"attack": _attack, "transfer": _transfer, "features": _features, "dynamics": _dynamics}
    for stage, make in makers.items():
        if record.done(stage):
            yield make(record)


def _attack(record: Record) -> Section:
    curve: list[dict[str, Any]] = record.table("attack_curve")
    gallery: list[dict[str, Any]] = record.table("gallery")
    eps = style.pixels(record.table("attack_effect")[0]["eps"])  # type: ignore[arg-type]
    plates = [
        Plate(
            lambda: attack.accuracy_curve(curve),
            "Where the solid lines fall away from the dashed one, direction matters and size does not: the machine "
            "withstands noise of the same ε. One step and PGD coincide where the machine is nearly linear. Bands are "
            "95 % Wilson intervals.",
            "Accuracy of the kernel machine against the attack radius for noise, one step and PGD.",
        )
    ]
    if gallery:
        x, adv = record.array("attack/gallery_x"), record.array("attack/gallery_adv")
        plates.append(
            Plate(
                lambda: attack.gallery(gallery, x, adv),
                f"Test images that the machine recognises (top), the perturbation of size {eps} made from the kernel "
                "(middle; red adds light, blue takes it away), and what it then takes them for (bottom).",
                "Grid of clean images, perturbations and attacked images with the predictions.",
            )
        )
    text = (
        f"The attacked model is the {curve[0]['model']}: the mean prediction of infinitely wide networks trained on the "
        "same images. No network was trained to make the perturbations; they follow the gradient of the kernel."
    )
    return Section("attack", "Attacks made from the kernel alone", text, plates, {"accuracy against ε": curve})


def _transfer(record: Record) -> Section:
    rows: list[dict[str, Any]] = record.table("transfer")
    meta: dict[str, Any] = record.table("transfer_meta")[0]
    eps = style.pixels(max(r["eps"] for r in rows))
    plates = [
        Plate(
            lambda: transfer.accuracy_by_width(rows),
            "The lower, the stronger the attack. In the lazy regime, towards the right, the kernel's examples at the "
            "networks' own training time come down to the white-box line. Small points are single networks.",
            "Accuracy of finite networks against their width for six sources of images.",
        ),
        Plate(
            lambda: transfer.at_largest_width(rows),
            "The same at the largest width, with 95 % Wilson intervals. The controls are noise (what any perturbation "
            "of this size does) and a surrogate network trained from another initialisation.",
            "Accuracy of the widest networks under each source with intervals.",
        ),
    ]
    text = (
        f"Finite networks of the kernel's architecture, {meta['seeds']} for each width, were trained by {meta['steps']} "
        f"steps of full-batch gradient descent and shown one-step examples (ε = {eps}) made elsewhere."
    )
    tables = {
        "accuracy of each network": rows,
        "differences of accuracy, 95 % intervals over images": record.table("transfer_effect"),
        "cost of each source": record.table("transfer_cost"),
    }
    return Section("transfer", "Transfer to networks that the attack has not seen", text, plates, tables)


def _features(record: Record) -> Section:
    rows: list[dict[str, Any]] = record.table("features")
    meta: dict[str, Any] = record.table("features_meta")[0]
    top: list[dict[str, Any]] = record.table("top_k")
    columns: list[dict[str, Any]] = record.table("picture_columns")
    shown: list[dict[str, Any]] = record.table("picture_rows")
    values, energy = record.array("features/eigenvalues"), record.array("features/label_energy")
    images, grid = record.array("features/picture_images"), record.array("features/pictures")
    plates = [
        Plate(
            lambda: features.spectrum(values, energy),
            "Left, how fast the eigenvalues fall: training learns the large ones first. Right, how much of the labels "
            "lies along the first eigenvectors.",
            "Eigenvalues of the kernel matrix and cumulative label energy.",
        ),
        Plate(
            lambda: features.usefulness_robustness(rows, meta),
            "A point is one feature as a classifier of its own. A feature is useful when the 95 % interval of its "
            "accuracy lies above the majority class's rate, and then robust when half of that accuracy survives the "
            "attack (above the dashed line). Intervals are drawn for the first twelve features; numbers are indices.",
            "Usefulness against robustness of each feature, coloured by index.",
        ),
        Plate(
            lambda: features.top_k(top),
            "Keeping only the first features costs little accuracy and saves much of it under attack; the later ones buy "
            "the last points of accuracy with robustness. Bands are 95 % Wilson intervals.",
            "Clean and robust accuracy against the number of features kept.",
        ),
        Plate(
            lambda: features.pictures(shown, columns, images, grid),
            "What each feature looks at: its gradient at the image on top. Early, robust features draw the garment; "
            "late, useful but fragile ones draw patterns no larger than a few pixels.",
            "Gradient images of chosen features at test images.",
        ),
    ]
    text = (
        f"Each eigenvector of the kernel matrix is a feature of the data, a predictor of its own; {len(rows)} of them "
        f"were scored on {meta['n']} test images, clean and under a one-step attack on the feature itself "
        f"(ε = {style.pixels(meta['eps'])})."
    )
    tables = {
        "features": rows,
        "the first k features": top,
        "agreement with other kernels": record.table("consistency"),
    }
    return Section("features", "Useful and robust features", text, plates, tables)


def _dynamics(record: Record) -> Section:
    rows: list[dict[str, Any]] = record.table("dynamics")
    meta: dict[str, Any] = record.table("dynamics_meta")[0]
    standard, adversarial = record.array("dynamics/distance_standard"), record.array("dynamics/distance_adversarial")
    plates = [
        Plate(
            lambda: dynamics.distance_maps(standard, adversarial),
            "Dark blocks along the diagonal are spells in which the kernel stands still; bright corners say how far it "
            "has come from its start. Both maps share one colour scale.",
            "Kernel distance between every two epochs for standard and adversarial training.",
        ),
        Plate(
            lambda: dynamics.polar(rows),
            "The kernel's path from its start (the centre): radius is the distance travelled as a share of the whole, "
            "angle how far it has turned. A star marks the last epoch.",
            "Polar plots of the kernel's path, whole and in eigenspaces.",
        ),
        Plate(
            lambda: dynamics.over_epochs(rows, meta),
            "Accuracy with 95 % Wilson intervals, and three measures of the kernel, one run of each training. A lazy "
            "kernel is one whose velocity stays below the dotted line.",
            "Accuracy, velocity, concentration and effective rank against the epoch.",
        ),
    ]
    text = (
        f"A small network ({meta['architecture']}) was trained twice from one initialisation, on clean images and on "
        f"PGD-{meta['attack_steps']} examples (ε = {style.pixels(meta['eps'])}); after each epoch its tangent kernel was "
        f"measured on the same {meta['probe']} clean test images."
    )
    return Section("dynamics", "How training moves the kernel", text, plates, {"epoch by epoch": rows})
