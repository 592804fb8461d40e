"""A choice of images in which all classes are represented as evenly as their numbers allow."""

from __future__ import annotations

import torch
from torch import Tensor


def by_turns(y: Tensor, count: int, eligible: Tensor | None = None) -> list[int]:
    """Return the indices of the first images of each class, the classes taking turns: one of each, then a second of each.

    Args:
        y: (n,) classes of the images.
        count: largest number of images.
        eligible: (n,), which images may be chosen; all of them by default.

    Example:
        >>> by_turns(torch.tensor([0, 0, 0, 1, 2]), 4)
        [0, 3, 4, 1]
    """
    allowed = torch.ones_like(y, dtype=torch.bool) if eligible is None else eligible
    queues = [((y == c) & allowed).nonzero().flatten().tolist() for c in torch.unique(y)]
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)][:count]
