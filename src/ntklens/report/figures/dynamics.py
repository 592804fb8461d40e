"""Figures of the kernel's movement over training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import FGSM, NOT_LINEARISED, PGD, STANDARD, UNTRAINED, WATCHED

_COLOURS = {STANDARD: style.BLUE, FGSM: style.ORANGE, PGD: style.RED, WATCHED: style.PURPLE}
_MORE_COLOURS = [style.PURPLE, style.ORANGE, style.BLUE, style.RED, style.GREY]
_PARTS = {"whole kernel": "", "top eigenspace": "_top", "the rest": "_bottom"}

_LEAST_SHARE = 0.05
"""Length of the axis of the concentration, at least; in many networks it stays within a thousandth of 1."""


def trainings(rows: Rows) -> list[str]:
    """Return the trainings of some rows: those of the package in one order everywhere, and then a user's own."""
    names = list(dict.fromkeys(str(row["training"]) for row in rows))
    return [*(name for name in _COLOURS if name in names), *(name for name in names if name not in _COLOURS)]


def _colour(training: str, rows: Rows) -> str:
    """Return the colour of a training; those of users have theirs by their order."""
    own = [name for name in trainings(rows) if name not in _COLOURS]
    return _COLOURS[training] if training in _COLOURS else _MORE_COLOURS[own.index(training) % len(_MORE_COLOURS)]


def _paths(rows: Rows) -> dict[str, list[list[dict[str, Any]]]]:
    """Return the rows of each training, one list per seed."""
    paths: dict[str, list[list[dict[str, Any]]]] = {}
    for training in trainings(rows):
        own = [r for r in rows if r["training"] == training]
        seeds = sorted({r["seed"] for r in own})
        if own:
            paths[training] = [[r for r in own if r["seed"] == seed] for seed in seeds]
    return paths


def distance_maps(maps: dict[str, NDArray[Any]], rows: Rows) -> Figure:
    """Draw the kernel distance of every two epochs, one panel per training, on one colour scale; for the first seed."""
    paths = _paths(rows)
    fig = style.figure(0.8 + 4.1 * len(maps), 4.0)
    panels = fig.subplots(1, len(maps), squeeze=False)[0]
    top = max(float(values.max()) for values in maps.values()) or 1.0
    for panel, (name, values) in zip(panels, maps.items(), strict=True):
        image = panel.imshow(values, cmap="magma", vmin=0, vmax=top, origin="lower", interpolation="nearest")
        panel.set_title(
            "the checkpoints" if name == WATCHED else f"{name} training" if name in _COLOURS else style.plain(name)
        )
        epochs = [f"{r['epoch']:g}" for r in paths[name][0]]
        places = np.arange(0, len(epochs), max(1, math.ceil(len(epochs) / 9)))
        panel.set_xticks(places, [epochs[i] for i in places])
        panel.set_yticks(places, [epochs[i] for i in places])
        panel.set_xlabel("epoch")
        panel.set_ylabel("epoch")
        panel.grid(visible=False)
    fig.colorbar(image, ax=list(panels), label="kernel distance 1 - S")
    return fig


def polar(rows: Rows) -> Figure:
    """Draw radius and angle of the kernel's path: whole, in its top eigenspace, and in the rest."""
    fig = style.figure(9.5, 4.2)
    panels = fig.subplots(1, 3, subplot_kw={"projection": "polar"})
    for panel, (title, suffix) in zip(panels, _PARTS.items(), strict=True):
        for training, seeds in _paths(rows).items():
            path = seeds[0]
            angle, radius = style.column(path, f"angle{suffix}"), style.column(path, f"radius{suffix}")
            look = {"color": _colour(training, rows), "marker": ".", "linewidth": 1.0}
            panel.plot(angle, radius, label=None if suffix else style.plain(training), **look)
            panel.plot(angle[-1:], radius[-1:], color=_colour(training, rows), marker="*", markersize=11)
        reach = np.nanmax(style.column(rows, f"angle{suffix}"))
        panel.set_thetamin(0)
        panel.set_thetamax(180 if reach > np.pi / 2 else 90)
        panel.set_title(title, pad=10)
        panel.tick_params(labelsize=8)
    fig.legend(loc="outside upper center", ncols=4)
    return fig


