"""Figures of the kernel's movement over training."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows

_COLOURS = {"standard": style.BLUE, "adversarial": style.RED}
_PARTS = {"whole kernel": "", "top eigenspace": "_top", "the rest": "_bottom"}


def _paths(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    paths = {training: [r for r in rows if r["training"] == training] for training in _COLOURS}
    return {training: path for training, path in paths.items() if path}


def distance_maps(maps: dict[str, NDArray[Any]]) -> Figure:
    """Kernel distance of every two epochs, a panel a training, on one colour scale."""
    fig = style.figure(0.8 + 4.1 * len(maps), 4.0)
    panels = fig.subplots(1, len(maps), squeeze=False)[0]
    top = max(float(values.max()) for values in maps.values()) or 1.0
    for panel, (name, values) in zip(panels, maps.items(), strict=True):
        shown = panel.imshow(values, cmap="magma", vmin=0, vmax=top, origin="lower", interpolation="nearest")
        panel.set_title(f"{name} training")
        panel.set_xlabel("epoch")
        panel.set_ylabel("epoch")
        panel.grid(visible=False)
    fig.colorbar(shown, ax=list(panels), label="kernel distance 1 - S")
    return fig


def polar(rows: Rows) -> Figure:
    """Radius and angle of the kernel's path, whole, in its top eigenspace and in the rest."""
    fig = style.figure(9.5, 3.9)
    panels = fig.subplots(1, 3, subplot_kw={"projection": "polar"})
    for panel, (title, suffix) in zip(panels, _PARTS.items(), strict=True):
        for training, path in _paths(rows).items():
            angle, radius = style.column(path, f"angle{suffix}"), style.column(path, f"radius{suffix}")
            look = {"color": _COLOURS[training], "marker": ".", "linewidth": 1.0}
            panel.plot(angle, radius, label=None if suffix else training, **look)
            panel.plot(angle[-1:], radius[-1:], color=_COLOURS[training], marker="*", markersize=11)
        reach = np.nanmax(style.column(rows, f"angle{suffix}"))
        panel.set_thetamin(0)
        panel.set_thetamax(180 if reach > np.pi / 2 else 90)
        panel.set_title(title)
        panel.tick_params(labelsize=8)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def over_epochs(rows: Rows, meta: dict[str, Any]) -> Figure:
    """Accuracies, velocity, concentration and effective rank against the epoch."""
    fig = style.figure(9.5, 6.4)
    (score, speed), (share, rank) = fig.subplots(2, 2)
    for training, path in _paths(rows).items():
        colour, epochs = _COLOURS[training], style.column(path, "epoch")
        style.band(score, epochs, path, "accuracy", "accuracy_low", "accuracy_high", color=colour, label=training)
        bounds = ("robust_accuracy", "robust_low", "robust_high")
        style.band(score, epochs, path, *bounds, color=colour, linestyle="--")
        for panel, key in ((speed, "velocity"), (share, "concentration"), (rank, "effective_rank")):
            panel.plot(epochs, style.column(path, key), color=colour)
    style.percent_axis(score, "accuracy")
    score.set_title("clean (solid) and under attack (dashed)")
    speed.set_yscale("log", nonpositive="mask")
    speed.axhline(meta["lazy_threshold"], color=style.GREY, linestyle=":", linewidth=1.2)
    speed.set_title("velocity of the kernel (dotted: lazy threshold)")
    speed.set_ylabel("kernel distance an epoch")
    share.set_title(f"concentration in the top {meta['top_k']}")
    share.set_ylabel("share of the squared spectrum")
    rank.set_title("effective rank")
    rank.set_ylabel("exp of the spectrum's entropy")
    for panel in (score, speed, share, rank):
        panel.set_xlabel("epoch")
    fig.legend(loc="outside upper center", ncols=2)
    return fig
