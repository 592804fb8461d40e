"""Figures of the transfer to finite networks."""

from __future__ import annotations

from matplotlib.figure import Figure

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows

_SOURCES = {
    "clean": ("clean images", "#222222", "D", "-"),
    "noise": ("random-sign noise", style.GREY, "s", "--"),
    "kernel t=inf": ("kernel, t = ∞", style.PURPLE, "v", "-"),
    "kernel matched time": ("kernel, matched time", style.BLUE, "o", "-"),
    "trained surrogate": ("trained surrogate", style.ORANGE, "P", "-"),
    "white-box": ("white box", style.RED, "^", "-"),
}


def accuracy_by_width(rows: Rows) -> Figure:
    """Accuracy of the networks against their width: a point a network, a line through the means."""
    fig = style.figure(8.0, 4.4)
    axes = fig.subplots()
    widths = sorted({r["width"] for r in rows})
    for source, (label, color, marker, line) in _SOURCES.items():
        chosen = [r for r in rows if r["source"] == source]
        if not chosen:
            continue
        means = []
        for width in widths:
            values = [100 * r["accuracy"] for r in chosen if r["width"] == width]
            means.append(sum(values) / len(values))
        axes.plot(widths, means, color=color, linestyle=line, label=label, marker=marker, markersize=5)
        axes.scatter(
            [r["width"] for r in chosen],
            [100 * r["accuracy"] for r in chosen],
            color=color,
            s=14,
            alpha=0.55,
            linewidths=0,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(w) for w in widths])
    axes.minorticks_off()
    axes.set_xlabel("width of the attacked network (hidden units or channels)")
    style.percent_axis(axes, "accuracy of the network")
    fig.legend(loc="outside right center", title="images made by")
    return fig


def at_largest_width(rows: Rows) -> Figure:
    """Accuracy of the widest networks, source by source, with 95 % intervals."""
    fig = style.figure(8.0, 3.0)
    axes = fig.subplots()
    width = max(r["width"] for r in rows)
    names = [s for s in _SOURCES if any(r["source"] == s for r in rows)]
    for i, source in enumerate(names):
        _, color, marker, _ = _SOURCES[source]
        chosen = [r for r in rows if r["source"] == source and r["width"] == width]
        for k, r in enumerate(chosen):
            y = i + 0.22 * (k - (len(chosen) - 1) / 2)
            spread = [[100 * (r["accuracy"] - r["low"])], [100 * (r["high"] - r["accuracy"])]]
            axes.errorbar(100 * r["accuracy"], y, xerr=spread, color=color, marker=marker, markersize=5, capsize=2)
    axes.set_yticks(range(len(names)), [_SOURCES[n][0] for n in names])
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"accuracy of networks of width {width} (%), a mark for each seed")
    return fig
