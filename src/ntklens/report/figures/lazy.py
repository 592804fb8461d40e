"""Figures of finite networks of growing width under the kernel's images."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import CLEAN, KERNEL_INFINITE, KERNEL_MATCHED, NOISE, SURROGATE, WHITE_BOX

_SOURCES = {
    CLEAN: ("clean", style.BLACK, "D", "-"),
    NOISE: ("random-sign noise", style.GREY, "s", "--"),
    KERNEL_INFINITE: ("kernel, t = ∞", style.PURPLE, "v", "-"),
    KERNEL_MATCHED: ("kernel, matched time", style.BLUE, "o", "-"),
    SURROGATE: ("trained surrogate", style.ORANGE, "P", "-"),
    WHITE_BOX: ("white box", style.RED, "^", "-"),
}
"""Label, colour, marker and line of each source of images, in the order in which they are drawn."""
_DODGE = 0.055
"""Distance between the sources at one width, in octaves of width, so that their intervals do not cover each other."""


def _width_axis(axes: Axes, rows: Rows) -> None:
    """Set up a logarithmic x axis with a tick at each width."""
    ticks = sorted({r["width"] for r in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(w) for w in ticks])
    axes.minorticks_off()
    axes.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    axes.set_xlabel("width of the attacked network (hidden units or channels)")


def accuracy_by_width(rows: Rows) -> Figure:
    """Draw the accuracy of the networks against their width: one point per network, and a line through the means."""
    fig = style.figure(8.0, 4.4)
    axes = fig.subplots()
    present = [s for s in _SOURCES if any(r["source"] == s for r in rows)]
    for place, source in enumerate(present):
        label, color, marker, line = _SOURCES[source]
        chosen = [r for r in rows if r["source"] == source]
        shift = 2 ** (_DODGE * (place - (len(present) - 1) / 2))
        widths = sorted({r["width"] for r in chosen})
        means = [np.mean(style.percent([r for r in chosen if r["width"] == w], "accuracy")) for w in widths]
        at = [w * shift for w in widths]
        axes.plot(at, means, color=color, marker=marker, linestyle=line, label=label, markersize=6, zorder=3)
        axes.errorbar(
            shift * style.column(chosen, "width"),
            style.percent(chosen, "accuracy"),
            style.spread(chosen, "accuracy"),
            color=color,
            fmt=".",
            markersize=4,
            alpha=0.5,
            elinewidth=1,
        )
    _width_axis(axes, rows)
    style.percent_axis(axes, "accuracy of the network")
    fig.legend(loc="outside right center", title="images")
    return fig


def cosine_by_width(rows: Rows) -> Figure:
    """Draw the cosine between the input gradients of each source's model and of the network, against the width."""
    fig = style.figure(8.0, 3.4)
    axes = fig.subplots()
    for source in [s for s in _SOURCES if any(r["source"] == s and r.get("cosine") is not None for r in rows)]:
        label, color, marker, line = _SOURCES[source]
        chosen = [r for r in rows if r["source"] == source]
        widths, means = _means(chosen, "cosine", 1, "width")
        axes.plot(widths, means, color=color, marker=marker, linestyle=line, label=label, markersize=6)
        bars = style.spread(chosen, "cosine", scale=1)
        width, value = style.column(chosen, "width"), style.column(chosen, "cosine")
        axes.errorbar(width, value, bars, color=color, fmt=".", markersize=4, alpha=0.5, elinewidth=1)
    _width_axis(axes, rows)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)
    axes.set_ylabel("cosine of the input gradients")
    fig.legend(loc="outside right center", title="gradients of")
    return fig


def at_largest_width(rows: Rows) -> Figure:
    """Draw the accuracy of the widest networks, source by source, with 95 % intervals."""
    fig = style.figure(8.0, 3.0)
    axes = fig.subplots()
    width = max(r["width"] for r in rows)
    widest = [r for r in rows if r["width"] == width]
    present = [s for s in _SOURCES if any(r["source"] == s for r in widest)]
    for i, source in enumerate(present):
        _, color, marker, _ = _SOURCES[source]
        chosen = [r for r in widest if r["source"] == source]
        y = i + np.linspace(-0.22, 0.22, len(chosen)) if len(chosen) > 1 else np.array([float(i)])
        bars = style.spread(chosen, "accuracy")
        value = style.percent(chosen, "accuracy")
        axes.errorbar(value, y, xerr=bars, color=color, marker=marker, linestyle="none", markersize=5, capsize=2)
    axes.set_yticks(range(len(present)), [_SOURCES[n][0] for n in present])
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"accuracy of the networks of width {width} (%), one mark per network")
    return fig


def over_steps(rows: Rows) -> Figure:
    """Draw the accuracy of the widest networks and the cosine of the gradients against the steps of the training."""
    fig = style.figure(9.5, 3.9)
    score, alike = fig.subplots(1, 2)
    for source in [s for s in _SOURCES if any(r["source"] == s for r in rows)]:
        label, color, marker, line = _SOURCES[source]
        chosen = [r for r in rows if r["source"] == source]
        look = {"color": color, "marker": marker, "linestyle": line, "markersize": 5}
        score.plot(*_means(chosen, "accuracy", 100), label=label, **look)
        if any(r.get("cosine") is not None for r in chosen):
            alike.plot(*_means(chosen, "cosine", 1), **look)
    for axes in (score, alike):
        axes.set_xscale("log")
        axes.set_xlabel("steps of full-batch gradient descent")
    score.set_ylabel("accuracy of the network (%)")
    alike.set_ylabel("cosine of the input gradients")
    alike.set_ylim(min(0.0, alike.get_ylim()[0]), 1.02)
    fig.legend(loc="outside lower center", ncols=4, title="images, and the gradients they follow")
    return fig


def _means(rows: Rows, key: str, scale: float, along: str = "steps") -> tuple[list[int], list[float]]:
    """Return the values of a column in increasing order, and the means of another one at each of them."""
    places = sorted({r[along] for r in rows})
    return places, [scale * float(np.mean([r[key] for r in rows if r[along] == p])) for p in places]


_REGIME_SOURCES = {"clean": CLEAN, "noise": NOISE, "kernel": KERNEL_MATCHED, "white_box": WHITE_BOX}
"""Columns of the table "lazy_regimes", and the sources of their images."""


def regimes(rows: Rows) -> Figure:
    """Draw the accuracy under each source after each kind of training, with the gap from the kernel to the white box."""
    fig = style.figure(8.6, 1.4 + 0.75 * len(rows))
    axes = fig.subplots()
    for place, row in enumerate(rows):
        axes.plot([100 * row["white_box"], 100 * row["kernel"]], [place, place], color="#bbbbbb", linewidth=6, zorder=1)
        for key, source in _REGIME_SOURCES.items():
            label, color, marker, _ = _SOURCES[source]
            name = label.replace(", matched time", ", searched time")
            axes.plot(100 * row[key], place, marker, color=color, markersize=8, label=None if place else name, zorder=2)
        low, high = 100 * row["low"], 100 * row["high"]
        text = f"gap {100 * row['value']:.1f} [{low:.1f}, {high:.1f}], cosine {row['cosine']:.2f}"
        axes.text(1.5, place - 0.28, text, fontsize=8.5, color="#444444")
    axes.set_yticks(range(len(rows)), [r["regime"] for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlim(0, 102)
    axes.set_xlabel("accuracy of the networks (%)")
    fig.legend(loc="outside lower center", ncols=4)
    return fig
