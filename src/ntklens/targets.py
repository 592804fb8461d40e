"""Class labels as regression targets, and regression outputs as logits (two classes share one scalar output)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.errors import InputError


def class_targets(y: Int[Tensor, " n"], classes: int) -> Float[Tensor, "n O"]:
    """Return targets -1 and +1 (one column) for two classes, one-hot targets for more, in float64.

    Args:
        y: class indices, from 0 to classes - 1.
        classes: number of classes.
    """
    if classes == 2:
        return (2.0 * y.to(torch.float64) - 1)[:, None]
    return torch.nn.functional.one_hot(y.long(), classes).to(torch.float64)


def regression_targets(y: Tensor, n: int) -> Float[Tensor, "n O"]:
    """Return the targets of a regression on n inputs, in float64.

    Args:
        y: float targets (n, O), which are used unchanged, or class indices (n,) from 0 on, which become `class_targets`.
        n: number of inputs.

    Raises:
        InputError: the targets do not fit the inputs, are not finite, or are no indices of two or more classes.
    """
    if y.is_floating_point():
        if y.ndim != 2 or len(y) != n:
            raise InputError(f"expected float targets of shape ({n}, outputs); got {tuple(y.shape)}.")
        if not bool(y.isfinite().all()):
            raise InputError("expected finite targets; got some that are NaN or infinite.")
        return y.detach().to(torch.float64)
    if y.dtype == torch.bool or y.is_complex() or y.shape != (n,):
        raise InputError(f"expected {n} class indices, one per input; got {y.dtype} of shape {tuple(y.shape)}.")
    present = torch.unique(y)
    if int(present.min()) < 0 or len(present) < 2:
        raise InputError(
            f"expected class indices from 0 on and at least two classes; got the classes {_listed(present)}."
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
