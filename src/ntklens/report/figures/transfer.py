"""Figures of surrogates against victims: the heat map, and what each surrogate costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.vocabulary import CLEAN, NOISE, WHITE_BOX

_LINE = 1.6
"""Height of a line of text, in points of percentage."""
_LABELS = {CLEAN: "clean images", NOISE: "random noise", "linear": "linear kernel", "rbf": "Gaussian kernel"}


def label(name: str) -> str:
    """Return a surrogate's name for people.

    Example:
        >>> label("ntk:fc3"), label("net:small-cnn+mi"), label("white-box")
        ('NTK fc3, untrained', 'trained small-cnn + MI', 'white box')
    """
    base, *variants = name.split("+")
    kind, _, architecture = base.partition(":")
    kinds = {
        "ntk": f"NTK {architecture}, untrained",
        "entk": f"tangent kernel of {architecture}",
        "net": f"trained {architecture}",
    }
    text = kinds.get(kind, _LABELS.get(base, base.replace("-", " ")))
    return " + ".join([text, *(v.upper() for v in variants)])


def heat_map(means: Rows) -> Figure:
    """Draw the accuracy of each victim on the images of each surrogate; the victim's own architecture is framed."""
    sources = list(dict.fromkeys(r["surrogate"] for r in means))
    victims = list(dict.fromkeys(r["victim"] for r in means))
    cells = {(r["surrogate"], r["victim"]): r for r in means}
    values = np.array([[100 * cells[s, v]["accuracy"] for v in victims] for s in sources])
    fig = style.figure(3.4 + 1.5 * len(victims), 1.3 + 0.36 * len(sources))
    axes = fig.subplots()
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for i, source in enumerate(sources):
        for j, victim in enumerate(victims):
            axes.text(j, i, _cell(cells[source, victim]), ha="center", va="center", fontsize=8.5,
                      color="black" if values[i, j] > 55 else "white")  # fmt: skip
            if source == WHITE_BOX or source.partition("+")[0] == f"net:{victim}":
                axes.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, edgecolor="white", linewidth=2))
    axes.set_xticks(range(len(victims)), victims)
    axes.set_yticks(range(len(sources)), [label(s) for s in sources])
    axes.set_xlabel("victim, trained")
    axes.set_ylabel("images made on")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    fig.colorbar(image, ax=axes, label="accuracy of the victim (%)", pad=0.02)
    return fig


def _cell(row: dict[str, Any]) -> str:
    text = f"{100 * row['accuracy']:.1f}"
    half = None if row["accuracy_low"] is None else 50 * (row["accuracy_high"] - row["accuracy_low"])
    return text if half is None else f"{text} ± {half:.1f}"


def cost_and_strength(means: Rows, costs: Rows) -> Figure:
    """Draw the share of predictions fooled, averaged over the victims, against the seconds that the images take."""
    fig = style.figure(8.0, 4.2)
    axes = fig.subplots()
    kinds = {
        "ntk": ("kernel of an untrained network", style.BLUE, "o"),
        "entk": ("tangent kernel of a network with its weights", style.PURPLE, "D"),
        "net": ("trained network", style.ORANGE, "P"),
    }
    others = ("control", style.GREY, "s")
    named: set[str] = set()
    placed: list[tuple[float, float]] = []
    for row in sorted(costs, key=lambda r: _fooled(means, r["surrogate"])):
        fooled = _fooled(means, row["surrogate"])
        if row["surrogate"] == WHITE_BOX:
            continue
        name, color, marker = kinds.get(row["surrogate"].partition(":")[0], others)
        seconds = max(row["fitting_seconds"] + row["attack_seconds"], 1e-5)
        axes.semilogx(seconds, fooled, marker, color=color, markersize=8, label=None if name in named else name)
        named.add(name)
        text = label(row["surrogate"]).removesuffix(", untrained").removeprefix("trained ")
        # A label that would cover an earlier one moves up: here both are within half a decade of each other.
        height = fooled
        while any(abs(height - y) < _LINE and abs(np.log10(seconds / x)) < 0.5 for x, y in placed):
            height += _LINE / 4
        placed.append((seconds, height))
        axes.annotate(text, (seconds, height), xytext=(9, -3), textcoords="offset points", fontsize=8)
    axes.margins(x=0.25, y=0.12)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds to fit or train the surrogate and make the images")
    axes.set_ylabel("share fooled of the victims' right predictions (%)")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def _fooled(means: Rows, surrogate: str) -> float:
    """Return the percentage fooled, averaged over the victims; NaN where the surrogate has no rows."""
    shares = [r["fooled"] for r in means if r["surrogate"] == surrogate]
    return 100 * float(np.mean(shares)) if shares else float("nan")
