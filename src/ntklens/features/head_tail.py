"""Head and tail of the spectrum: the first features, chosen on some images to be tested on others, and all the rest.

Features of small eigenvalues are many and weak, and no single one of hundreds can be shown to be useful by the images at
hand. Their sum can. So the spectrum is parted once, at a place that half of the images choose, and the two parts are
scored on the other half, where the choice cannot flatter them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ntklens.arguments import as_tensor, check_generator, shape_of
from ntklens.errors import InputError


def halves(y: Int[Tensor, " m"], generator: torch.Generator) -> Bool[Tensor, " m"]:
    """Draw one half of the images of each class: which ones choose, (m,); the others score the choice.

    Of a class with an odd number of images, the half that chooses has one more.

    Args:
        y: classes of the images.
        generator: source of the draw.

    Example:
        >>> int(halves(torch.tensor([0, 0, 0, 1, 1]), torch.Generator().manual_seed(0)).sum())
        3
    """
    y = as_tensor(y, "y")
    if y.ndim != 1:
        raise InputError(f"expected y as one class per image, (m,); got {shape_of(y)}.")
    check_generator(generator)
    half = torch.zeros_like(y, dtype=torch.bool)
    for c in torch.unique(y):
        members = (y == c).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator).to(y.device)
        half[members[order[: (len(members) + 1) // 2]]] = True
    return half


def best_head(sizes: Sequence[int], right: Bool[Tensor, "k m"]) -> int:
    """Return the number of first features that are right on most images under attack: the smallest one of equals.

    Args:
        sizes: numbers of first features, in ascending order.
        right: on which images the machine of each of these numbers is right under attack, (k, m).

    Raises:
        InputError: no numbers, numbers that do not ascend, or truth values that do not fit them.

    Example:
        >>> best_head([1, 2, 5], torch.tensor([[True, False], [True, True], [True, True]]))
        2
    """
    right = as_tensor(right, "right")
    if not sizes or any(a >= b for a, b in pairwise(sizes)):
        raise InputError(f"expected sizes as at least one number, ascending; got {list(sizes)}.")
    if right.dtype != torch.bool or right.ndim != 2 or len(right) != len(sizes):
        raise InputError(
            f"expected right as truth values ({len(sizes)}, m), a row per size; got {right.dtype} of {shape_of(right)}."
        )
    hits = right.sum(1).tolist()
    return sizes[hits.index(max(hits))]
