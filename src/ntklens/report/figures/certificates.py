"""Figures of certificates: both ends of the robust accuracy of machines and of single features."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.wording import norm_sign

_ATTACKED: dict[str, Any] = {"color": style.RED, "marker": "^", "markersize": 9, "markerfacecolor": "none"}
_ATTACKED |= {"label": "right under PGD"}
_PROVED: dict[str, Any] = {"color": style.GREEN, "marker": "o", "markersize": 5, "label": "proved right"}
_COLUMNS = 2
"""Panels side by side."""


def curves(rows: Rows, meta: dict[str, Any], names: dict[str, str]) -> Figure:
    """Draw the attacked and the certified accuracy of machines against the radius, one panel per machine.

    Args:
        rows: the table "certified", of machines at several radii.
        meta: the row of "certified_meta".
        names: titles of the machines, which are drawn in this order.
    """
    fig = style.figure(8.4, 0.9 + 3.0 * -(-len(names) // _COLUMNS))
    panels = fig.subplots(-(-len(names) // _COLUMNS), _COLUMNS, squeeze=False, sharey=True)
    is_box = meta["norm"] == "linf"
    unit, scale = ("255ths of the pixel range", 255) if is_box else ("pixels in [0, 1]", 1)
    for axes, name in zip(panels.flat, names, strict=False):
        own = sorted((r for r in rows if r["machine"] == name), key=lambda r: r["eps"])
        clean = 100 * own[0]["accuracy"]
        eps = np.concatenate([[0.0], scale * style.column(own, "eps")])
        ends = []
        for key, look in (("robust_accuracy", _ATTACKED), ("certified_accuracy", _PROVED)):
            line = np.concatenate([[clean], style.percent(own, key)])
            ends.append(line)
            axes.plot(eps, line, **look)
        axes.fill_between(eps, ends[1], ends[0], color=style.ORANGE, alpha=0.35, linewidth=0, label="neither")
        axes.axhline(100 * meta["majority"], color=style.GREY, linestyle=":", label="rate of the majority class")
        axes.set_title(names[name])
        axes.set_xlabel(f"radius ε of the {norm_sign(meta['norm'])} ball ({unit})")
        style.percent_axis(axes, "share of test images")
    for axes in list(panels.flat)[len(names) :]:
        axes.set_visible(False)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=4)
    return fig


def features(rows: Rows, meta: dict[str, Any]) -> Figure:
    """Draw for each feature its usefulness, and the two ends between which its robustness lies.

    Args:
        rows: the table "certified_features".
        meta: the row of "certified_meta".
    """
    fig = style.figure(8.4, 4.2)
    axes = fig.subplots()
    index = style.column(rows, "index")
    look: dict[str, Any] = {"linestyle": "none"}
    axes.plot(
        index,
        style.percent(rows, "usefulness"),
        color=style.BLUE,
        marker="s",
        markersize=5,
        label="right, clean",
        **look,
    )
    upper, lower = style.percent(rows, "robustness"), style.percent(rows, "certified")
    axes.vlines(index, lower, upper, color=style.ORANGE, linewidth=4, alpha=0.5)
    for values, of_end in ((upper, _ATTACKED), (lower, _PROVED)):
        axes.plot(index, values, **(of_end | look))
    axes.axhline(100 * meta["majority"], color=style.GREY, linestyle=":", label="rate of the majority class")
    axes.set_xlabel("feature (0: the largest eigenvalue)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.percent_axis(axes, f"share of test images, {style.threat(meta)}")
    fig.legend(loc="outside upper center", ncols=4)
    return fig


def filters(rows: Rows, meta: dict[str, Any], names: dict[str, str]) -> Figure:
    """Draw clean, attacked and certified accuracy at one radius, one line per machine.

    Args:
        rows: the table "certified" at the radius of the attack.
        meta: the row of "certified_meta".
        names: how machines are called that are not called by their names in the table.
    """
    fig = style.figure(8.4, 1.3 + 0.42 * len(rows))
    axes = fig.subplots()
    y = np.arange(len(rows))
    clean: dict[str, Any] = {"color": style.BLUE, "marker": "s", "markersize": 5, "label": "right, clean"}
    # The three lie one above the other, so that equal ones can be told apart.
    for shift, key, look in (
        (-0.2, "accuracy", clean),
        (0.0, "robust_accuracy", _ATTACKED),
        (0.2, "certified_accuracy", _PROVED),
    ):
        bars = style.spread(rows, key)
        axes.errorbar(style.percent(rows, key), y + shift, xerr=bars, linestyle="none", capsize=2, **look)
    axes.axvline(100 * meta["majority"], color=style.GREY, linestyle=":", label="rate of the majority class")
    axes.set_yticks(y, [style.plain(names.get(r["machine"], r["machine"]), 32) for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"share of test images (%), {style.threat(meta)}")
    fig.legend(loc="outside upper center", ncols=4)
    return fig
