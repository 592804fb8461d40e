"""Backdoor audit: how many bad training images does it take before a trigger decides the class?

A backdoor is a trigger, such as a patch, that makes a model predict a chosen class wherever it is seen, while its accuracy
on clean images stays what it was. Whoever can add images to a training set can plant one; Hayase & Oh (2023) choose them
through the NTK. The audit plants one in a copy of a machine, image by image, and counts. It returns figures, not images.

Adding the training image p with the target y_p to a ridge machine changes its outputs by

    f_new(x) = f(x) + a_p (Θ(x, p) - Θ(x, X) e),   e = A⁻¹ Θ(X, p),   a_p = (y_p - βᵀ Θ(X, p)) / D,
    D = Θ(p, p) + ρ - Θ(p, X) e,   A = Θ(X, X) + ρ I,   β = A⁻¹ Y,

so that all candidates are compared at the cost of one solution. The one that brings all candidates with the trigger nearest
to the chosen class joins the training set, and so on; the figures are of other images, which have chosen nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_classes, as_count, as_number, as_tensor, check_range
from ntklens.attacks.checks import check_attack, check_images
from ntklens.audits.checks import classes_of
from ntklens.errors import InputError
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, proportion
from ntklens.targets import class_targets

_LEAST_RIDGE = 1e-6
"""Ridge, over λ_1, with which candidates are compared where the machine has a smaller one or another filter."""
_BLOCK = 64
"""Candidates whose outputs on all images are held together."""


@dataclass(frozen=True)
class BackdoorAudit:
    """What each number of bad training images does.

    Attributes:
        success: for 0, 1, 2, ... bad images, the share of triggered held-out images of other classes that are predicted as
            the target class.
        accuracy: the accuracy on clean held-out images of all classes.
        chosen: positions of the candidates that were added, in order.
        target: the class that the trigger stands for.
        training: number of clean training images.
    """

    success: tuple[Estimate, ...]
    accuracy: tuple[Estimate, ...]
    chosen: tuple[int, ...]
    target: int
    training: int

    def needed(self, share: float = 0.9) -> int | None:
        """Return the fewest bad images with which this share of triggered images succeeds; None if no number does.

        The images are chosen one after the other, so that others may do with fewer.
        """
        share = as_number(share, "share")
        if not 0 < share <= 1:
            raise InputError(f"expected share above 0 and up to 1; got {share}.")
        return next((count for count, e in enumerate(self.success) if e.value >= share), None)

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per number of bad images, for tables and JSON."""
        return [
            {"bad_images": count, **success.row("success"), **accuracy.row("accuracy")}
            for count, (success, accuracy) in enumerate(zip(self.success, self.accuracy, strict=True))
        ]

    def __repr__(self) -> str:
        needed = self.needed()
        tried = len(self.success) - 1
        number = tried if needed is None else needed
        found = "are not enough for 90 % success" if needed is None else "are enough for 90 % success"
        return f"BackdoorAudit(class {self.target}: {number:,} bad of {self.training + number:,} images {found})"


