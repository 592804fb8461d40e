"""What the path of a kernel says to whoever is training: it has stopped moving, it has died, or training has broken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ntklens.dynamics import measures

Row = Mapping[str, float]
_BEGUN = 3.0
"""Effective rank of the kernel of a network that has begun to learn."""


@dataclass(frozen=True)
class Advice:
    """One finding.

    Attributes:
        kind: "lazy", "moving", "dead" or "overfitting".
        epoch: since when.
        text: the finding with its evidence, and what to do.
    """

    kind: str
    epoch: float
    text: str

    def row(self) -> dict[str, str | float]:
        """Columns for a record."""
        return {"kind": self.kind, "epoch": self.epoch, "text": self.text}


def advice(rows: Sequence[Row], threshold: float, distance: Float[Tensor, "e e"] | None = None) -> list[Advice]:
    """What the rows of a `KernelTracker` say, alarms first.

    A kernel can move little at every epoch and far in the end. With the distances between epochs, a kernel that is slow
    is told with how far it has turned since it became so.

    Args:
        rows: of `KernelTracker.rows`.
        threshold: velocity, in kernel distance an epoch, below which the kernel counts as standing still.
        distance: of `KernelTracker.distance`.
    """
    if not rows:
        return []
    dead = _dead(rows)
    return [dead] if dead else [*overfitting_alarm(rows), _movement(rows, threshold, distance)]


def overfitting_alarm(rows: Sequence[Row], *, window: int = 5, drop: float = 0.05) -> list[Advice]:
    """Spells in which the tangents of attacked images turn away from those of the images, as when one-step training breaks.

    In catastrophic overfitting (Wong et al. 2020) a network trained on one-step examples learns to tell these from clean
    images, and loses its robustness to more steps. The kernel shows that without a further attack: the tangents of an
    image and of its one-step example, close to each other before, part. An epoch is in such a spell when the mean cosine
    between them, a tracker's `adversarial_cosine`, lies more than `drop` below the median of the `window` epochs before.
    Epochs at which the kernel has an effective rank below 3, before a network has begun to learn, are not judged; a spell
    is told once, at its first epoch. Where the rows have `one_step_accuracy` and `robust_accuracy`, these are told with it.

    Args:
        rows: of `KernelTracker.rows`, of a tracker with the one-step attack of the training.
        window: epochs that are compared with; none is named before there are so many.
        drop: of the cosine.
    """
    found: list[Advice] = []
    cosine = np.array([r.get("adversarial_cosine", math.nan) for r in rows], dtype=float)
    begun = np.array([r["effective_rank"] >= _BEGUN for r in rows])
    inside = False
    for t in range(window, len(rows)):
        past = slice(t - window, t)
        fell = bool(begun[past].all()) and bool(cosine[t] < np.median(cosine[past]) - drop)
        if fell and not inside:
            found.append(Advice("overfitting", rows[t]["epoch"], _alarmed(rows, t, float(np.median(cosine[past])))))
        inside = fell
    return found


def _alarmed(rows: Sequence[Row], t: int, before: float) -> str:
    last, now = rows[t - 1], rows[t]
    text = (
        f"At epoch {now['epoch']:g} the tangents of attacked images have turned away from those of the images: their mean "
        f"cosine is {now['adversarial_cosine']:.2f}, after {before:.2f} in the epochs before."
    )
    if "one_step_accuracy" in now and "robust_accuracy" in now:
        one, more = (f"{100 * last[k]:.0f} to {100 * now[k]:.0f} %" for k in ("one_step_accuracy", "robust_accuracy"))
        text += f" Accuracy under one step went from {one}, under PGD from {more}."
    return (
        text + " If this is one-step adversarial training, compare the accuracy under more steps; where that fell, go "
        "back to the checkpoint before and take more attack steps or a smaller learning rate."
    )


def _dead(rows: Sequence[Row]) -> Advice | None:
    """A kernel of rank one: only the last bias still moves."""
    ranks = [r["effective_rank"] for r in rows]
    if not ranks[-1] < 1.001:
        return None
    first = len(rows)
    while first and ranks[first - 1] < 1.001:
        first -= 1
    return Advice(
        "dead",
        rows[first]["epoch"],
        f"Since epoch {rows[first]['epoch']:g} the kernel has rank one: every input has the same tangents, as when all "
        "hidden units are off. Go back, lower the learning rate, or train on clean images first.",
    )


def _movement(rows: Sequence[Row], threshold: float, distance: Tensor | None) -> Advice:
    epochs, speed = [r["epoch"] for r in rows], [r["velocity"] for r in rows]
    since = measures.lazy_epoch(speed, epochs, threshold)
    last = speed[-1]
    if since is None:
        return Advice(
            "moving",
            epochs[-1],
            f"The kernel still moves: {last:.2g} in kernel distance an epoch at epoch {epochs[-1]:g}, where standing still "
            f"is less than {threshold:g} for three epochs on end. Train on as you do.",
        )
    turned = "" if distance is None else _turned(float(distance[epochs.index(since), -1]), rows[-1], since)
    return Advice(
        "lazy",
        since,
        f"Since epoch {since:g} the kernel has moved by less than {threshold:g} an epoch (last: {last:.2g}{turned}). A "
        "linearised continuation, ntklens.linearize(network), trains on the kernel as it is now; early layers can be "
        "frozen, and cheaper attacks tried, against the accuracy of the checkpoint.",
    )


def _turned(distance: float, now: Row, since: float) -> str:
    """How far the kernel is from where it became slow, beside how far it has come in all."""
    angle = math.degrees(math.acos(max(-1.0, 1 - distance)))
    return (
        f"; in all it has turned by {angle:.2g}° since then, and by {math.degrees(now['angle']):.2g}° since its start"
    )
