"""Class labels as regression targets, and regression outputs as logits (two classes share one scalar output)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def class_targets(y: Int[Tensor, " n"], classes: int) -> Float[Tensor, "n O"]:
    """Return targets -1 and +1 (one column) for two classes, one-hot targets for more, in float64.

    Args:
        y: class indices, from 0 to classes - 1.
        classes: number of classes.
    """
    if classes == 2:
        return (2.0 * y.to(torch.float64) - 1)[:, None]
    return torch.nn.functional.one_hot(y.long(), classes).to(torch.float64)


def class_logits(outputs: Float[Tensor, "n O"]) -> Float[Tensor, "n classes"]:
    """Return one logit per class: (-f/2, f/2) for one scalar output f, and several outputs as they are.

    The cross-entropy of (-f/2, f/2) is the binary cross-entropy of f.
    """
    return torch.cat([-outputs / 2, outputs / 2], 1) if outputs.shape[1] == 1 else outputs
