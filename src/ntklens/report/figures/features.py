"""Figures of the NTK features."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows


def spectrum(eigenvalues: NDArray[Any], label_energy: NDArray[Any]) -> Figure:
    """Eigenvalues, and the share of the labels within the first of them."""
    fig = style.figure(9.0, 3.4)
    left, right = fig.subplots(1, 2)
    index = np.arange(1, len(eigenvalues) + 1)
    left.loglog(index, eigenvalues, color=style.BLUE)
    left.set_xlabel("index of the eigenvalue (from 1)")
    left.set_ylabel("eigenvalue λ")
    right.semilogx(index, 100 * label_energy, color=style.GREEN)
    right.set_xlabel("number of eigenvectors, largest eigenvalue first")
    style.percent_axis(right, "label energy within them")
    return fig


def usefulness_robustness(rows: Rows, meta: dict[str, Any]) -> Figure:
    """A point a feature, coloured by its place in the spectrum, with the intervals of the first."""
    fig = style.figure(8.0, 5.0)
    axes = fig.subplots()
    x = np.array([100 * r["usefulness"] for r in rows])
    y = np.array([100 * r["robustness"] for r in rows])
    index = np.array([r["index"] + 1 for r in rows])
    first = rows[: min(12, len(rows))]
    for r in first:
        across = [[100 * (r["usefulness"] - r["usefulness_low"])], [100 * (r["usefulness_high"] - r["usefulness"])]]
        up = [[100 * (r["robustness"] - r["robustness_low"])], [100 * (r["robustness_high"] - r["robustness"])]]
        axes.errorbar(
            100 * r["usefulness"], 100 * r["robustness"], up, across, color="#b0b0b0", linewidth=0.7, zorder=1
        )
    order = np.argsort(-index)
    points = axes.scatter(x[order], y[order], c=index[order], cmap="viridis", norm="log", s=22, zorder=2)
    fig.colorbar(points, ax=axes, label="index in the spectrum (1: largest eigenvalue)")
    majority = 100 * meta["majority"]
    axes.axvline(majority, color=style.GREY, linestyle=":", linewidth=1, label="majority class's rate")
    left, right = max(0.0, x.min() - 4), min(100.0, x.max() + 8)
    half: dict[str, Any] = {
        "color": style.GREY,
        "linewidth": 0.9,
        "linestyle": "--",
        "label": "half of the usefulness survives",
    }
    axes.plot([left, right], [left / 2, right / 2], **half)
    axes.set_xlim(left, right)
    for r in first[:4]:
        here = (100 * r["usefulness"], 100 * r["robustness"])
        axes.annotate(str(r["index"] + 1), here, xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("usefulness: accuracy of the feature alone (%)")
    axes.set_ylabel(f"robustness: the same under attack, ε = {style.pixels(meta['eps'])} (%)")
    axes.legend(loc="upper right", fontsize=8)
    return fig


def top_k(rows: Rows) -> Figure:
    """Clean and robust accuracy of the machine made of the first k features."""
    fig = style.figure(8.0, 3.8)
    axes = fig.subplots()
    k = [r["k"] for r in rows]
    style.band(
        axes, k, rows, "accuracy", "low", "high", color=style.BLUE, marker="o", label="clean images", markersize=5
    )
    bounds = ("robust_accuracy", "robust_low", "robust_high")
    style.band(axes, k, rows, *bounds, color=style.RED, marker="^", label="one-step attack", markersize=5)
    axes.set_xscale("log")
    axes.set_xticks(k, [str(v) for v in k])
    axes.minorticks_off()
    axes.set_xlabel("number of features kept, largest eigenvalue first")
    style.percent_axis(axes, "accuracy on test images")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def pictures(rows: Rows, columns: Rows, images: NDArray[Any], grid: NDArray[Any]) -> Figure:
    """Gradient images: a row a feature, a column an image, each picture on its own scale."""
    k, m = len(rows), len(columns)
    fig = style.figure(1.45 * m + 1.9, 1.35 * (k + 1) + 0.5)
    axes = fig.subplots(k + 1, m, squeeze=False)
    shown = None
    for j, column in enumerate(columns):
        style.picture(axes[0, j], images[j], title=str(column["label"]))
        for i in range(k):
            limit = float(np.abs(grid[i, j]).max()) or 1.0
            shown = style.picture(axes[i + 1, j], grid[i, j] / limit, signed=True)
    axes[0, 0].set_ylabel("image", fontsize=9)
    for i, row in enumerate(rows):
        useful, robust = 100 * row["usefulness"], 100 * row["robustness"]
        label = f"feature {row['index'] + 1}\nuseful {useful:.0f} %\nrobust {robust:.0f} %"
        axes[i + 1, 0].set_ylabel(label, fontsize=8)
    if shown is not None:
        bar = fig.colorbar(shown, ax=axes, shrink=0.4, aspect=30)
        bar.set_label("gradient of the feature (share of the picture's largest)")
    return fig
