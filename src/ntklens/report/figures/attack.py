"""Figures of the attacks on the kernel machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.wording import norm_sign

_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "noise": ("random-sign noise", {"color": style.GREY, "marker": "s", "linestyle": "--", "markersize": 5}),
    "fgsm": ("one step", {"color": style.BLUE, "marker": "o", "markerfacecolor": "white", "markersize": 9}),
    "pgd": ("PGD", {"color": style.RED, "marker": "^", "linestyle": (0, (4, 2)), "markersize": 5}),
}


def accuracy_curve(rows: Rows) -> Figure:
    """Draw accuracy against ε, one line per attack; rows of the attack "none" start every line."""
    fig = style.figure()
    axes = fig.subplots()
    norm = str(rows[0]["norm"])
    unit, scale = ("in 255ths of the pixel range", 255) if norm == "linf" else ("pixels in [0, 1]", 1)
    unharmed = [r for r in rows if r["attack"] == "none"]
    for attack, (label, look) in _LINES.items():
        chosen = [r for r in rows if r["attack"] == attack]
        if not chosen:
            continue
        chosen = sorted(chosen if any(r["eps"] == 0 for r in chosen) else unharmed + chosen, key=lambda r: r["eps"])
        style.band(axes, scale * style.column(chosen, "eps"), chosen, "accuracy", label=label, **look)
    axes.set_xlabel(f"radius ε of the {norm_sign(norm)} ball ({unit})")
    style.percent_axis(axes, "accuracy on test images")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def gallery(rows: Rows, clean: NDArray[Any], attacked: NDArray[Any]) -> Figure:
    """Draw images, perturbations and attacked images, one column per example; images are (m, C, H, W) in [0, 1]."""
    fig = style.figure(max(1.55 * len(rows), 4.0) + 0.9, 5.2)
    grid = fig.subplots(3, len(rows), squeeze=False)
    limit = float(np.abs(attacked - clean).max()) or 1.0
    for j, row in enumerate(rows):
        label, before, after = (style.plain(row[k], 15) for k in ("label", "prediction", "adversarial_prediction"))
        style.picture(grid[0, j], clean[j], title=f"{label}\nseen as {before}")
        change = style.picture(grid[1, j], attacked[j] - clean[j], signed=True, limit=limit)
        style.picture(grid[2, j], attacked[j], title=f"seen as\n{after}")
    for i, name in enumerate(("image", "perturbation", "attacked image")):
        grid[i, 0].set_ylabel(name)
    channels = "" if clean.shape[1] == 1 else "\n(mean of its channels)"
    fig.colorbar(change, ax=list(grid[1]), label=f"change of a pixel{channels}", shrink=0.95)
    return fig
