"""Figures of the attacks on the kernel machine."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows

_LINES = {
    "noise": ("random-sign noise", style.GREY, "s", "--"),
    "fgsm": ("one step", style.BLUE, "o", "-"),
    "pgd": ("PGD", style.RED, "^", "-"),
}


def accuracy_curve(rows: Rows) -> Figure:
    """Accuracy against ε, one line an attack."""
    fig = style.figure()
    axes = fig.subplots()
    for attack, (label, color, marker, line) in _LINES.items():
        chosen = [r for r in rows if r["attack"] == attack]
        if chosen:
            x = [255 * r["eps"] for r in chosen]
            look = {"color": color, "marker": marker, "linestyle": line, "label": label, "markersize": 5}
            style.band(axes, x, chosen, "accuracy", "low", "high", **look)
    axes.set_xlabel(f"radius ε of the {rows[0]['norm']} ball (in 255ths of the pixel range)")
    style.percent_axis(axes, "accuracy on test images")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def gallery(rows: Rows, clean: NDArray[Any], attacked: NDArray[Any]) -> Figure:
    """Image, perturbation and attacked image, one column an example."""
    fig = style.figure(max(1.55 * len(rows), 4.0) + 0.9, 5.2)
    grid = fig.subplots(3, len(rows), squeeze=False)
    limit = float(abs(attacked - clean).max()) or 1.0
    shown = None
    for j, row in enumerate(rows):
        style.picture(grid[0, j], clean[j], title=f"{row['label']}\nseen as {row['prediction']}")
        shown = style.picture(grid[1, j], attacked[j] - clean[j], signed=True, limit=limit)
        style.picture(grid[2, j], attacked[j], title=f"seen as\n{row['adversarial_prediction']}")
    for i, name in enumerate(("image", "perturbation", "attacked image")):
        grid[i, 0].set_ylabel(name)
    if shown is not None:
        fig.colorbar(shown, ax=list(grid[1]), label="change of a pixel", shrink=0.95)
    return fig
