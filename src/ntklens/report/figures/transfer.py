"""Figures of surrogates against victims: the heat map, and what each surrogate costs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ntklens.report.figures import style
from ntklens.report.figures.style import Rows
from ntklens.schema import bounds
from ntklens.vocabulary import CLEAN, NOISE, WHITE_BOX

_LINE = 0.05
"""Height of a line of text, as a share of the y axis."""
_LONGEST = 44
"""Most characters of a surrogate's name."""
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


def of_victim(surrogate: str, victim: str) -> bool:
    """Return whether images are made on the victim, or on a kernel or another network of its architecture.

    Example:
        >>> of_victim("ntk:fc2+mi", "fc2"), of_victim("entk:a.py:net", "a.py:net@best.pt"), of_victim("ntk:fc3", "fc2")
        (True, True, False)
    """
    network = surrogate.partition("+")[0].partition(":")[2]
    return surrogate == WHITE_BOX or _architecture(network) == _architecture(victim)


def _architecture(network: str) -> str:
    """Return a network's name without its weights."""
    return re.sub(r"(\.py:\w+)@.*", r"\1", network)


def has_interval(row: dict[str, Any]) -> bool:
    """Return whether a row of means has an interval over seeds."""
    return row["accuracy_low"] is not None


def heat_map(means: Rows) -> Figure:
    """Draw the accuracy of each victim on the images of each surrogate; what is of the victim's architecture is framed."""
    sources = list(dict.fromkeys(r["surrogate"] for r in means))
    victims = list(dict.fromkeys(r["victim"] for r in means))
    cells = {(r["surrogate"], r["victim"]): r for r in means}
    values = np.array([[100 * cells[s, v]["accuracy"] for v in victims] for s in sources])
    longest = max(len(label(s)) for s in sources)
    fig = style.figure(1.8 + 0.085 * min(longest, _LONGEST) + 1.7 * len(victims), 1.3 + 0.36 * len(sources))
    axes = fig.subplots()
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for i, source in enumerate(sources):
        for j, victim in enumerate(victims):
            axes.text(j, i, _cell(cells[source, victim]), ha="center", va="center", fontsize=8.5,
                      color="black" if values[i, j] > 55 else "white")  # fmt: skip
            if of_victim(source, victim):
                axes.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, edgecolor="white", linewidth=2))
    # The file of the weights stands on a line of its own.
    names = ["\n@".join(style.plain(part, 22) for part in victim.split("@", 1)) for victim in victims]
    axes.set_xticks(range(len(victims)), names)
    axes.set_yticks(range(len(sources)), [style.plain(label(s), _LONGEST) for s in sources])
    axes.set_xlabel("victim")
    axes.set_ylabel("images made on")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    fig.colorbar(image, ax=axes, label="accuracy of the victim (%)", pad=0.02)
    return fig


def _cell(row: dict[str, Any]) -> str:
    """Return an accuracy with its interval over seeds; a question mark for one that reaches from 0 to 100 %."""
    text = f"{100 * row['accuracy']:.1f}"
    if not has_interval(row):
        return text
    low, high = (100 * row[end] for end in bounds("accuracy"))
    return f"{text} [?]" if low <= 0 and high >= 100 else f"{text} [{low:.1f}, {high:.1f}]"


def cost_and_strength(means: Rows, costs: Rows) -> Figure:
    """Draw the share of predictions fooled, averaged over the victims, against the seconds that the images take."""
    fig = style.figure(8.0, 4.2)
    axes = fig.subplots()
    kinds = {
        "ntk": ("kernel of an untrained network", style.BLUE, "o"),
        "entk": ("tangent kernel of a finite network", style.PURPLE, "D"),
        "net": ("trained network", style.ORANGE, "P"),
    }
    others = ("control", style.GREY, "s")
    named: set[str] = set()
    placed: list[tuple[float, float]] = []
    line = _LINE * max([_fooled(means, row["surrogate"]) for row in costs if row["surrogate"] != WHITE_BOX] + [1.0])
    for row in sorted(costs, key=lambda r: _fooled(means, r["surrogate"])):
        fooled = _fooled(means, row["surrogate"])
        if row["surrogate"] == WHITE_BOX:
            continue
        name, color, marker = kinds.get(row["surrogate"].partition(":")[0], others)
        seconds = max(row["fitting_seconds"] + row["attack_seconds"], 1e-5)
        axes.semilogx(seconds, fooled, marker, color=color, markersize=8, label=None if name in named else name)
        named.add(name)
        text = label(row["surrogate"]).replace(", untrained", "").removeprefix("trained ")
        text = style.plain(text, _LONGEST)
        # A label that would cover an earlier one moves up: here both are within half a decade of each other.
        height = fooled
        while any(abs(height - y) < line and abs(np.log10(seconds / x)) < 0.5 for x, y in placed):
            height += line / 4
        placed.append((seconds, height))
        axes.annotate(text, (seconds, height), xytext=(9, -3), textcoords="offset points", fontsize=8)
    axes.margins(x=0.25, y=0.12)
    # Labels that moved up stay within the figure.
    axes.set_ylim(0, 1.08 * max([y for _, y in placed] + [axes.get_ylim()[1] / 1.08]))
    axes.set_xlabel("seconds to fit or train the surrogate and make the images")
    axes.set_ylabel("share of right predictions fooled (%)")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def _fooled(means: Rows, surrogate: str) -> float:
    """Return the percentage fooled, averaged over the victims; NaN where the surrogate has no rows."""
    shares = [r["fooled"] for r in means if r["surrogate"] == surrogate]
    return 100 * float(np.mean(shares)) if shares else float("nan")
