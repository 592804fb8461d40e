"""Figures of the NTK features: their spectrum, their scores, and their agreement with other kernels' features."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import ALL, HEAD, TAIL

_MANY = 2000
"""Number of points above which they are drawn as pixels and not one by one."""


def spectrum(eigenvalues: NDArray[Any], label_energy: NDArray[Any]) -> Figure:
    """Draw the eigenvalues (n,), and the share of the label energy within the first ones (n,)."""
    fig = style.figure(9.0, 3.4)
    left, right = fig.subplots(1, 2)
    rank = np.arange(1, len(eigenvalues) + 1)
    positive = np.where(eigenvalues > 0, eigenvalues, np.nan)
    left.loglog(rank, positive, color=style.BLUE)
    left.set_xlabel("rank of the eigenvalue (1: largest)")
    left.set_ylabel("eigenvalue λ")
    right.semilogx(rank, 100 * label_energy, color=style.GREEN)
    right.set_xlabel("number of eigenvectors, largest eigenvalue first")
    style.percent_axis(right, "label energy within them")
    return fig


_SETS: dict[str, dict[str, Any]] = {
    HEAD: {"color": style.GREEN, "marker": "*", "markersize": 16},
    TAIL: {"color": style.RED, "marker": "X", "markersize": 11},
    ALL: {"color": style.GREY, "marker": "D", "markersize": 8},
}
"""How head, tail and all features are drawn among single ones."""


def usefulness_robustness(rows: Rows, meta: dict[str, Any], sets: Rows = (), intervals: int = 12) -> Figure:
    """Draw one point per feature, coloured by its place in the spectrum, and the head, the tail and all of them.

    Args:
        rows: the table "features"; the first rows have intervals.
        meta: of these.
        sets: the table "head_tail", if there is one.
        intervals: number of rows with intervals.
    """
    fig = style.figure(8.0, 5.0)
    axes = fig.subplots()
    x, y, index = style.percent(rows, "usefulness"), style.percent(rows, "robustness"), style.column(rows, "index")
    first = rows[:intervals]
    axes.errorbar(
        x[:intervals],
        y[:intervals],
        style.spread(first, "robustness"),
        style.spread(first, "usefulness"),
        fmt="none",
        ecolor="#b0b0b0",
        elinewidth=0.7,
        zorder=1,
    )
    order = np.argsort(-index)
    scale = SymLogNorm(linthresh=1, vmin=0, vmax=max(float(index.max()), 1.0))
    many = len(rows) > _MANY
    points = axes.scatter(
        x[order], y[order], c=index[order], cmap="viridis", norm=scale, s=22, zorder=2, rasterized=many
    )
    bar = fig.colorbar(points, ax=axes, label="index of the feature (0: largest eigenvalue)")
    for row in sets:
        name, k = str(row["features"]), row["count"]
        across, up = style.percent([row], "accuracy"), style.percent([row], "robust_accuracy")
        wide, high = style.spread([row], "accuracy"), style.spread([row], "robust_accuracy")
        look = {"linestyle": "none", "markeredgecolor": "white", "ecolor": _SETS[name]["color"], **_SETS[name]}
        label = f"{name}: {k} feature{'s' * (k > 1)} together"
        axes.errorbar(across, up, high, wide, elinewidth=1.2, zorder=3, label=label, **look)
        if name == HEAD:
            bar.ax.hlines(k - 0.5, 0, 1, colors=style.RED, linewidth=1.5)
    axes.axvline(100 * meta["majority"], color=style.GREY, linestyle=":", label="rate of the majority class")
    axes.axhline(100 * meta["majority"], color=style.GREY, linestyle=":")
    ends = 100 * np.array([r["usefulness_high"] for r in first], dtype=float)
    of_sets = 100 * np.array([value for r in sets for value in (r["accuracy_low"], r["accuracy_high"])], dtype=float)
    left = max(0.0, min(np.nanmin(x), of_sets.min(initial=100)) - 4)
    right = min(101.0, max(np.nanmax(x), np.nanmax(ends), of_sets.max(initial=0)) + 4)
    half: dict[str, Any] = {
        "color": style.GREY,
        "linewidth": 0.9,
        "linestyle": "--",
        "label": "half of the usefulness survives",
    }
    axes.plot([left, right], [left / 2, right / 2], **half)
    axes.set_xlim(left, right)
    for place, names in _shared_labels(first[:4], x, y).items():
        axes.annotate(", ".join(names), place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("usefulness: accuracy of the feature alone (%)")
    style.percent_axis(axes, f"robustness: its accuracy under attack, {style.threat(meta)}")
    fig.legend(loc="outside upper center", ncols=2, fontsize=9)
    return fig


def _shared_labels(rows: Rows, x: NDArray[Any], y: NDArray[Any]) -> dict[tuple[float, float], list[str]]:
    """Return labels by their place on the figure; features that lie next to each other share one label."""
    labels: dict[tuple[float, float], list[str]] = {}
    for r, across, up in zip(rows, x, y, strict=False):
        near = next((p for p in labels if abs(p[0] - across) < 2 and abs(p[1] - up) < 3), (across, up))
        labels.setdefault(near, []).append(str(r["index"]))
    return labels


def top_k(rows: Rows, head: int | None = None) -> Figure:
    """Draw the clean and robust accuracy of the machine made of the first k features.

    Args:
        rows: the table "top_k".
        head: number of features in the head, if one was chosen.
    """
    fig = style.figure(8.0, 3.8)
    axes = fig.subplots()
    k = [r["k"] for r in rows]
    clean = {"color": style.BLUE, "marker": "o", "label": "clean images", "markersize": 5}
    robust = {"color": style.RED, "marker": "^", "label": "one-step attack", "markersize": 5}
    style.band(axes, k, rows, "accuracy", **clean)
    style.band(axes, k, rows, "robust_accuracy", **robust)
    axes.set_xscale("log")
    axes.set_xticks(k, [str(v) for v in k])
    axes.minorticks_off()
    if head is not None:
        axes.axvline(head, color=style.GREY, linestyle="--", linewidth=1.2)
        side: dict[str, Any] = {"fontsize": 9, "color": style.GREY, "textcoords": "offset points", "va": "bottom"}
        axes.annotate(f"head: first {head}", (head, 0), xytext=(-6, 3), ha="right", **side)
        axes.annotate("tail: the rest", (head, 0), xytext=(6, 3), ha="left", **side)
    axes.set_xlabel("number of features kept, largest eigenvalue first")
    style.percent_axis(axes, "accuracy on test images")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def consistency(rows: Rows) -> Figure:
    """Draw the agreement of pairs of kernels over the range that chance gives, one panel per measure."""
    measures = list(dict.fromkeys(str(r["measure"]) for r in rows))
    pairs = list(dict.fromkeys((str(r["kernel_a"]), str(r["kernel_b"])) for r in rows))
    fig = style.figure(9.4, 1.7 + 0.42 * len(pairs))
    panels = fig.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for panel, measure in zip(panels, measures, strict=True):
        for r in (r for r in rows if r["measure"] == measure):
            y = pairs.index((str(r["kernel_a"]), str(r["kernel_b"])))
            value, low, high, null_low, null_high = (
                style.column([r], key)[0] for key in ("value", "low", "high", "null_low", "null_high")
            )
            panel.plot([null_low, null_high], [y, y], color=style.GREY, linewidth=7, alpha=0.5, solid_capstyle="butt")
            panel.plot([low, high], [y, y], color=style.BLUE, linewidth=1.5)
            panel.plot(value, y, color=style.BLUE, marker="o", markersize=6)
        panel.set_xlim(min(-0.05, panel.get_xlim()[0]), 1.05)
        panel.set_ylim(len(pairs) - 0.5, -0.5)
        panel.set_xlabel(textwrap.fill(style.plain(measure, 60), 20), fontsize=8.5)
    panels[0].set_yticks(range(len(pairs)), [f"{style.plain(a)} and {style.plain(b)}" for a, b in pairs])
    return fig