def settling(rows: Rows, settled: Rows) -> Figure:
    """Draw the squared distance to the end of every training and seed, with the epochs at which each has settled."""
    fig = style.figure(9.5, 4.2)
    axes = fig.subplots()
    last = max(row["epoch"] for row in rows)
    ends = {(row["training"], row["seed"]): row for row in settled}
    for training, seeds in _paths(rows).items():
        colour = _colour(training, rows)
        for number, path in enumerate(seeds):
            epochs, distance = style.column(path, "epoch"), style.column(path, "distance_to_end")
            axes.plot(
                epochs,
                distance,
                color=colour,
                linewidth=1.0,
                alpha=0.6,
                label=None if number else style.plain(training),
            )
            end = ends.get((training, path[0]["seed"]), {})
            if end.get("epoch") is not None:
                # A record of an earlier version does not tell whether the epoch counts.
                inside: dict[str, Any] = (
                    {"markeredgecolor": "white"} if end.get("settled", True) else {"markerfacecolor": "white"}
                )
                axes.plot([end["epoch"]], [0.1], "v", color=colour, markersize=8, zorder=3, **inside)
    axes.axhline(0.1, color=style.GREY, linestyle=":", linewidth=1.2)
    axes.axhline(0.0, color=style.GREY, linewidth=0.8)
    axes.set_xlim(-0.01 * last, 1.01 * last)
    axes.set_ylim(-0.08, 1.05)
    axes.set_xlabel(
        "epoch (▼: settled, below a tenth, the dotted line, from there on; ▽: below it, but not settled yet)"
    )
    axes.set_ylabel("squared distance to the end")
    fig.legend(loc="outside upper center", ncols=4)
    return fig


def over_epochs(rows: Rows, meta: dict[str, Any]) -> Figure:
    """Draw accuracies and measures of the kernel against the epoch."""
    fig = style.figure(10.5, 6.4)
    (score, rank, labels), (share, size, speed) = fig.subplots(2, 3)
    # A record of an earlier version has no centred kernel.
    rank_key = "centred_rank" if any("centred_rank" in row for row in rows) else "effective_rank"
    measures = {
        rank_key: rank,
        "alignment": labels,
        "concentration": share,
        "trace": size,
        "velocity": speed,
    }
    for training, seeds in _paths(rows).items():
        for number, path in enumerate(seeds):
            colour, epochs = _colour(training, rows), style.column(path, "epoch")
            name = None if number else style.plain(training)
            style.band(score, epochs, path, "accuracy", color=colour, label=name)
            tested = [r for r in path if r.get("robust_accuracy") is not None]
            if tested:
                style.band(
                    score, style.column(tested, "epoch"), tested, "robust_accuracy", color=colour, linestyle="--"
                )
            for key, panel in measures.items():
                panel.plot(epochs, style.column(path, key), color=colour, linewidth=1.2)
    style.percent_axis(score, "accuracy")
    attacked = any(row.get("robust_accuracy") is not None for row in rows)
    score.set_title("clean (solid), under attack (dashed)" if attacked else "on the probe images")
    speed.set_yscale("log", nonpositive="mask")
    speed.axhline(meta["lazy_threshold"], color=style.GREY, linestyle=":", linewidth=1.2)
    speed.set_title("noise of the steps: velocity")
    speed.set_ylabel("kernel distance per epoch")
    size.set_yscale("log", nonpositive="mask")
    size.set_title("trace")
    size.set_ylabel("sum of the eigenvalues")
    _widen(share, _LEAST_SHARE)
    share.set_title(f"concentration in the top {meta['top_k']}")
    share.set_ylabel("share of the squared spectrum")
    rank.set_title("effective rank, centred cosine kernel" if rank_key == "centred_rank" else "effective rank")
    rank.set_ylabel("exp of the spectrum's entropy")
    labels.set_title("alignment with the labels")
    labels.set_ylabel("centred alignment (CKA)")
    for panel in (score, *measures.values()):
        panel.set_xlabel("epoch")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def _widen(axes: Axes, least: float) -> None:
    """Make the y axis of shares at least so long, so that a fall by a fraction of it does not look like a large one."""
    low, high = axes.get_ylim()
    missing = least - (high - low)
    if missing > 0:
        high = min(high + missing / 2, max(high, 1.0 + 0.05 * least))
        axes.set_ylim(high - least, high)


