"""What an attack ascends, its gradient, and when the attack has succeeded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.attacks.checks import check_gradient, check_logits
from ntklens.attacks.losses import Loss, cross_entropy
from ntklens.attacks.model import Model, logits_of


@dataclass(frozen=True)
class Objective:
    """The loss of the true class, to be raised; or the loss of a target class, to be lowered.

    Attributes:
        loss: one value per image from its logits and a class.
        targeted: the classes are those to be reached, so the objective is minus their loss.
    """

    loss: Loss = cross_entropy
    targeted: bool = False

    def value(self, logits: Tensor, y: Tensor) -> Tensor:
        """Compute the objective of each image, (n,): larger where the attack has come further."""
        return self.loss(logits, y) * (-1 if self.targeted else 1)

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return whether each prediction is what the attack wants, (n,): a wrong class, or the target."""
        predicted = logits.argmax(1) == y
        return predicted if self.targeted else ~predicted

    def scores(self, model: Model, x: Tensor, y: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Compute `value` and `reached` of each image, without gradients.

        Args:
            model: images to logits.
            x: (n, ...) images.
            y: (n,) their classes, or the targets.
            batch_size: images at a time; all at once by default.
        """
        logits = logits_of(model, x, batch_size)
        check_logits(logits, y)
        return self.value(logits, y), self.reached(logits, y)

    def gradient(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradient of `value` in each image, and `reached` from the same logits.

        The model's own parameters collect no gradient.

        Args:
            model: images to logits.
            x: (n, ...) images.
            y: (n,) their classes, or the targets.

        Raises:
            InputError: logits that do not fit y, or no finite gradient.
        """
        if not len(x):
            return torch.zeros_like(x), torch.zeros_like(
                y, dtype=torch.bool
            )  # a model may return no graph for no images
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = model(x)
            check_logits(logits, y)
            # Images do not see each other, so the gradient of the sum holds the gradient of each.
            value = self.value(logits, y).sum()
            (gradient,) = torch.autograd.grad(value, x, allow_unused=True) if value.requires_grad else (None,)
        return check_gradient(gradient).detach(), self.reached(logits.detach(), y)
