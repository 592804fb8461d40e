"""The section on certificates beside attacks (claim N1)."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.report.figures import certificates, style
from ntklens.report.sections.base import Plate, Section, numbers, only_row, rows_of
from ntklens.vocabulary import ALL, HEAD, RIDGE, TAIL


def certificates_section(record: Record) -> Section | None:
    """Return both ends of the robust accuracy of machines and of single features; None where nothing was certified."""
    rows = rows_of(record, "certified")
    if not rows:
        return None
    meta = only_row(record, "certified_meta")
    singles = rows_of(record, "certified_features")
    named = {HEAD: f"head: the first {meta['head']}", TAIL: "tail: all others", RIDGE: RIDGE, ALL: "all features"}
    named = {name: title for name, title in named.items() if any(row["machine"] == name for row in rows)}
    last = [row for row in rows if row["eps"] == meta["eps"]]
    plates = [
        Plate(
            lambda: certificates.curves(rows, meta, named),
            "How many test images each machine has right in the whole ball. The true share lies in the orange band: no "
            f"more than PGD of {meta['steps']} steps leaves right, and no fewer than are proved; where no band can be "
            "seen, the two meet. Compare machines whose lines fall slowly with those whose lines fall to zero.",
            "Line plots of attacked and certified accuracy against the radius, one panel per machine.",
        ),
        Plate(
            lambda: certificates.features(singles, meta),
            "Single features as classifiers on their own. The robustness of each lies on its orange bar, between what PGD "
            "leaves right (triangles) and what is proved (dots); where the bar cannot be seen, the two meet. Compare "
            "features of large eigenvalues, on the left, with the others.",
            "Dot plot of usefulness, attacked and certified accuracy of the first features.",
        ),
        Plate(
            lambda: certificates.filters(last, meta, named),
            "What a filter of the spectrum is worth: the share of images that a machine has right, clean, under PGD and "
            "provably, at the radius of the attack. A good filter loses little on clean images and has the other two "
            "close to them. Intervals are 95 % Wilson intervals.",
            "Dot plot of clean, attacked and certified accuracy, one line per machine.",
        ),
    ]
    tables = numbers(record, {"certified": "machines, attacked and proved", "certified_features": "single features"})
    return Section("certificates", "Certified beside attacked", _text(meta), plates, tables)


def _text(meta: dict[str, object]) -> str:
    return (
        "An attack that fails proves nothing: a stronger one may succeed. For kernel machines of dense networks a lower "
        f"bound of the margin can be proved over the whole ball ({style.threat(meta)} and smaller), so that the robust "
        f"accuracy is known from both sides. {meta['n']} test images that did not choose the head were certified. "
        f"{meta['about']}"
    )
