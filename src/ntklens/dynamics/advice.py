"""Advice on a training, read off the path of its kernel: it has settled or collapsed, or the training breaks down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from ntklens.dynamics.settling import LEAST_RECORDS, SETTLED, SETTLED_WITHIN, Settling, settling_of

Row = Mapping[str, float]
"""The measures of one record, by name, as `KernelTracker.row` gives them."""

Kind = Literal["moving", "not known yet", "settled", "not learning yet", "collapsed", "catastrophic overfitting"]
"""Kinds of findings; `Advice` explains them."""

_RANK_OF_A_LEARNER = 3.0
"""Effective rank of the kernel from which on a network counts as having begun to learn."""

_RANK_ONE = 1.001
"""Effective rank below which a kernel has rank one to rounding, or is zero."""

_LEARNING_RATES = ("lr", "learning_rate")
"""Names under which a training may record its learning rate."""

_SMALL_STEPS = 0.1
"""Share of the largest learning rate of a training below which its steps have become small."""

_EPOCHS_BEFORE_AN_ALARM = 5
"""Number of epochs, of a network that has begun to learn, that an alarm compares with at least."""


@dataclass(frozen=True)
class Advice:
    """One finding.

    Attributes:
        kind: "moving" (the kernel still changes), "not known yet" (there are too few records, or it has come to rest too
            late in the run to tell), "settled" (`Settling.has_settled`), "not learning yet" (it stands still, and the
            network has hardly begun to learn), "collapsed" (it has rank one or is zero) or "catastrophic overfitting".
        epoch: the epoch from which on it holds.
        text: the finding with its evidence, and what to do about it.
    """

    kind: Kind
    epoch: float
    text: str

    def row(self) -> dict[str, str | float]:
        """Return the columns of a record's table."""
        return {"kind": self.kind, "epoch": self.epoch, "text": self.text}


def advice(
    rows: Sequence[Row],
    threshold: float = 0.01,
    distance: Float[Tensor, "e e"] | None = None,
    *,
    one_step: bool = False,
) -> list[Advice]:
    """Return what the rows of a `KernelTracker` say, alarms first.

    Where the rows have the learning rate, recorded as `lr`, and it ends below a tenth of its largest value, the text says
    that the kernel may stand still because the steps became small.

    Args:
        rows: rows of a tracker, from `KernelTracker.rows`.
        threshold: velocity, in kernel distance per epoch, from which on the kernel counts as moving between two epochs: the
            text for a settled kernel then tells of the noise of the steps. It does not decide what is settled.
        distance: kernel distances between epochs, from `KernelTracker.distance`; with these, the text for a settled kernel
            says how far it has turned since then.
        one_step: whether the training is one on one-step adversarial images; only then `overfitting_alarm` is asked.
    """
    if not rows:
        return []
    collapse = _collapse(rows)
    if collapse is not None:
        return [collapse]
    alarms = overfitting_alarm(rows) if one_step else []
    return [*alarms, _movement(rows, threshold, distance)]


def overfitting_alarm(rows: Sequence[Row], *, window: int = 10, drop: float = 0.05) -> list[Advice]:
    """Return the epochs at which one-step adversarial training begins to break down.

    In catastrophic overfitting (Wong et al. 2020) a network that is trained on one-step adversarial images learns to tell
    them from clean ones, and loses its robustness to attacks with more steps. The tangents of an image and of its one-step
    image, which were similar before, then separate.

    The alarm is raised at an epoch when the mean cosine between them (`adversarial_cosine`) lies more than `drop` below the
    highest of the `window` epochs before. It needs at least five of these epochs at which the kernel has an effective rank
    of 3 or more, that is, at which the network has begun to learn. Where the rows have `one_step_accuracy` and
    `robust_accuracy`, the gap between these must also have grown, by more than `drop`. The alarm is raised once per fall
    of the cosine, and again only after half of `drop` is recovered.

    In other trainings the cosine may fall for other reasons.

    Args:
        rows: rows of a tracker whose `attack` is the one-step attack of the training.
        window: number of earlier epochs to compare with.
        drop: fall of the cosine, and growth of the gap between the accuracies (shares from 0 to 1).
    """
    alarms: list[Advice] = []
    level_before_fall = -math.inf
    for t, now in enumerate(rows):
        past = [r for r in rows[max(0, t - window) : t] if _has_begun(r) and not math.isnan(_cosine(r))]
        if len(past) < _EPOCHS_BEFORE_AN_ALARM:
            continue
        # A fall that has been reported lasts until the cosine is back within half of the drop.
        if _cosine(now) < level_before_fall - drop / 2:
            continue
        level_before_fall = -math.inf
        best = max(past, key=_cosine)
        if _cosine(now) < _cosine(best) - drop and _gap_has_grown(best, now, drop):
            alarms.append(Advice("catastrophic overfitting", now["epoch"], _alarm_text(best, now)))
            level_before_fall = _cosine(best)
    return alarms


