"""The figure of the attacks on the user's own network."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import (
    CLEAN,
    CONTROL_SOURCE,
    KERNEL_SOURCE,
    NOISE,
    QUERY_SOURCE,
    TANGENT_SOURCE,
    TRAINED_SOURCE,
    WHITE_BOX,
    WHITE_BOX_SOURCE,
)

_LOOKS = {
    CLEAN: (style.BLACK, "D"),
    NOISE: (style.GREY, "s"),
    CONTROL_SOURCE: (style.PURPLE, "v"),
    KERNEL_SOURCE: (style.BLUE, "o"),
    TANGENT_SOURCE: (style.BLUE, "P"),
    TRAINED_SOURCE: (style.GREEN, "P"),
    QUERY_SOURCE: (style.ORANGE, "X"),
    WHITE_BOX_SOURCE: (style.RED, "^"),
}
"""Colour and marker of each kind of source."""
_LONGEST = 30
"""Letters of a source's name."""


def accuracies(rows: Rows) -> Figure:
    """Draw the victim's accuracy under each source of images, a row each, with 95 % intervals."""
    fig = style.figure(8.0, 1.3 + 0.46 * len(rows))
    axes = fig.subplots()
    lowest = min(rows, key=lambda row: float(row["accuracy"]))
    for place, row in enumerate(rows):
        color, marker = _LOOKS[row["kind"]]
        value = 100 * row["accuracy"]
        axes.errorbar(value, place, xerr=style.spread([row], "accuracy"), color=color, marker=marker, ms=7, capsize=3)
        weight = "bold" if row is lowest else "normal"
        axes.text(value, place - 0.22, f"{value:.1f} %", fontsize=8.5, ha="center", weight=weight)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlim(-4, 104)
    axes.set_xlabel("accuracy of the victim (%)")
    attacked = [row for row in rows if row["kind"] not in (CLEAN, NOISE)]
    threat = style.threat((attacked or rows)[0])
    # The title is the figure's, because a title of the axes has no room beside long names of sources.
    title = f"How strong is it? {threat}; robust accuracy is at most the lowest of these"
    fig.suptitle(title, x=0.01, ha="left", fontsize=10)
    return fig


def _label(row: dict[str, Any]) -> str:
    name = style.plain(row["source"], _LONGEST)
    return name if row["source"] in (row["kind"], WHITE_BOX) else f"{name} ({row['kind']})"
