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


def overfitting_alarm(rows: Sequence[Row], *, window: int = 5, jump: float = 6.0, least: float = 2.0) -> list[Advice]:
    """Epochs at which kernel and spectrum jump together, as when one-step adversarial training breaks down.

    In catastrophic overfitting (Wong et al. 2020) a network trained on one-step examples loses its robustness to more steps
    within an epoch. The kernel shows it without an attack: it turns at once, and its size changes at once. An epoch is
    named when the logarithms of both the velocity and the change of the trace lie more than `jump` median absolute
    deviations above the median of the `window` epochs before it, and by a factor of `least` at the least. Where the rows
    have `one_step_accuracy` and `robust_accuracy`, the gap between the two is told with it.

    Args:
        rows: of `KernelTracker.rows`.
        window: epochs that are compared with; none is named before there are so many.
        jump: median absolute deviations.
        least: factor over the median that is asked for in any case.
    """
    speed = np.array([math.log(r["velocity"]) if r["velocity"] > 0 else -math.inf for r in rows])
    size = np.log(np.array([max(r["trace"], 1e-300) for r in rows]))
    change = np.log(np.maximum(np.abs(np.diff(size, prepend=size[0])), 1e-12))
    found = []
    for t in range(window + 1, len(rows)):
        past = slice(t - window, t)
        if _stands_out(speed[past], speed[t], jump, least) and _stands_out(change[past], change[t], jump, least):
            found.append(Advice("overfitting", rows[t]["epoch"], _alarmed(rows, t)))
    return found


def _stands_out(past: np.ndarray, now: float, jump: float, least: float) -> bool:
    middle = float(np.median(past))
    spread = float(np.median(np.abs(past - middle)))
    return bool(now > middle + max(jump * spread, math.log(least)))


def _alarmed(rows: Sequence[Row], t: int) -> str:
    before, now = rows[t - 1], rows[t]
    text = (
        f"At epoch {now['epoch']:g} the kernel turned by {now['velocity']:.2g} in one epoch and its trace went from "
        f"{before['trace']:.3g} to {now['trace']:.3g}, far more than in the epochs before."
    )
    if "one_step_accuracy" in now and "robust_accuracy" in now:
        gaps = [100 * (r["one_step_accuracy"] - r["robust_accuracy"]) for r in (before, now)]
        text += f" Accuracy under one step is {gaps[1]:.0f} points above that under PGD (before: {gaps[0]:.0f})."
    return text + " In one-step adversarial training, go back to the checkpoint before it and take more attack steps."


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
