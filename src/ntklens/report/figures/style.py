"""What all figures share: size, colours that colour-blind readers can tell apart, intervals, ε in 255ths, user text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

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

_NORMS = {"linf": "ℓ∞", "l2": "ℓ₂"}


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with this module's settings, and as it was afterwards."""
    with mpl.rc_context(RC):
        yield


def figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def percent(rows: Rows, key: str) -> NDArray[np.float64]:
    """A column of shares as percentages; nan where there is none."""
    return 100 * np.array([r.get(key) for r in rows], dtype=float)


def column(rows: Rows, key: str) -> NDArray[np.float64]:
    """A column as numbers; nan where there is none."""
    return np.array([r.get(key) for r in rows], dtype=float)


def spread(rows: Rows, key: str, low: str, high: str) -> NDArray[np.float64]:
    """Lengths of the error bars of a column of shares, below and above, in points of percentage."""
    value = percent(rows, key)
    return np.nan_to_num(np.stack([value - percent(rows, low), percent(rows, high) - value])).clip(min=0)


def percent_axis(axes: Axes, label: str) -> None:
    """A y axis from 0 to 100 %."""
    axes.set_ylim(-2, 102)
    axes.set_ylabel(f"{label} (%)")


def band(axes: Axes, x: Any, rows: Rows, key: str, low: str, high: str, **style: Any) -> None:
    """A line of percentages with its 95 % interval as a band."""
    axes.plot(x, percent(rows, key), **style)
    axes.fill_between(x, percent(rows, low), percent(rows, high), color=style["color"], alpha=0.16, linewidth=0)


def pixels(eps: float) -> str:
    """ε in 255ths of the pixel range where it is a whole number of them.

    Example:
        >>> pixels(8 / 255), pixels(0.5), pixels(2.0)
        ('8/255', '0.5', '2')
    """
    steps = eps * 255
    return f"{round(steps)}/255" if eps < 1 and abs(steps - round(steps)) < 1e-6 else f"{eps:.3g}"


def norm_sign(norm: str) -> str:
    """The usual sign of a norm; its name where there is none."""
    return _NORMS.get(norm, plain(norm))


def plain(text: Any, longest: int = 18) -> str:
    r"""User text for a figure: no mathematics in dollars, and not too long for its place.

    Example:
        >>> plain("5$ note"), plain("a class with a long name")
        ('5\\$ note', 'a class with a lo…')
    """
    words = " ".join(str(text).split())
    return (words if len(words) <= longest else words[: longest - 1] + "…").replace("$", r"\$")


def picture(axes: Axes, image: NDArray[Any], *, title: str = "", signed: bool = False, limit: float = 1.0) -> Any:
    """An image (C, H, W): grey or colour in [0, 1], or signed (mean over channels) on a map that is white at zero."""
    if signed:
        shown = axes.imshow(image.mean(0), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    elif image.shape[0] == 3:
        shown = axes.imshow(image.transpose(1, 2, 0).clip(0, 1), interpolation="nearest")
    else:
        shown = axes.imshow(image.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title, fontsize=9)
    return shown
