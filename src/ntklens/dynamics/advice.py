"""What the path of a kernel says to whoever is training: it has stopped moving, it has died, or training has broken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ntklens.dynamics import measures

Row = Mapping[str, float]
_BEGUN, _ENOUGH = 3.0, 5
"""Effective rank of the kernel of a network that has begun to learn, and how many such epochs an alarm needs before it."""


@dataclass(frozen=True)
class Advice:
    """One finding.

    Attributes:
        kind: "lazy", "moving", "plateau", "dead" or "overfitting".
        epoch: since when.
        text: the finding with its evidence, and what to do.
    """

    kind: str
    epoch: float
    text: str

    def row(self) -> dict[str, str | float]:
        """Columns for a record."""
        return {"kind": self.kind, "epoch": self.epoch, "text": self.text}


def advice(
    rows: Sequence[Row], threshold: float, distance: Float[Tensor, "e e"] | None = None, *, one_step: bool = False
) -> list[Advice]:
    """What the rows of a `KernelTracker` say, alarms first.

    A kernel can move little at every epoch and far in the end. With the distances between epochs, a kernel that is slow
    is told with how far it has turned since it became so.

    Args:
        rows: of `KernelTracker.rows`.
        threshold: velocity, in kernel distance an epoch, below which the kernel counts as standing still.
        distance: of `KernelTracker.distance`.
        one_step: the training is one on one-step adversarial images, for which `overfitting_alarm` is.
    """
    if not rows:
        return []
    dead = _dead(rows)
    alarms = overfitting_alarm(rows) if one_step else []
    return [dead] if dead else [*alarms, _movement(rows, threshold, distance)]


def overfitting_alarm(rows: Sequence[Row], *, window: int = 10, drop: float = 0.05) -> list[Advice]:
    """Spells in which one-step adversarial training breaks down: tangents of attacked images turn from those of the images.

    In catastrophic overfitting (Wong et al. 2020) a network trained on one-step examples learns to tell these from clean
    images, and loses its robustness to more steps. The tangents of an image and of its one-step example, close to each
    other before, part. An epoch is in such a spell when the mean cosine between them, a tracker's `adversarial_cosine`,
    lies more than `drop` below the highest of the `window` epochs before. Epochs at which the kernel has an effective rank
    below 3, before a network has begun to learn, do not count, and there have to be five that do. Where the rows have
    `one_step_accuracy` and `robust_accuracy`, these have to part as well, by as much. A spell is told once, at its start.

    In other trainings the cosine may fall for other reasons.

    Args:
        rows: of `KernelTracker.rows`, of a tracker with the one-step attack of the training.
        window: epochs that are compared with.
        drop: of the cosine.
    """
    found: list[Advice] = []
    lost = -math.inf  # the cosine before a spell, which ends when half of the fall is made good
    for t, now in enumerate(rows):
        past = [r for r in rows[max(0, t - window) : t] if r["effective_rank"] >= _BEGUN and not math.isnan(_cosine(r))]
        if len(past) < _ENOUGH or _cosine(now) < lost - drop / 2:
            continue
        lost, best = -math.inf, max(past, key=_cosine)
        if _cosine(now) < _cosine(best) - drop and _parted(best, now, drop):
            found.append(Advice("overfitting", now["epoch"], _alarmed(best, now)))
            lost = _cosine(best)
    return found


def _cosine(row: Row) -> float:
    return row.get("adversarial_cosine", math.nan)


def _parted(before: Row, now: Row, least: float) -> bool:
    """Whether accuracy under one step and under PGD are further apart than they were; true where they are not known."""
    if not all(name in row for row in (before, now) for name in ("one_step_accuracy", "robust_accuracy")):
        return True
    gaps = [row["one_step_accuracy"] - row["robust_accuracy"] for row in (before, now)]
    return gaps[1] > gaps[0] + least


def _alarmed(best: Row, now: Row) -> str:
    text = (
        f"At epoch {now['epoch']:g} the tangents of one-step images have turned away from those of the images: their mean "
        f"cosine is {now['adversarial_cosine']:.2f}, after {best['adversarial_cosine']:.2f} at epoch {best['epoch']:g}."
    )
    if "one_step_accuracy" in now and "robust_accuracy" in now:
        one, more = (f"{100 * best[k]:.0f} to {100 * now[k]:.0f} %" for k in ("one_step_accuracy", "robust_accuracy"))
        text += f" Accuracy under one step went from {one}, under PGD from {more}."
    return (
        text + " Training on one-step images is breaking down: go back to a checkpoint before it and take more attack "
        "steps or a smaller learning rate."
    )


def _dead(rows: Sequence[Row]) -> Advice | None:
    """A kernel of rank one, where only the last bias still moves, or none, where nothing does."""
    first = len(rows)
    while first and not rows[first - 1]["effective_rank"] >= 1.001:
        first -= 1
    if first == len(rows):
        return None
    nothing = not rows[-1]["trace"] > 0
    what = "is zero: no input has any tangent" if nothing else "has rank one: every input has the same tangents"
    return Advice(
        "dead",
        rows[first]["epoch"],
        f"Since epoch {rows[first]['epoch']:g} the kernel {what}, as when all hidden units are off. Go back, lower the "
        "learning rate, or train on clean images first.",
    )


def _movement(rows: Sequence[Row], threshold: float, distance: Tensor | None) -> Advice:
    epochs, speed = [r["epoch"] for r in rows], [r["velocity"] for r in rows]
    since = measures.lazy_epoch(speed, epochs, threshold)
    last = speed[-1]
    if since is None:
        if last < threshold:
            return Advice(
                "moving",
                epochs[-1],
                f"The kernel moved by less than {threshold:g} in the last epoch ({last:.2g}); it stands still when it has "
                "done so for three on end. Train on as you do.",
            )
        return Advice(
            "moving",
            epochs[-1],
            f"The kernel still moves: {last:.2g} in kernel distance an epoch at epoch {epochs[-1]:g}, where standing still "
            f"is less than {threshold:g} for three epochs on end. Train on as you do.",
        )
    if rows[-1]["effective_rank"] < _BEGUN:
        return Advice(
            "plateau",
            since,
            f"Since epoch {since:g} the kernel has moved by less than {threshold:g} an epoch, but its effective rank is "
            f"{rows[-1]['effective_rank']:.2g}: the network has hardly begun to learn. Train on.",
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
