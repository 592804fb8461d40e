"""The losses that an attack can ascend: one value per image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ntklens.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (n, classes), classes (n,)) -> (n,), larger where the prediction is worse."""


def cross_entropy(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Compute -log softmax of the true class; for the logits (-f/2, f/2) it is the binary cross-entropy of f."""
    return F.cross_entropy(logits, y.long(), reduction="none")


def margin(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Compute the logit of the true class minus the largest other logit; it is below 0 where the prediction is wrong.

    For the binary machine's logits (-f/2, f/2) and targets ±1 it is the target times f.
    """
    index = y.long()[:, None]
    true = logits.gather(1, index)[:, 0]
    others = logits.scatter(1, index, -torch.inf)
    return true - others.max(1).values


def negative_margin(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Compute minus the margin, which an attack ascends (Carlini & Wagner 2017)."""
    return -margin(logits, y)


def dlr(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Compute the difference of logits ratio: minus the margin over z(1) - z(3), the largest and third largest logit.

    A scaling of the logits does not change it. Source: Croce & Hein 2020, equation 6.

    Raises:
        InputError: fewer than three classes, for which the ratio is 1 or -1 everywhere.
    """
    if logits.shape[1] < 3:
        raise InputError(
            f'expected at least three classes for the DLR loss; got {logits.shape[1]}. Use loss="margin" for two.'
        )
    ordered = logits.sort(1, descending=True).values
    return -margin(logits, y) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "margin": negative_margin, "dlr": dlr}
"""The losses by name."""


def loss_of(name: str) -> Loss:
    """Return the loss with this name.

    Raises:
        InputError: an unknown name.
    """
    if name not in LOSSES:
        raise InputError(f'expected a loss among {", ".join(LOSSES)}; got "{name}".')
    return LOSSES[name]
