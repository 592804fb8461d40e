"""Class labels as regression targets, and regression outputs as logits (two classes share one scalar output)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ntklens.arguments import as_classes, as_count, as_tensor, check_finite, check_range
from ntklens.errors import InputError


def class_targets(y: Int[Tensor, " n"], classes: int) -> Float[Tensor, "n O"]:
    """Return targets -1 and +1 (one column) for two classes, one-hot targets for more, in float64.

    Args:
        y: class indices, from 0 to classes - 1.
        classes: number of classes.

    Raises:
        InputError: an index outside that range, or fewer than two classes.
    """
    as_count(classes, "the number of classes", least=2)
    check_range(y, classes)
    if classes == 2:
        return (2.0 * y.to(torch.float64) - 1)[:, None]
    return torch.nn.functional.one_hot(y.long(), classes).to(torch.float64)


def class_labels(targets: Float[Tensor, "n O"]) -> Int[Tensor, " n"] | None:
    """Return the class indices that `class_targets` has made targets of; None for other targets.

    Args:
        targets: (n, O), as a machine keeps them.
    """
    labels = (targets[:, 0] > 0).long() if targets.shape[1] == 1 else targets.argmax(1)
    if targets.shape[1] == 2 or not torch.equal(class_targets(labels, max(2, targets.shape[1])), targets):
        return None
    return labels


def regression_targets(y: Tensor | NDArray[Any] | Sequence[int], n: int) -> Float[Tensor, "n O"]:
    """Return the targets of a regression on n inputs, in float64.

    Args:
        y: float targets (n, O), which are used unchanged, or class indices (n,) from 0 on, which become `class_targets`;
            as a tensor, an array or a list.
        n: number of inputs.

    Raises:
        InputError: the targets do not fit the inputs, are not finite, or are no indices of two or more classes.
    """
    y = as_tensor(y, "y").detach()
    if y.is_floating_point():
        if y.ndim != 2 or len(y) != n or not y.shape[1]:
            indices = " For class indices pass whole numbers, y.long()." if y.shape == (n,) else ""
            raise InputError(f"expected y as float targets of shape ({n}, outputs); got {tuple(y.shape)}.{indices}")
        check_finite(y, "y")
        return y.to(torch.float64)
    y = as_classes(y, n)
    present = torch.unique(y)
    if int(present.min()) < 0 or len(present) < 2:
        raise InputError(
            f"expected y as class indices from 0 on, of at least two classes; got the classes {_listed(present)}."
        )
    return class_targets(y, int(present.max()) + 1)


def class_logits(outputs: Float[Tensor, "n O"]) -> Float[Tensor, "n classes"]:
    """Return one logit per class: (-f/2, f/2) for one scalar output f, and several outputs as they are.

    The cross-entropy of (-f/2, f/2) is the binary cross-entropy of f.
    """
    return torch.cat([-outputs / 2, outputs / 2], 1) if outputs.shape[1] == 1 else outputs


def _listed(classes: Tensor, most: int = 5) -> str:
    """Return the first few classes, separated by commas."""
    return ", ".join(map(str, classes[:most].tolist())) + (", ..." if len(classes) > most else "")
