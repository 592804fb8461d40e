"""The section on NTK features (claims C3 to C6)."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.report.figures import features, style
from ntklens.report.figures.pictures import channels, head_and_tail_pictures, pictures, side_by_side
from ntklens.report.sections.base import Plate, Section, arrays_of, numbers, only_row, plate_of, rows_of
from ntklens.report.sections.feature_sets import consequences, head, sets
from ntklens.vocabulary import HEAD, TAIL, USELESS


def features_section(record: Record) -> Section:
    """Return the spectrum, the scores of features, sets of them, their pictures, and their agreement between kernels."""
    plates = [
        *_spectrum(record),
        *_scores(record),
        *plate_of(
            rows_of(record, "top_k"),
            lambda rows: features.top_k(rows, head(record)),
            "The machine rebuilt from the first k features only. Where the red line falls, "
            "further features cost robustness; compare what the blue one gains there. The dashed "
            "line parts the head from the tail, at the number that half of the test images chose. "
            "Bands are 95 % Wilson intervals.",
            "Line plot of clean and robust accuracy against the number of features kept.",
        ),
        *sets(record),
        *_pictures(record),
        *_agreement(record),
        *consequences(record),
    ]
    tables = numbers(
        record,
        {
            "features": "features",
            "top_k": "the first k features",
            "subsets": "chosen features",
            "head_tail": "head, tail and all features, on the images that did not choose the head",
            "head_tail_effect": "accuracy of the first set minus that of the second",
            "head_choice": "the choice of the head, on the other images",
            "bands": "bands of the spectrum",
            "trade_off": "training time and ridge",
            "consistency": "agreement with other kernels",
            "learning": "features learned over training",
            "attribution": "label energy by class",
            "robust_data": "networks trained on robust data",
        },
    )
    return Section("features", "Useful and robust features", _text(record), plates, tables)


def opening_plate(record: Record) -> Plate | None:
    """Return the figure that a page on features begins with: what robust and fragile features look at, and carry."""
    rows, columns = rows_of(record, "head_tail"), rows_of(record, "picture_columns")
    arrays = arrays_of(record, "features/picture_images", "features/head_and_tail")
    if not rows or not arrays:
        return None
    images, grid = arrays
    meta = only_row(record, "head_tail_meta")
    size = {row["features"]: row["count"] for row in rows}
    which = "feature is" if size[HEAD] == 1 else f"{size[HEAD]} features are"
    return Plate(
        lambda: head_and_tail_pictures(rows, columns, images, grid, meta["majority"], style.threat(meta)),
        f"What robust and what fragile features look like. The kernel's first {which} the head, whose number makes it most "
        f"often right under attack on {meta['n_chosen']} other test images; the other {size[TAIL]} are the tail. Left: "
        "brightening a red pixel, or darkening a blue one, raises the output for the image's true class. Look for the "
        "shape of the object under the head, and for scattered pixels under the tail. Right: how often each is right, on "
        f"its own, on {meta['n']} test images, with 95 % intervals; the dotted line is the rate of the majority class.",
        "Three test images beside the signed gradients of head and tail, and bars of their accuracy, clean and attacked.",
    )


def _text(record: Record) -> str:
    rows = rows_of(record, "features")
    meta = only_row(record, "features_meta")
    attack = "a one-step attack" if meta["steps"] == 1 else f"PGD of {meta['steps']} steps"
    text = (
        "Each eigenvector of the kernel matrix is a feature of the data, which predicts classes "
        f"on its own. {len(rows)} of them were scored on test images: on clean ones, and under "
        f"{attack} ({style.threat(meta)}) on the feature itself. An attacked image counts as right "
        "where its clean image is right as well."
    )
    if all(row["category"] == USELESS for row in rows):
        text += (
            f" None of them is shown to be useful alone by the {meta['n']} test images, since each "
            "one has to stand out from the luck of so many. More test images show more; look at "
            "the bands of the spectrum."
        )
    return text


def _spectrum(record: Record) -> list[Plate]:
    arrays = arrays_of(record, "features/eigenvalues", "features/label_energy")
    if not arrays:
        return []
    values, energy = arrays
    rank = only_row(record, "spectrum_meta")["effective_rank"]
    return [
        Plate(
            lambda: features.spectrum(values, energy),
            "Left: how fast the eigenvalues fall; training learns the large ones first. Right: "
            "the share of the labels that lies along the first eigenvectors. The effective rank "
            f"(exponential of the spectrum's entropy) is {rank:.3g}.",
            "Two line plots: eigenvalues of the kernel matrix, and the cumulative share of label energy.",
        )
    ]


def _scores(record: Record) -> list[Plate]:
    rows = rows_of(record, "features")
    meta = only_row(record, "features_meta")
    return [
        Plate(
            lambda: features.usefulness_robustness(rows, meta, rows_of(record, "head_tail")),
            f"Each point is one feature as a classifier on its own, scored on {meta['n']} images; "
            "dark points have the largest eigenvalues. A feature is useful when its accuracy is "
            "above the rate of the majority class (dotted) by a binomial test, with at most 5 % "
            "of the useful ones expected to be so by chance. It is non-robust when less than "
            "half of that accuracy survives the attack (below the dashed line), robust when more "
            "does and the accuracy under attack is above the majority's rate by the same test, "
            "and partly robust in between. A feature that is called not useful was not shown to "
            f"be useful. Intervals are drawn for the first twelve.{_marked(record)}",
            "Scatter plot of the robustness of each feature against its usefulness, coloured by index.",
        )
    ]


def _marked(record: Record) -> str:
    """Return what the marks of head and tail are, if there are any."""
    if head(record) is None:
        return ""
    return (
        " The star, the cross and the diamond are the head, the tail and all features together, on the images that did not "
        "choose the head; a line on the colour scale ends the head. The claims are judged by these, the colours and the "
        "categories are a picture."
    )


def _agreement(record: Record) -> list[Plate]:
    plates = plate_of(
        rows_of(record, "consistency"),
        features.consistency,
        "How far another architecture's kernel has the same features: 1 is full agreement. A "
        "grey bar is the central 95 % of what chance gives (for outputs at held-out images, features "
        "with the same spectrum that are arranged in it at random; random subspaces, independent ranks, "
        "and, for pictures, the same space turned at random); a blue line is the 95 % interval, "
        "where there is one. Claim C4 is judged by the outputs. Eigenspaces and pictures depend on the "
        "images and the kernel alone; where they agree, label energy and robustness agree with any labels.",
        "Dot plot of the agreement of features between pairs of kernels, one panel per measure.",
    )
    kernels = [str(row["kernel"]) for row in rows_of(record, "side_by_side")]
    arrays = arrays_of(record, "features/side_by_side_image", "features/side_by_side")
    if kernels and arrays:
        images, grid = arrays
        plates.append(
            Plate(
                lambda: side_by_side(kernels, images[0], grid),
                "The first features of the first kernel at one image, and the features of the "
                "other kernels that were matched with them by their eigenvectors. All are turned "
                "to one sign: that of the first kernel's output for the true class. Compare down "
                "the columns.",
                "Grid of signed gradients, one row per kernel and one column per feature.",
            )
        )
    return plates


def _pictures(record: Record) -> list[Plate]:
    rows, columns = rows_of(record, "picture_rows"), rows_of(record, "picture_columns")
    arrays = arrays_of(record, "features/picture_images", "features/pictures")
    if not rows or not arrays:
        return []
    images, grid = arrays
    is_colour = images.shape[1] > 1
    averaged = ", averaged over the colour channels" if is_colour else ""
    plates = [
        Plate(
            lambda: pictures(rows, columns, images, grid),
            "What a feature looks at: the gradient of its output for the true class at the image "
            f"on the left{averaged}. Brightening red pixels, or darkening blue ones, raises the "
            "output; each column has one colour scale. Look for shapes of the object in the "
            "features that are robust, and for scattered pixels in those that are not.",
            "Grid of test images, one per row, with the signed gradients of chosen features, one per column.",
        )
    ]
    if is_colour:
        plates.append(
            Plate(
                lambda: channels(rows, images[0], grid[:, 0]),
                "The gradients at the first image, channel by channel, on one colour scale per "
                "feature; the largest value is in the title, in units of the output per pixel. "
                "Channels that agree look at brightness, channels of opposite signs at colour.",
                "Grid of the signed gradients of chosen features, one row per colour channel and "
                "one column per feature.",
            )
        )
    return plates
