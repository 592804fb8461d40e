"""What an attack ascends: one value a sample."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log softmax of the true class; for the logits (-f/2, f/2) the binary cross-entropy of f."""
    return F.cross_entropy(logits, y.long(), reduction="none")


def margin(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Logit of the true class minus the largest other; below 0 where the prediction is wrong."""
    index = y.long()[:, None]
    true = logits.gather(1, index)[:, 0]
    others = logits.scatter(1, index, -torch.inf)
    return true - others.max(1).values
