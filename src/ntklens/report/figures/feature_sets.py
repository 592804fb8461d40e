"""Figures of sets of features: machines made of them, and what networks learn from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import FRAGILE, HEAD, ROBUST, TAIL

_CLEAN: dict[str, Any] = {"color": style.BLUE, "marker": "o", "markersize": 5}
_ATTACKED: dict[str, Any] = {"color": style.RED, "marker": "^", "markersize": 5}
_BANDS = (style.BLUE, style.GREEN, style.ORANGE, style.RED, style.PURPLE)


def _dots(rows: Rows, labels: list[str], attack: str, xlabel: str) -> Figure:
    """Draw clean accuracy and accuracy under attack with their intervals, one line per row."""
    fig = style.figure(8.6, 1.3 + 0.42 * len(rows))
    axes = fig.subplots()
    y = np.arange(len(rows))
    for key, look, name in (("accuracy", _CLEAN, "clean images"), ("robust_accuracy", _ATTACKED, attack)):
        bars = style.spread(rows, key)
        axes.errorbar(style.percent(rows, key), y, xerr=bars, linestyle="none", capsize=2, label=name, **look)
    axes.set_yticks(y, labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(xlabel)
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def subsets(rows: Rows) -> Figure:
    """Draw the accuracy of the machines made of each set of features."""
    labels = [f"{style.plain(r['features'], 32)} ({r['count']})" for r in rows]
    return _dots(rows, labels, "one-step attack", "accuracy on test images (%); in brackets, the number of features")


def head_and_tail(rows: Rows, meta: dict[str, Any]) -> Figure:
    """Draw the accuracy of the head, the tail and all features, each attacked on its own, beside the majority class.

    Args:
        rows: the table "head_tail".
        meta: the row of "head_tail_meta".
    """
    labels = [f"{r['features']}: {_places(r)}" for r in rows]
    fig = _dots(
        rows, labels, "PGD on the same features", "accuracy on the test images that did not choose the head (%)"
    )
    fig.axes[0].axvline(100 * meta["majority"], color=style.GREY, linestyle=":")
    return fig


def _places(row: dict[str, Any]) -> str:
    """Return which features a set holds, by their places in the spectrum."""
    return f"feature {row['first']}" if row["count"] == 1 else f"features {row['first']} to {row['last']}"


def bands(rows: Rows, head: int | None = None) -> Figure:
    """Draw the accuracy of the machines made of each band of the spectrum.

    Args:
        rows: the table "bands".
        head: number of features in the head, if one was chosen.
    """
    labels = []
    for r in rows:
        part = "" if head is None else f"{HEAD}, " if r["last"] < head else f"{TAIL}, "
        labels.append(f"{part}{_places(r)}: {r['category']}")
    fig = _dots(rows, labels, "one-step attack", "accuracy on test images of these features alone (%)")
    first_of_tail = next((i for i, r in enumerate(rows) if head is not None and r["first"] >= head), None)
    if first_of_tail is not None:
        fig.axes[0].axhline(first_of_tail - 0.5, color=style.GREY, linestyle="--", linewidth=1.2)
    return fig


def trade_off(rows: Rows) -> Figure:
    """Draw clean and robust accuracy along the training time and along the ridge."""
    fig = style.figure(9.2, 4.0)
    panels = fig.subplots(1, 2, sharey=True)
    names = {"time": "training time ηt", "ridge": "ridge ρ"}
    for axes, knob in zip(panels, names, strict=True):
        chosen = [r for r in rows if r["knob"] == knob]
        value = style.column(chosen, "value")
        style.band(axes, value, chosen, "accuracy", **_CLEAN, label=_once(axes, panels, "clean images"))
        style.band(axes, value, chosen, "robust_accuracy", **_ATTACKED, label=_once(axes, panels, "one-step attack"))
        axes.plot(
            value,
            style.percent(chosen, "label_energy"),
            color=style.GREY,
            linestyle="--",
            label=_once(axes, panels, "label energy learned"),
        )
        axes.set_xscale("log")
        axes.set_xlabel(names[knob])
    style.percent_axis(panels[0], "accuracy on test images; energy")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def _once(axes: Any, panels: Any, label: str) -> str | None:
    """Return the label for the first panel, None for the others: a legend names each line once."""
    return label if axes is panels[0] else None


def learning(rows: Rows) -> Figure:
    """Draw the share of each band of the spectrum that a network has learned over its steps, beside the prediction."""
    fig = style.figure(8.4, 4.0)
    axes = fig.subplots()
    bands = sorted({(r["first"], r["last"]) for r in rows})
    for color, (first, last) in zip(_BANDS, bands, strict=False):
        chosen = [r for r in rows if r["first"] == first]
        steps = [r["step"] for r in chosen]
        name = f"{first}" if first == last else f"{first} to {last}"
        name += f"\n({100 * chosen[0]['label_energy']:.0f} % of energy)"
        axes.plot(steps, style.percent(chosen, "network"), color=color, marker="o", markersize=4, label=name)
        axes.plot(steps, style.percent(chosen, "kernel"), color=color, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("steps of full-batch gradient descent (dashed: the kernel's prediction)")
    style.percent_axis(axes, "share of the band learned")
    axes.set_ylim(min(-5.0, axes.get_ylim()[0]), 110)
    fig.legend(loc="outside right center", title="features")
    return fig


def attribution(rows: Rows) -> Figure:
    """Draw the label energy of the robust and of the useful non-robust features, class by class."""
    fig = style.figure(8.4, 1.3 + 0.4 * len(rows))
    axes = fig.subplots()
    y = np.arange(len(rows))
    for shift, key, color in ((-0.19, ROBUST, style.GREEN), (0.19, FRAGILE, style.RED)):
        if not any(row[key] for row in rows):
            continue  # no feature is of this category, so there is no bar for the legend to explain
        axes.barh(y + shift, style.percent(rows, key), height=0.36, color=color, label=key)
    axes.set_yticks(y, [f"{style.plain(r['class'])} ({r['images']})" for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("share of the label energy (%), by the class of the training images that carry it")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def carriers(rows: Rows, images: dict[str, NDArray[Any]]) -> Figure:
    """Draw the training images whose labels the features of each category explain most."""
    kinds = [kind for kind in images if any(r["features"] == kind for r in rows)]
    width = max(sum(r["features"] == kind for r in rows) for kind in kinds)
    fig = style.figure(1.3 * width + 0.6, 1.9 * len(kinds))
    grid = fig.subplots(len(kinds), width, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for line, kind in zip(grid, kinds, strict=True):
        for axes, row, image in zip(line, [r for r in rows if r["features"] == kind], images[kind], strict=False):
            axes.axis("on")
            style.picture(axes, image, title=f"{style.plain(row['label'], 14)}\n{100 * row['share']:.2f} %")
        line[0].set_ylabel(kind.replace(" and ", " and\n").replace("useful non", "useful\nnon"), fontsize=9)
    return fig


def robust_data(rows: Rows) -> Figure:
    """Draw the clean and robust accuracy of networks trained on each data set."""
    labels = []
    for r in rows:
        what = "" if r["projected"] == "nothing" else f", {r['projected']}"
        rank = "" if r["trained_on"] == "original" else f" (rank {r['rank']})"
        labels.append(f"{style.plain(r['network'])}: {style.plain(r['trained_on'], 34)}{rank}{what}")
    return _dots(rows, labels, "PGD on the network", "accuracy on the unchanged test images (%),\nmean over seeds")