def backdoor_audit(
    machine: KernelMachine,
    trigger: Callable[[Tensor], Tensor],
    candidates: Float[Tensor, "c *shape"],
    target: int,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    *,
    count: int = 3,
    progress: Report | None = None,
) -> BackdoorAudit:
    """Count how many triggered images, labelled as the target class, plant a backdoor in a machine.

    After each addition a machine with the same filter is fitted on the training images and the bad ones, so that the
    figures are of that machine. The data that is audited is your own: the result has no images.

    Args:
        machine: a machine fitted on class indices.
        trigger: puts the trigger on images, such as a patch in a corner; within [0, 1].
        candidates: clean images of other classes, which get the trigger and the target class as their label.
        target: the class that the trigger shall stand for.
        x: held-out images, neither training images nor candidates.
        y: their classes.
        count: number of bad images to add, one after the other.
        progress: called with the share of them that are added.

    Raises:
        InputError: arguments that do not fit.
    """
    labels = classes_of(machine)
    classes = max(2, machine.targets.shape[1])
    target = int(as_classes(torch.tensor([as_count(target, "target", least=0)]), 1)[0])
    check_range(torch.tensor([target]), classes)
    count = as_count(count, "count")
    x, y = check_attack(x, y, (0, 1))
    check_range(y, classes)
    others = y != target
    if not bool(others.any()):
        raise InputError(f"expected x with images of other classes than the target {target}; got none.")
    if not callable(trigger):
        raise InputError(f"expected trigger as a function of images; got {type(trigger).__name__}.")
    bad = _triggered(trigger, check_images(candidates, (0, 1), "candidates"))
    if len(bad) < count:
        raise InputError(f"expected at least {count} candidates, as many as are to be added; got {len(bad)}.")
    machine.checked(bad)
    tested = _triggered(trigger, x[others])
    report = Progress(progress)
    chosen: list[int] = []
    current, success, accuracy = machine, [], []
    for step in range(count + 1):
        predicted = current.predict(tested)
        success.append(proportion(int((predicted == target).sum()), len(tested)))
        accuracy.append(proportion(int((current.predict(x) == y).sum()), len(x)))
        if step == count:
            break
        best = _best(current, bad, target, classes, tested=bad, exclude=chosen)
        chosen.append(best)
        inputs = torch.cat([current.train_inputs, bad[best : best + 1].to(current.train_inputs)])
        labels = torch.cat([labels, torch.tensor([target])])
        # Named targets, because the labels alone could lack the last class.
        current = KernelMachine(machine.kernel, machine.filter, arithmetic=machine.arithmetic).fit(
            inputs, class_targets(labels, classes)
        )
        report.step(step + 1, count)
    return BackdoorAudit(tuple(success), tuple(accuracy), tuple(chosen), target, len(machine.train_inputs))


def _best(machine: KernelMachine, bad: Tensor, target: int, classes: int, tested: Tensor, exclude: list[int]) -> int:
    """Return the candidate whose addition brings some triggered images, `tested`, nearest to the target class."""
    factors = machine.factorisation
    rho = machine.filter.rho if isinstance(machine.filter, Ridge) else 0.0
    rho = max(rho, _LEAST_RIDGE * factors.largest)
    train, kernel = machine.double_inputs, machine.kernel
    points = bad.to(torch.float64)
    y_p = class_targets(torch.full((1,), target), classes)[0]  # (O,)
    beta = factors.apply(Ridge(rho), machine.targets)  # (n, O)
    k = kernel(train, points)  # (n, c)
    e = factors.apply(Ridge(rho), k)
    d = kernel.diagonal(points) + rho - (k * e).sum(0)
    steps = (y_p - k.T @ beta) / d[:, None]  # (c, O)
    z = tested.to(torch.float64)
    across = kernel(z, train)  # (m, n)
    moved = kernel(z, points) - across @ e  # (m, c)
    before, losses = across @ beta, []
    for start in range(0, len(points), _BLOCK):
        block = slice(start, start + _BLOCK)
        outputs = before[:, None] + moved[:, block, None] * steps[block]  # (m, c, O)
        if outputs.shape[2] == 1:
            margin = outputs[..., 0] * (1.0 if target else -1.0)
        else:
            own = outputs[..., target].clone()
            outputs[..., target] = -torch.inf
            margin = own - outputs.amax(2)
        losses.append((margin - 1).clamp(max=0.0).square().sum(0))
    loss = torch.cat(losses)
    loss[exclude] = torch.inf
    return int(loss.argmin())


def _triggered(trigger: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    result = as_tensor(trigger(x), "the images of the trigger")
    if result.shape != x.shape:
        raise InputError(
            f"expected trigger to return images of shape {tuple(x.shape)}, as it was given; got {tuple(result.shape)}."
        )
    return check_images(result, (0, 1), "the images of the trigger")
