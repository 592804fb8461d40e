"""Figures of the kernel's movement over training."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows

_COLOURS = {"standard": style.BLUE, "adversarial": style.RED}


def _of(rows: Rows, training: str) -> list[dict[str, Any]]:
    return [r for r in rows if r["training"] == training]


def distance_maps(standard: NDArray[Any], adversarial: NDArray[Any]) -> Figure:
    """Kernel distance of every two epochs, both trainings on one colour scale."""
    fig = style.figure(9.0, 4.0)
    axes = fig.subplots(1, 2)
    top = max(float(standard.max()), float(adversarial.max()))
    for panel, values, name in zip(axes, (standard, adversarial), _COLOURS, strict=True):
        shown = panel.imshow(values, cmap="magma", vmin=0, vmax=top, origin="lower", interpolation="nearest")
        panel.set_title(f"{name} training")
        panel.set_xlabel("epoch")
        panel.set_ylabel("epoch")
        panel.grid(visible=False)
    fig.colorbar(shown, ax=list(axes), label="kernel distance 1 - S")
    return fig


def polar(rows: Rows) -> Figure:
    """Radius and angle of the kernel's path, whole, in its top eigenspace and in the rest."""
    fig = style.figure(9.5, 3.9)
    panels = fig.subplots(1, 3, subplot_kw={"projection": "polar"})
    parts = {"whole kernel": "", "top eigenspace": "_top", "the rest": "_bottom"}
    reach = max(r[f"angle{s}"] for r in rows for s in parts.values())
    for panel, (title, suffix) in zip(panels, parts.items(), strict=True):
        for training, colour in _COLOURS.items():
            path = _of(rows, training)
            angle, radius = [r[f"angle{suffix}"] for r in path], [r[f"radius{suffix}"] for r in path]
            panel.plot(angle, radius, color=colour, marker=".", label=training if not suffix else None)
            panel.plot(angle[-1], radius[-1], color=colour, marker="*", markersize=11)
        panel.set_thetamin(0)
        panel.set_thetamax(90 if reach > np.pi / 4 else 45)
        panel.set_title(title)
        panel.tick_params(labelsize=8)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def over_epochs(rows: Rows, meta: dict[str, Any]) -> Figure:
    """Accuracies, velocity, concentration and effective rank against the epoch."""
    fig = style.figure(9.5, 6.4)
    (score, speed), (share, rank) = fig.subplots(2, 2)
    for training, colour in _COLOURS.items():
        path = _of(rows, training)
        epochs = [r["epoch"] for r in path]
        style.band(score, epochs, path, "accuracy", "accuracy_low", "accuracy_high", color=colour, label=training)
        bounds = ("robust_accuracy", "robust_low", "robust_high")
        style.band(score, epochs, path, *bounds, color=colour, linestyle="--")
        speed.plot(epochs[1:], [r["velocity"] for r in path[1:]], color=colour)
        share.plot(epochs, [r["concentration"] for r in path], color=colour)
        rank.plot(epochs, [r["effective_rank"] for r in path], color=colour)
    style.percent_axis(score, "accuracy")
    score.set_title("clean (solid) and under PGD (dashed)")
    speed.set_yscale("log")
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
