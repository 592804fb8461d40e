"""The figure of an attack on the user's own network."""

from __future__ import annotations

from matplotlib.figure import Figure

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import CLEAN, NOISE

_LOOKS = {CLEAN: (style.BLACK, "D"), NOISE: (style.GREY, "s")}
"""Colour and marker; every attack has the same."""


def accuracies(rows: Rows) -> Figure:
    """Draw the accuracy on clean, noisy and attacked images, with 95 % intervals."""
    fig = style.figure(8.0, 0.9 + 0.5 * len(rows))
    axes = fig.subplots()
    for place, row in enumerate(rows):
        color, marker = _LOOKS.get(row["attack"], (style.RED, "^"))
        bars = style.spread([row], "accuracy")
        axes.errorbar(100 * row["accuracy"], place, xerr=bars, color=color, marker=marker, markersize=7, capsize=3)
        axes.text(100 * row["accuracy"], place - 0.18, f"{100 * row['accuracy']:.1f} %", fontsize=8.5, ha="center")
    axes.set_yticks(range(len(rows)), [r["attack"] for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("accuracy of the network (%)")
    return fig