def one_step(rows: Rows, alarms: Rows) -> Figure:
    """Draw accuracy under one step and under PGD, and the cosine between tangents of images and of one-step images."""
    fig = style.figure(9.5, 3.9)
    score, cosine = fig.subplots(1, 2)
    for training, seeds in _paths(rows).items():
        for number, path in enumerate(seeds):
            colour, epochs = _colour(training, rows), style.column(path, "epoch")
            name = None if number else style.plain(training)
            score.plot(epochs, style.percent(path, "one_step_accuracy"), color=colour, label=name)
            score.plot(epochs, style.percent(path, "robust_accuracy"), color=colour, linestyle="--")
            values = style.column(path, "adversarial_cosine")
            cosine.plot(epochs, values, color=colour)
            alarmed = [a["epoch"] for a in alarms if (a["training"], a["seed"]) == (training, path[0]["seed"])]
            is_alarm = np.isin(epochs, alarmed)
            cosine.plot(
                epochs[is_alarm], values[is_alarm], "v", color=style.GREY, markersize=10, markerfacecolor="none"
            )
    style.percent_axis(score, "accuracy")
    score.set_title("under one step (solid), under PGD (dashed)")
    cosine.set_title("tangents: image and one-step image (▽: alarm)")
    cosine.set_ylabel("mean cosine")
    for panel in (score, cosine):
        panel.set_xlabel("epoch")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def continued(rows: Rows) -> Figure:
    """Draw the clean and robust accuracy of linearised trainings against the epoch that they start from."""
    fig = style.figure(9.5, 4.0)
    panels = fig.subplots(1, 2, sharey=True)
    keys = {"accuracy": "clean images", "robust_accuracy": "clean, PGD and a search: right on all"}
    marks = {STANDARD: ("o", "-"), PGD: ("^", "--")}
    for panel, (key, title) in zip(panels, keys.items(), strict=True):
        for training, colour in _COLOURS.items():
            own = [r for r in rows if r["training"] == training]
            for data, (marker, line) in marks.items():
                x, y = _means([r for r in own if r["linearised"] == data], key)
                label = f"{training}, then linearised on {'clean images' if data == STANDARD else 'PGD'}"
                look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line}
                if len(x):
                    panel.plot(x, y, label=label if panel is panels[0] else None, **look)
            whole = _means([r for r in own if r["linearised"] == NOT_LINEARISED], key)[1]
            if len(whole):
                panel.axhline(whole[0], color=colour, linestyle=":", linewidth=1.4)
        panel.set_title(title)
        panel.set_xlabel("epoch of the expansion (dotted: the network at its end)")
    style.percent_axis(panels[0], "accuracy on test images")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def _means(rows: Rows, key: str) -> tuple[list[float], list[float]]:
    """Return the starting epochs, and the means over the seeds at each of them as percentages."""
    epochs = sorted({r["from_epoch"] for r in rows})
    return epochs, [float(style.percent([r for r in rows if r["from_epoch"] == e], key).mean()) for e in epochs]


def _when(training: str) -> str:
    return "before training" if training == UNTRAINED else training


def machines(rows: Rows) -> Figure:
    """Draw the clean and robust accuracy of kernel machines, one row per kernel."""
    order = [UNTRAINED, *_COLOURS]
    rows = sorted(rows, key=lambda r: (order.index(r["training"]), r["seed"]))
    names = [f"{_when(r['training'])}, seed {r['seed']}" for r in rows]
    fig = style.figure(8.6, 1.3 + 0.4 * len(rows))
    axes = fig.subplots()
    y = np.arange(len(rows))
    for key, color, marker, name in (
        ("accuracy", style.BLUE, "o", "clean images"),
        ("robust_accuracy", style.RED, "^", "clean, PGD and a search: right on all"),
    ):
        bars = style.spread(rows, key)
        look: dict[str, Any] = {"color": color, "marker": marker, "linestyle": "none", "capsize": 2}
        axes.errorbar(style.percent(rows, key), y, xerr=bars, label=name, **look)
    axes.set_yticks(y, names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("accuracy of the kernel machine on test images (%), by the training of the network")
    fig.legend(loc="outside upper center", ncols=2)
    return fig
