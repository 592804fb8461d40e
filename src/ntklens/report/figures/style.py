"""What all figures share: size, colours that colour-blind readers can tell apart, intervals, and the user's text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.schema import bounds
from ntklens.wording import norm_sign, pixels

Rows = Sequence[dict[str, Any]]

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
RED = "#D55E00"
GREY = "#7a7a7a"
"""The palette of Okabe & Ito, with a grey for controls."""
BLACK = "#222222"
"""Clean images."""

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
    """Give matplotlib the settings of this module for the length of the block."""
    with mpl.rc_context(RC):
        yield


def figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def column(rows: Rows, key: str) -> NDArray[np.float64]:
    """Return a column as numbers; NaN where a row has no value.

    Raises:
        KeyError: no row has the column.
    """
    if rows and not any(key in row for row in rows):
        raise KeyError(key)
    return np.array([row.get(key) for row in rows], dtype=float)


def percent(rows: Rows, key: str) -> NDArray[np.float64]:
    """Return a column of shares as percentages; NaN where a row has no value."""
    return 100 * column(rows, key)


def spread(rows: Rows, key: str, scale: float = 100) -> NDArray[np.float64]:
    """Return the lengths (2, n) of a column's error bars, below and above the values; as percentages by default."""
    value = column(rows, key)
    low, high = (column(rows, end) for end in bounds(key))
    # A value without an interval has bars of length zero; rounding may put a value outside its interval.
    return np.nan_to_num(scale * np.stack([value - low, high - value])).clip(min=0)


def percent_axis(axes: Axes, label: str) -> None:
    """Set up a y axis from 0 to 100 %."""
    axes.set_ylim(-2, 102)
    axes.set_ylabel(f"{label} (%)")


def band(axes: Axes, x: Any, rows: Rows, key: str, **look: Any) -> None:
    """Draw a line of percentages, with its 95 % interval as a band."""
    low, high = bounds(key)
    axes.plot(x, percent(rows, key), **look)
    axes.fill_between(x, percent(rows, low), percent(rows, high), color=look["color"], alpha=0.16, linewidth=0)


def threat(row: Mapping[str, Any]) -> str:
    """Write the radius and the norm of a row.

    Example:
        >>> threat({"eps": 8 / 255, "norm": "linf"})
        'ε = 8/255 in ℓ∞'
    """
    return f"ε = {pixels(row['eps'])} in {norm_sign(row['norm'])}"


def plain(text: Any, longest: int = 18) -> str:
    r"""Return a user's text for a figure: without mathematics in dollars, and not too long for its place.

    Example:
        >>> plain("5$ note"), plain("a class with a long name")
        ('5\\$ note', 'a class with a lo…')
    """
    words = " ".join(str(text).split())
    return (words if len(words) <= longest else words[: longest - 1] + "…").replace("$", r"\$")


def picture(axes: Axes, image: NDArray[Any], *, title: str = "", signed: bool = False, limit: float = 1.0) -> Any:
    """Draw an image (C, H, W): grey or colour in [0, 1]; or signed values on a map that is white at zero.

    Signed values are averaged over the channels.
    """
    if signed:
        drawn = axes.imshow(image.mean(0), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    elif image.shape[0] == 3:
        drawn = axes.imshow(image.transpose(1, 2, 0).clip(0, 1), interpolation="nearest")
    else:
        drawn = axes.imshow(image.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title, fontsize=9)
    return drawn
