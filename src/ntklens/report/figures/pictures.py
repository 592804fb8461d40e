"""What NTK features look like: their gradients with respect to images."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import HEAD, TAIL


def pictures(rows: Rows, columns: Rows, images: NDArray[Any], grid: NDArray[Any]) -> Figure:
    """Draw the gradients of features at images, one row per image and one column per feature, with one scale per column.

    Args:
        rows: index, usefulness and robustness of the k features.
        columns: the class of each of the m images.
        images: (m, C, H, W), in [0, 1].
        grid: (k, m, C, H, W), the signed gradient of each feature at each image.
    """
    k, m = len(rows), len(columns)
    fig = style.figure(1.2 * (k + 1) + 0.8, 1.22 * m + 0.9)
    axes = fig.subplots(m, k + 1, squeeze=False)
    scale = np.abs(grid.mean(2)).max((1, 2, 3))
    axes[0, 0].set_title("image", fontsize=9)
    for j, column in enumerate(columns):
        style.picture(axes[j, 0], images[j])
        axes[j, 0].set_ylabel(style.plain(column["label"]), fontsize=9)
        for i in range(k):
            drawn = style.picture(axes[j, i + 1], grid[i, j] / (scale[i] or 1.0), signed=True)
    for i, row in enumerate(rows):
        useful, robust = style.percent([row], "usefulness")[0], style.percent([row], "robustness")[0]
        axes[0, i + 1].set_title(f"feature {row['index']}\nuseful {useful:.0f} %\nrobust {robust:.0f} %", fontsize=9)
    bar = fig.colorbar(drawn, ax=axes, shrink=0.7, aspect=30, ticks=[-1, 0, 1])
    bar.set_label("gradient (share of the column's largest)", fontsize=9)
    return fig


def head_and_tail_pictures(
    rows: Rows, columns: Rows, images: NDArray[Any], grid: NDArray[Any], majority: float, attack: str
) -> Figure:
    """Draw what head and tail look at, at up to three images, and how often each is right, clean and under attack.

    Args:
        rows: the table "head_tail", of the head, the tail and all features.
        columns: the class of each of the m images.
        images: (m, C, H, W), in [0, 1].
        grid: (2, m, C, H, W), the signed gradients of head and tail at the images.
        majority: share of the most frequent class.
        attack: the threat in words, for the legend.
    """
    by_name = {row["features"]: row for row in rows}
    names = (HEAD, TAIL)
    count = min(3, len(columns))
    fig = style.figure(9.2, 1.25 * count + 0.9)
    left, right = fig.subfigures(1, 2, width_ratios=(1.25, 1), squeeze=False)[0]
    axes = left.subplots(count, 3, squeeze=False)
    for j in range(count):
        style.picture(axes[j, 0], images[j], title="" if j else "test image")
        axes[j, 0].set_ylabel(style.plain(columns[j]["label"]), fontsize=9)
        for i, name in enumerate(names):
            scale = np.abs(grid[i, j].mean(0)).max() or 1.0
            title = "" if j else f"what {_which(by_name[name])}\nlook at"
            drawn = style.picture(axes[j, i + 1], grid[i, j] / scale, signed=True, title=title)
    bar = left.colorbar(drawn, ax=axes, shrink=0.8, aspect=25, ticks=[-1, 0, 1])
    bar.set_label("gradient (share of the picture's largest)", fontsize=8)
    plot = right.subplots()
    chosen = [by_name[name] for name in names]
    for shift, key, label, colour in (
        (-0.19, "accuracy", "clean", style.BLUE),
        (0.19, "robust_accuracy", f"under attack, {attack}", style.RED),
    ):
        places = np.arange(2) + shift
        heights = style.percent(chosen, key)
        plot.bar(places, heights, 0.36, color=colour, label=label, yerr=style.spread(chosen, key), ecolor="0.25")
        for place, height, top in zip(places, heights, style.percent(chosen, f"{key}_high"), strict=True):
            plot.text(place, top + 1.5, f"{height:.0f} %", ha="center", va="bottom", fontsize=9)
    plot.axhline(100 * majority, color="0.4", linestyle=":", linewidth=1, label="majority class")
    plot.set_xticks([0, 1], [f"{_which(row)} alone" for row in chosen])
    style.percent_axis(plot, "right predictions")
    plot.set_xlabel("features of the kernel, by eigenvalue")
    plot.set_ylim(0, 118)
    plot.set_yticks(range(0, 101, 20))
    plot.legend(loc="upper right", fontsize=8, ncols=1)
    return fig


def _which(row: dict[str, Any]) -> str:
    """Return the set of features in words: the first ones or the others."""
    return f"{'the first' if row['features'] == HEAD else 'the other'} {row['count']}"


def channels(rows: Rows, image: NDArray[Any], grid: NDArray[Any]) -> Figure:
    """Draw the colour channels of gradients (k, C, H, W) at one image (C, H, W), with one scale per feature."""
    count = image.shape[0]
    names = ["red", "green", "blue"] if count == 3 else [f"channel {c}" for c in range(count)]
    fig = style.figure(1.2 * (len(rows) + 1) + 0.8, 1.25 * count + 0.7)
    axes = fig.subplots(count, len(rows) + 1, squeeze=False)
    scale = np.abs(grid).max((1, 2, 3))
    for c, name in enumerate(names):
        style.picture(axes[c, 0], image[c : c + 1])
        axes[c, 0].set_ylabel(name, fontsize=9)
        for i in range(len(rows)):
            drawn = style.picture(axes[c, i + 1], grid[i, c : c + 1] / (scale[i] or 1.0), signed=True)
    axes[0, 0].set_title("image", fontsize=9)
    for i, row in enumerate(rows):
        axes[0, i + 1].set_title(f"feature {row['index']}\nup to {scale[i]:.1e}", fontsize=9)
    bar = fig.colorbar(drawn, ax=axes, shrink=0.7, aspect=30, ticks=[-1, 0, 1])
    bar.set_label("gradient (share of the column's largest)", fontsize=9)
    return fig


def side_by_side(names: list[str], image: NDArray[Any], grid: NDArray[Any]) -> Figure:
    """Draw the matched features of several kernels (kernels, features, C, H, W) at one image, one row per kernel."""
    fig = style.figure(1.25 * (grid.shape[1] + 1) + 0.8, 1.25 * len(names) + 0.5)
    axes = fig.subplots(len(names), grid.shape[1] + 1, squeeze=False)
    for i, name in enumerate(names):
        style.picture(axes[i, 0], image, title="" if i else "image")
        axes[i, 0].set_ylabel(style.plain(name), fontsize=9)
        for j in range(grid.shape[1]):
            mean = grid[i, j].mean(0)
            title = "" if i else f"feature {j}"
            drawn = style.picture(axes[i, j + 1], grid[i, j] / (np.abs(mean).max() or 1.0), signed=True, title=title)
    bar = fig.colorbar(drawn, ax=axes, shrink=0.8, aspect=30, ticks=[-1, 0, 1])
    bar.set_label("gradient (share of the\npicture's largest)", fontsize=8)
    return fig


def frame(row: dict[str, Any], image: NDArray[Any], gradient: NDArray[Any]) -> Figure:
    """Draw one feature at one image, as a frame of an animation over the index."""
    fig = style.figure(5.2, 2.9)
    left, right = fig.subplots(1, 2)
    style.picture(left, image, title="image")
    useful, robust = style.percent([row], "usefulness")[0], style.percent([row], "robustness")[0]
    title = f"feature {row['index']}: useful {useful:.0f} %, robust {robust:.0f} %"
    style.picture(right, gradient / (np.abs(gradient.mean(0)).max() or 1.0), signed=True, title=title)
    return fig
