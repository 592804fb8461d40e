"""What all figures share: size, colours that colour-blind readers can tell apart, intervals, ε in 255ths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]

BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#7a7a7a"
"""Okabe & Ito's palette."""

RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "ntklens",
}


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with this module's settings, and as it was afterwards."""
    with mpl.rc_context(RC):
        yield


def figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def percent_axis(axes: Axes, label: str) -> None:
    """A y axis from 0 to 100 %."""
    axes.set_ylim(-2, 102)
    axes.set_ylabel(f"{label} (%)")


def band(axes: Axes, x: Sequence[float], rows: Rows, key: str, low: str, high: str, **style: Any) -> None:
    """A line of percentages with its 95 % interval as a band."""
    axes.plot(x, [100 * r[key] for r in rows], **style)
    lows, highs = [100 * r[low] for r in rows], [100 * r[high] for r in rows]
    axes.fill_between(x, lows, highs, color=style["color"], alpha=0.16, linewidth=0)


def pixels(eps: float) -> str:
    """ε in 255ths of the pixel range where it is a whole number of them."""
    steps = eps * 255
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{eps:.3g}"


def picture(axes: Axes, image: Any, *, title: str = "", signed: bool = False, limit: float = 1.0) -> Any:
    """An image (C, H, W): grey or colour in [0, 1], or signed on a map with white at zero."""
    if signed:
        shown = axes.imshow(image.mean(0), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    elif image.shape[0] == 1:
        shown = axes.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        shown = axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title, fontsize=9)
    return shown