def _has_begun(row: Row) -> bool:
    return row["effective_rank"] >= _RANK_OF_A_LEARNER


def _cosine(row: Row) -> float:
    return row.get("adversarial_cosine", math.nan)


def _gap_has_grown(before: Row, now: Row, least: float) -> bool:
    """Whether accuracy under one step and under PGD are further apart than before; true where they are not known."""
    if not all(name in row for row in (before, now) for name in ("one_step_accuracy", "robust_accuracy")):
        return True
    gap_before, gap_now = (row["one_step_accuracy"] - row["robust_accuracy"] for row in (before, now))
    return gap_now > gap_before + least


def _alarm_text(best: Row, now: Row) -> str:
    text = (
        f"At epoch {now['epoch']:g} the tangents of one-step adversarial images have turned away from those of the clean "
        f"images: their mean cosine is {now['adversarial_cosine']:.2f}, after {best['adversarial_cosine']:.2f} at epoch "
        f"{best['epoch']:g}."
    )
    if "one_step_accuracy" in now and "robust_accuracy" in now:
        one_step, pgd = (
            f"from {100 * best[name]:.0f} % to {100 * now[name]:.0f} %"
            for name in ("one_step_accuracy", "robust_accuracy")
        )
        text += f" Accuracy under the one-step attack went {one_step}, and under PGD {pgd}."
    return (
        text + " One-step training is breaking down. Go back to an earlier checkpoint, and use more attack steps or a "
        "smaller learning rate."
    )


def _collapse(rows: Sequence[Row]) -> Advice | None:
    """Find a kernel that has had rank one, where only the last bias still learns, or been zero up to the last record."""
    first = len(rows)
    # "not >=" rather than "<": a rank that is NaN counts too.
    while first and not rows[first - 1]["effective_rank"] >= _RANK_ONE:
        first -= 1
    if first == len(rows):
        return None
    is_zero = not rows[-1]["trace"] > 0
    state = (
        "has been zero: no weight changes any output"
        if is_zero
        else "has had rank one: a training step moves the outputs on all images together"
    )
    return Advice(
        "collapsed",
        rows[first]["epoch"],
        f"Since epoch {rows[first]['epoch']:g} the kernel {state}, as when all hidden units are inactive. Go back to an "
        "earlier checkpoint and lower the learning rate, or train on clean images first.",
    )


