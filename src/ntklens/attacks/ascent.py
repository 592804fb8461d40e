"""The loop of the gradient attacks: gradient, step, projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.attacks import balls, inputs
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_gradient, check_logits
from ntklens.attacks.losses import Loss, cross_entropy

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ascent:
    """How an attack climbs.

    Attributes:
        loss: what is ascended.
        targeted: the classes are those to be reached: the loss is descended.
        norm: "linf" or "l2".
        steps: number of steps.
        bounds: lowest and highest pixel value.
        momentum: factor of the gradients before (Dong et al. 2018); 0 without.
        diversity: probability of an image to be shrunk and moved.
        translation: side of the window that smooths the gradient; 0 without.
        early_stop: leave an image as soon as it is misclassified (or in its target class).
    """

    loss: Loss = cross_entropy
    targeted: bool = False
    norm: str = "linf"
    steps: int = 1
    bounds: Bounds = (0, 1)
    momentum: float = 0.0
    diversity: float = 0.0
    translation: int = 0
    early_stop: bool = False

    def climb(
        self, model: Model, x: Tensor, y: Tensor, start: Tensor, eps: float, step: float, numbers: Tensor | None
    ) -> Tensor:
        """Images of the ball of radius eps around x.

        Args:
            model: images to logits.
            x: (n, ...) the clean images.
            y: (n,) their classes, or the targets.
            start: where to begin.
            eps: radius.
            step: length of a step.
            numbers: (steps, n, 4) for the diversity of inputs.
        """
        found = start.clone()
        x_adv, memory, rows = start, torch.zeros_like(x), None
        for number in range(self.steps):
            u = (
                None
                if numbers is None
                else numbers[number]
                if rows is None
                else numbers[number][rows.to(numbers.device)]
            )
            gradient, fooled = self.gradient(model, x_adv, y, u)
            if self.early_stop:
                if u is not None:
                    _, fooled = self.scores(model, x_adv, y, None)
                if bool(fooled.any()):
                    left = torch.nonzero(~fooled).flatten()
                    found[slice(None) if rows is None else rows] = x_adv
                    rows = left if rows is None else rows[left]
                    x_adv, x, y, gradient, memory = (t[left] for t in (x_adv, x, y, gradient, memory))
                    if not len(left):
                        return found
            if self.momentum:
                size = gradient.flatten(1).abs().sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
                memory = gradient = self.momentum * memory + gradient / size.reshape(-1, *[1] * (x.ndim - 1))
            x_adv = balls.project(x_adv + step * balls.ascend(gradient, self.norm), x, eps, self.norm, self.bounds)
        if rows is None:
            return x_adv
        found[rows] = x_adv
        return found

    def gradient(self, model: Model, x: Tensor, y: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The direction that the loss grows in, and whether the images shown are where the attack wants them.

        The model's own parameters collect nothing.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            shown = x if numbers is None else inputs.diverse(x, self.diversity, numbers)
            logits = model(shown)
            check_logits(logits, y)
            loss = self.loss(logits, y).sum() * (-1 if self.targeted else 1)
            (gradient,) = torch.autograd.grad(loss, x, allow_unused=True) if loss.requires_grad else (None,)
        gradient = check_gradient(gradient).detach()
        if self.translation:
            gradient = inputs.translated(gradient, self.translation)
        return gradient, self.reached(logits.detach(), y)

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """Whether predictions are what the attack wants: (n,)."""
        hit = logits.argmax(1) == y
        return hit if self.targeted else ~hit

    @torch.no_grad()
    def scores(self, model: Model, x: Tensor, y: Tensor, batch_size: int | None) -> tuple[Tensor, Tensor]:
        """How far each image has come, and whether it is where the attack wants it."""
        logits = torch.cat([model(x[part]) for part in batches(len(x), batch_size)])
        check_logits(logits, y)
        return self.loss(logits, y) * (-1 if self.targeted else 1), self.reached(logits, y)


def batches(n: int, batch_size: int | None) -> Iterator[slice]:
    """Slices that cover n images; one empty slice when there are none."""
    size = max(n, 1) if batch_size is None else batch_size
    for start in range(0, max(n, 1), size):
        yield slice(start, start + size)
