"""The section on NTK features (claims C3 to C6)."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import features, style
from ntklens.report.figures.pictures import channels, pictures, side_by_side
from ntklens.report.sections.base import Plate, Section, first, numbers
from ntklens.report.sections.feature_sets import consequences, sets


def features_section(record: Record) -> Section:
    """Spectrum, usefulness against robustness, the first k features, their pictures, other kernels' agreement."""
    rows: list[dict[str, Any]] = record.table("features")
    meta = first(record, "features_meta")
    top: list[dict[str, Any]] = record.table("top_k")
    agreement: list[dict[str, Any]] = record.table("consistency")
    plates = [*_spectrum(record), *_scatter(rows, meta)]
    if top:
        plates.append(
            Plate(
                lambda: features.top_k(top),
                "The machine rebuilt from the first k features only. Where the red line falls, further features cost "
                "robustness; compare what the blue one gains there. Bands are 95 % Wilson intervals.",
                "Line plot of clean and robust accuracy against the number of features kept.",
            )
        )
    plates += sets(record)
    plates += _pictures(record)
    plates += _agreement(record, agreement)
    plates += consequences(record)
    how = "a one-step attack" if meta.get("steps", 1) == 1 else f"PGD of {meta['steps']} steps"
    text = (
        f"Each eigenvector of the kernel matrix is a feature of the data, a predictor of its own; {len(rows)} of them "
        f"were scored on test images, clean and under {how}{_radius(meta)} on the feature itself."
    )
    if rows and "by_half" in rows[0]:
        text += " Attacked images count where the clean one is right as well."
    if meta and all(r["category"] == "not useful" for r in rows):
        text += (
            f" None of them, one by one, is shown to be useful by the {meta['n']} test images, as it has to stand out from "
            "the luck of so many. More images (--test) show more; look at the bands of the spectrum."
        )
    tables = {
        "features": rows,
        "the first k features": top,
        "chosen features": record.table("subsets"),
        "bands of the spectrum": record.table("bands"),
        "training time and ridge": record.table("trade_off"),
        "agreement with other kernels": agreement,
        "features learned over training": record.table("learning"),
        "label energy by class": record.table("attribution"),
        "networks trained on robust data": record.table("robust_data"),
    }
    return Section("features", "Useful and robust features", text, plates, numbers(tables))


def _radius(meta: dict[str, Any]) -> str:
    return f" (ε = {style.pixels(meta['eps'])} in {style.norm_sign(meta.get('norm', 'linf'))})" if meta else ""


def _spectrum(record: Record) -> list[Plate]:
    if not record.has("features/eigenvalues") or not record.has("features/label_energy"):
        return []
    values, energy = record.array("features/eigenvalues"), record.array("features/label_energy")
    meta = first(record, "spectrum_meta")
    rank = (
        f" The effective rank (exponential of the spectrum's entropy) is {meta['effective_rank']:.3g}." if meta else ""
    )
    return [
        Plate(
            lambda: features.spectrum(values, energy),
            "Left, how fast the eigenvalues fall; training learns the large ones first. Right, how much of the labels "
            f"lies along the first eigenvectors.{rank}",
            "Two line plots: eigenvalues of the kernel matrix, and the cumulative share of label energy.",
        )
    ]


def _scatter(rows: list[dict[str, Any]], meta: dict[str, Any]) -> list[Plate]:
    if not meta:
        return []
    return [
        Plate(
            lambda: features.usefulness_robustness(rows, meta),
            f"A point is one feature as a classifier of its own, scored on {meta['n']} images; dark points have the "
            "largest eigenvalues. A feature is useful when its accuracy is above the rate of the majority class (dotted) "
            "by a binomial test, with at most 5 % of the useful ones expected to be so by chance. It is non-robust when "
            "less than half of that accuracy survives the attack (below the dashed line), robust when more does and the "
            "accuracy under attack is above the majority's rate by the same test, and partly robust in between. What is "
            "called not useful was not shown to be useful. Intervals are drawn for the first twelve.",
            "Scatter plot of the robustness of each feature against its usefulness, coloured by index.",
        )
    ]


def _agreement(record: Record, rows: list[dict[str, Any]]) -> list[Plate]:
    plates = []
    if rows:
        plates.append(
            Plate(
                lambda: features.consistency(rows),
                "How far another architecture's kernel has the same features: 1 is full agreement. A grey bar is the "
                "central 95 % of what chance gives (random subspaces, independent ranks, and, for pictures, the same space "
                "turned at random), a blue line the 95 % interval, where there is one. Eigenspaces and pictures are the "
                "images' and the kernel's alone, and where they agree, label energy and robustness do with any labels.",
                "Dot plot of the agreement of features between pairs of kernels, a panel a measure.",
            )
        )
    names = [str(r["kernel"]) for r in record.table("side_by_side")]
    if names and record.has("features/side_by_side"):
        image, grid = record.array("features/side_by_side_image")[0], record.array("features/side_by_side")
        plates.append(
            Plate(
                lambda: side_by_side(names, image, grid),
                "The first features of the first kernel at one image, and the features of the other kernels that were "
                "matched with them by their eigenvectors, turned to the same sign: that of the first kernel's output for "
                "the true class. Compare down the columns.",
                "Grid of signed gradients: a row a kernel, a column a feature.",
            )
        )
    return plates


def _pictures(record: Record) -> list[Plate]:
    rows: list[dict[str, Any]] = record.table("picture_rows")
    columns: list[dict[str, Any]] = record.table("picture_columns")
    if not rows or not columns or not record.has("features/pictures"):
        return []
    images, grid = record.array("features/picture_images"), record.array("features/pictures")
    colour = images.shape[1] > 1
    averaged = ", averaged over the colour channels" if colour else ""
    plates = [
        Plate(
            lambda: pictures(rows, columns, images, grid),
            "What a feature looks at: the gradient of its output for the true class at the image on the left"
            f"{averaged}. Brightening red pixels, or darkening blue ones, raises the output; each column has one colour "
            "scale. Look for shapes of the object in the features that are robust, and for scattered pixels in those "
            "that are not.",
            "Grid of test images, one a row, with the signed gradients of chosen features, one a column.",
        )
    ]
    if colour:
        plates.append(
            Plate(
                lambda: channels(rows, images[0], grid[:, 0]),
                "The same at the first image, channel by channel on one colour scale a feature; its largest value is in "
                "the title, in units of the output per pixel. Channels that agree look at brightness, channels of "
                "opposite signs at colour.",
                "Grid of the signed gradients of chosen features, a row a colour channel, a column a feature.",
            )
        )
    return plates
