"""An audit of one's own training data: the images it needs, one of three audits, and finite networks beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ntklens.audits import (
    Patch,
    backdoor_audit,
    unlearnable_audit,
)
from ntklens.data import Dataset
from ntklens.errors import InputError
from ntklens.features import shortcut_audit
from ntklens.features.eigenfeatures import eigenfeatures
from ntklens.linalg import Band, Filter, Ridge, inverts
from ntklens.machine import KernelMachine
from ntklens.machine.matrix import DENSE
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, proportion
from ntklens.study.audit_networks import Networks, Test, Training
from ntklens.study.context import Context
from ntklens.targets import class_targets

Kind = Literal["shortcut", "backdoor", "unlearnable"]

_TRAIN = 1000
"""Training images, and held-out ones, where no number is given and there are as many."""
_DROPPED = 3
"""Features of the largest shares that a machine is repaired without."""


@dataclass(frozen=True)
class Plan:
    """What is audited.

    Attributes:
        kind: which audit.
        train: number of training images; 1,000, or two thirds of what is there, by default.
        held_out: number of held-out images, those after the training images; up to 1,000 by default.
        filter: of the machine.
        top: leading features that the machine keeps; in the unlearnable audit, those of one more machine that is scored.
        patch: the trigger, or the attribute.
        target: class that the patch stands for, by name or index; the last one by default.
        planted: share of the training images in which the patch is set as their class says; None plants nothing.
        bad: number of bad images.
        steps: steps of the perturbation; its radius is in the experiment's description.
        networks: names of finite networks that are trained.
        seeds: trainings of each.
        width: hidden units or channels of an architecture.
        epochs: epochs of each training.
    """

    kind: Kind
    train: int | None = None
    held_out: int | None = None
    filter: Filter = field(default_factory=Ridge)
    top: int | None = None
    patch: Patch = field(default_factory=Patch)
    target: str | None = None
    planted: float | None = None
    bad: int = 3
    steps: int = 8
    networks: tuple[str, ...] = ()
    seeds: int = 3
    width: int | None = None
    epochs: int = 60


@dataclass(frozen=True)
class Audited:
    """What an audit has found.

    Attributes:
        facts: the figures that are not in rows.
        rows: a line per feature, number of bad images, or filter.
        network_rows: lines of the finite networks.
        images: (n, C, H, W), the perturbed training images of the unlearnable audit.
        labels: (n,), their classes.
    """

    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    network_rows: list[dict[str, Any]]
    images: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class _Found:
    """An audit of a machine, and what networks are trained and scored on.

    Attributes:
        facts: as of `Audited`.
        rows: likewise.
        trainings: as in `Networks.rows`.
        tests: likewise.
        difference: likewise.
        images: the perturbed training images.
    """

    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    trainings: list[Training]
    tests: list[Test]
    difference: tuple[int, int, str] | None = None
    images: Tensor | None = None


class Audit:
    """One audit: its images are split, its machine is fitted, and it is run.

    Args:
        context: the experiment, whose training images are all that the data set has.
        plan: what is audited.

    Raises:
        InputError: numbers of images that the data do not have, an unknown class, a network that does not load, or an
            audit without an answer, such as of one class.
    """

    def __init__(self, context: Context, plan: Plan) -> None:
        self.context, self.plan = context, plan
        data: Dataset = context.data
        self.classes = len(data.classes)
        if self.classes < 2:
            raise InputError(
                "expected data with images of two or more classes; got one class, which leaves nothing to predict."
            )
        if not len(data.test):
            raise InputError("expected data with test images to audit with; got none.")
        train, held_out = _numbers(plan, len(data.train))
        if train > DENSE:
            raise InputError(
                f"--train: expected up to {DENSE:,} training images, whose matrix is kept whole; got {train:,}."
            )
        self.x, self.y = data.train.x[:train], data.train.y[:train]
        if len(torch.unique(self.y)) < 2:
            raise InputError(
                f"expected training images of two or more classes; got {train} of one. Give more by --train."
            )
        self.x_held, self.y_held = data.train.x[train : train + held_out], data.train.y[train : train + held_out]
        self.x_test, self.y_test = data.test.x, data.test.y
        self.target = self.classes - 1 if plan.target is None else _class(data, plan.target)
        if plan.top is not None and plan.top > train:
            raise InputError(f"--top: expected 1 to {train} features, one per training image; got {plan.top}.")
        if plan.kind == "backdoor":
            others = int((self.y_held != self.target).sum())
            if plan.bad > others:
                raise InputError(
                    f"--bad: expected at most {others}, the held-out images of other classes than "
                    f"{data.classes[self.target]}; got {plan.bad}. Give more by --held-out."
                )
        if plan.kind != "unlearnable":
            plan.patch(self.x_test)  # which refuses a patch that does not fit
            if not bool((self.y_test != self.target).any()):
                raise InputError(f"expected test images of other classes than {data.classes[self.target]}; got none.")
        self._networks = Networks(context, plan.networks, plan.width, plan.seeds, plan.epochs)

    @property
    def target_name(self) -> str:
        """Name of the class that the patch stands for."""
        return self.context.data.classes[self.target]

    def run(self, machine_progress: Report, audit_progress: Report, network_progress: Report) -> Audited:
        """Fit the machine, audit it, and train the networks."""
        work = {"shortcut": self._shortcut, "backdoor": self._backdoor, "unlearnable": self._unlearnable}
        found: _Found = work[self.plan.kind](machine_progress, audit_progress)
        facts = {"n": len(self.x), "held_out": len(self.x_held), "test": len(self.x_test)} | found.facts
        rows = self._networks.rows(found.trainings, found.tests, found.difference, Progress(network_progress))
        return Audited(facts, found.rows, rows, found.images, None if found.images is None else self.y)

    @cached_property
    def _planted(self) -> tuple[Tensor, Tensor | None]:
        """The training images, and whether each has the planted patch; None where none is planted."""
        share = self.plan.planted
        if share is None:
            return self.x, None
        order = torch.randperm(len(self.y), generator=torch.Generator().manual_seed(self.context.spec.seed))
        agrees = torch.zeros(len(self.y), dtype=torch.bool)
        agrees[order[: round(share * len(self.y))]] = True
        has_patch = (self.y == self.target) == agrees
        return self._with_patch(self.x, has_patch), has_patch

    def _with_patch(self, x: Tensor, where: Tensor) -> Tensor:
        return torch.where(where[:, None, None, None], self.plan.patch(x), x)

    def _machine(self, x: Tensor, progress: Report, *, top: bool = True) -> KernelMachine:
        """Return the machine of the plan on some training images; without `top`, that of its filter alone."""
        targets = class_targets(self.y, self.classes)  # not of the labels, which may lack the last class
        progress(0.0)
        machine = KernelMachine(self.context.kernel(), self.plan.filter).fit(x, targets)
        if top and self.plan.top is not None:
            machine = eigenfeatures(machine, self.plan.top).keep(range(self.plan.top))
        progress(1.0)
        return machine

    def _shortcut(self, machine_progress: Report, progress: Report) -> _Found:
        x, has_patch = self._planted
        machine = self._machine(x, machine_progress)
        attribute = None if has_patch is None else 2.0 * has_patch - 1
        of = self.y_test == self.target
        aligned, conflicting = self._with_patch(self.x_test, of), self._with_patch(self.x_test, ~of)
        of_held = self.y_held == self.target
        report = Progress(progress)
        found = shortcut_audit(
            machine, aligned, conflicting, self.y_test, attribute=attribute, progress=report.part(0.0, 0.5)
        )
        # What is left out is chosen on images that the repaired machine is not scored on.
        held = self._with_patch(self.x_held, of_held), self._with_patch(self.x_held, ~of_held)
        chosen = shortcut_audit(machine, *held, self.y_held, progress=report.part(0.5, 0.5))
        facts: dict[str, Any] = {
            "planted": self.plan.planted,
            **_right(machine, aligned, self.y_test).row("aligned"),
            **_right(machine, conflicting, self.y_test).row("conflicting"),
            **found.gap.row("gap"),
            "has_gap": found.has_gap,
        }
        if found.has_gap and chosen.has_gap:
            count = min(_DROPPED, len(self.x))
            repaired = chosen.without(count)
            facts |= {
                "without": [row["feature"] for row in chosen.rows(count)],
                **_right(repaired, aligned, self.y_test).row("repaired_aligned"),
                **_right(repaired, conflicting, self.y_test).row("repaired_conflicting"),
            }
        tests = [("aligned", aligned, self.y_test), ("conflicting", conflicting, self.y_test)]
        return _Found(facts, found.rows(), [({}, x, self.y)], tests)

    def _backdoor(self, machine_progress: Report, progress: Report) -> _Found:
        machine = self._machine(self.x, machine_progress)
        candidates = self.x_held[self.y_held != self.target]
        found = backdoor_audit(
            machine,
            self.plan.patch,
            candidates,
            self.target,
            self.x_test,
            self.y_test,
            count=self.plan.bad,
            progress=progress,
        )
        triggered = self.plan.patch(self.x_test[self.y_test != self.target])
        bad = self.plan.patch(candidates)[list(found.chosen)]
        trainings = [
            (
                {"bad_images": count},
                torch.cat([self.x, bad[:count]]),
                torch.cat([self.y, torch.full((count,), self.target)]),
            )
            for count in sorted({0, 1, self.plan.bad})
        ]
        tests = [
            ("success", triggered, torch.full((len(triggered),), self.target)),
            ("accuracy", self.x_test, self.y_test),
        ]
        return _Found({"needed": found.needed()}, found.rows(), trainings, tests)

    def _unlearnable(self, machine_progress: Report, progress: Report) -> _Found:
        machine = self._machine(self.x, machine_progress, top=False)
        more: list[Filter] = [] if self.plan.top is None else [Band(range(self.plan.top))]
        names = [_label(machine.filter), *(f"top {self.plan.top}" for _ in more)]
        found = unlearnable_audit(
            machine,
            self.x_test,
            self.y_test,
            self.context.threat.eps,
            held_out=(self.x_held, self.y_held),
            generator=torch.Generator().manual_seed(self.context.spec.seed),
            steps=self.plan.steps,
            filters=[machine.filter, *more],
            keep_images=True,
            progress=progress,
        )
        assert found.images is not None
        assert found.noisy is not None
        images = {"clean": self.x, "noise": found.noisy, "perturbed": found.images}
        facts = {
            "eps": found.eps,
            "steps": self.plan.steps,
            "largest_eigenvalue": machine.factorisation.largest,
            "losses": list(found.losses),
        }
        trainings: list[Training] = [({"training_images": name}, x, self.y) for name, x in images.items()]
        tests = [("accuracy", self.x_test, self.y_test)]
        rows = [{"machine": name} | row for name, row in zip(names, found.rows(), strict=True)]
        for row in rows:
            del row["filter"]
        return _Found(facts, rows, trainings, tests, (1, 2, "cost"), found.images)


def _label(g: Filter) -> str:
    """Return what a machine of this filter is called in tables."""
    if inverts(g):
        return "all features"
    return f"ridge {g.rho:g}" if isinstance(g, Ridge) else f"time {getattr(g, 'time', g)}"


def _right(machine: KernelMachine, x: Tensor, y: Tensor) -> Estimate:
    return proportion(int((machine.predict(x) == y).sum()), len(y))


def _numbers(plan: Plan, available: int) -> tuple[int, int]:
    """Return the numbers of training and held-out images."""
    if available < 3:
        raise InputError(
            f"expected data with three or more training images, some of them to hold out; got {available}."
        )
    if plan.train is not None and plan.train >= available:
        raise InputError(
            f"--train: expected 2 to {available - 1} of the {available} training images, so that some are left to hold "
            f"out; got {plan.train}."
        )
    spare = available - (plan.held_out or 0)
    if plan.held_out is not None and (spare < 2 or (plan.train is not None and plan.held_out > available - plan.train)):
        most = available - (plan.train or 2)
        raise InputError(
            f"--held-out: expected 1 to {most} of the {available} training images beside those that are trained on; got "
            f"{plan.held_out}."
        )
    train = plan.train or max(2, min(_TRAIN, spare, available * 2 // 3 if plan.held_out is None else spare))
    return train, plan.held_out or min(_TRAIN, available - train)


def _class(data: Dataset, text: str) -> int:
    """Return the place of a class that is given by name, or by its index among all classes of the data set."""
    if text in data.classes:
        return data.classes.index(text)
    indices: Sequence[int] = range(len(data.classes)) if data.chosen is None else data.chosen
    if text.isdecimal() and int(text) in indices:
        return list(indices).index(int(text))
    raise InputError(f'--target: expected one of the classes {", ".join(data.classes)}; got "{text}".')