def _movement(rows: Sequence[Row], threshold: float, distance: Tensor | None) -> Advice:
    """Say whether the kernel has come to its end, and since when."""
    epochs, velocity = [r["epoch"] for r in rows], rows[-1]["velocity"]
    with_noise = [r.get("distance_with_noise", math.nan) for r in rows]
    path = settling_of([r.get("distance_to_end", math.nan) for r in rows], epochs, with_noise)
    if len(rows) < LEAST_RECORDS:
        return Advice(
            "not known yet",
            epochs[-1],
            f"At epoch {epochs[-1]:g} it is not known yet whether the kernel has settled: it takes {LEAST_RECORDS} "
            f"records, and there {'is 1' if len(rows) == 1 else f'are {len(rows)}'}. Continue the training."
            f"{_start_text(epochs[0])}",
        )
    if path.epoch is None or not path.has_settled:
        return _unsettled(path, rows, threshold)
    since = path.epoch
    # The first record after it, from which on all are settled.
    record = next((t for t, epoch in enumerate(epochs) if epoch >= since), len(epochs) - 1)
    if not _has_begun(rows[-1]):
        return Advice(
            "not learning yet",
            since,
            f"Since epoch {since:.3g} the kernel has hardly come nearer to where it is now, but its effective rank is only "
            f"{rows[-1]['effective_rank']:.2g}: the network has hardly begun to learn. Continue the training."
            f"{_start_text(epochs[0])}",
        )
    turn = "" if distance is None else _turn_text(float(distance[record, -1]), rows[-1], epochs[record])
    noise = (
        f" Between two epochs it still moves by {velocity:.2g}, in kernel distance: that is the noise of the steps, which "
        "a smaller learning rate or larger batches reduce."
        if velocity >= threshold
        else ""
    )
    return Advice(
        "settled",
        since,
        f"The kernel has settled at epoch {since:.3g}: {100 * (1 - SETTLED):.0f} % of its squared way to where it is now "
        f"were done by then, in the centred and normalised kernel.{_start_text(epochs[0])}{turn}{noise}{_steps_text(rows)} "
        f"The rest of the training can be linearised from the weights of now, epoch {epochs[-1]:g}: "
        "ntklens.linearize(network) trains on the kernel as it is now. Earlier weights, those of the settling epoch among "
        "them, may cost accuracy. Early layers can be frozen and cheaper attacks tried; compare the accuracy with that of "
        "this checkpoint.",
    )


def _unsettled(path: Settling, rows: Sequence[Row], threshold: float) -> Advice:
    """Say why a path of enough records does not count as settled."""
    last, velocity = path.epochs[-1], rows[-1]["velocity"]
    start = _start_text(path.epochs[0])
    if path.is_in_time:
        return Advice(
            "moving",
            last,
            f"At epoch {last:g} the kernel still moves: since epoch {path.epoch:.3g} it has come no nearer to where it is "
            f"now, but wanders about it by {100 * path.wander:.0f} % of its squared way from the first record, in the "
            "centred and normalised kernel. A smaller learning rate or larger batches reduce that; continue the training."
            f"{start}",
        )
    rule = (
        f"It counts as settled once {100 * (1 - SETTLED):.0f} % of its squared way to where it is now, in the centred and "
        f"normalised kernel, were done within the first {100 * SETTLED_WITHIN:.0f} % of the run."
    )
    if path.epoch is not None and velocity < threshold:
        return Advice(
            "not known yet",
            last,
            f"At epoch {last:g} the kernel hardly moves, by a kernel distance of {velocity:.2g} in the last epoch, but it "
            f"is not known yet whether it has settled: it came near to where it is now at epoch {path.epoch:.3g}, late in "
            f"the run. {rule} If it stays, that is known at epoch {math.ceil(path.known_from)}.{_steps_text(rows)}{start}",
        )
    return Advice(
        "moving",
        last,
        f"At epoch {last:g} the kernel still moves, by a kernel distance of {velocity:.2g} in the last epoch. {rule} "
        f"Continue the training.{start}",
    )


def _start_text(first: float) -> str:
    """Say from where the way is measured, if that is not the initial network."""
    if first <= 0:
        return ""
    return (
        f" This is measured from epoch {first:g}, the first record: record the initial weights as epoch 0 (for checkpoints "
        "that are watched, save them as epoch_0.pt) to measure from the start."
    )


def _steps_text(rows: Sequence[Row]) -> str:
    """Say that the kernel may stand still because the learning rate, where it is recorded, has become small."""
    for name in _LEARNING_RATES:
        rates = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
        if rates and rates[-1] < _SMALL_STEPS * max(rates):
            return (
                f" The learning rate ({name}) has fallen from {max(rates):.2g} to {rates[-1]:.2g}: the kernel may stand "
                "still because the steps became small, and move again with larger ones."
            )
    return ""


def _turn_text(distance: float, now: Row, since: float) -> str:
    """Say how far the kernel has turned since it settled, and how far since the training began."""
    # distance = 1 - cos(angle); rounding may push it beyond 2.
    angle = math.degrees(math.acos(max(-1.0, 1 - distance)))
    return (
        f" The plain angle of the kernel, another measure, in which the part that all images share and the noise of the "
        f"steps count too, has changed by {angle:.2g}° since epoch {since:g}, and by {math.degrees(now['angle']):.2g}° "
        "since the first record."
    )
