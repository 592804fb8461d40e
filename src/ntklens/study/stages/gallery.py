"""A few images on which an attack succeeds, for people to look at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ntklens.study.context import Context


def gallery(
    context: Context, right: Tensor, before: Tensor, after: Tensor, found: Tensor
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Images that were right before and are wrong after, the classes taking turns."""
    (x, y), spec, names = context.test, context.threat, context.data.classes
    fooled = torch.nonzero(right & (after != y)).flatten().tolist()
    queues = {c: [i for i in fooled if int(y[i]) == c] for c in range(len(names))}
    turns = [q[k] for k in range(max(map(len, queues.values()), default=0)) for q in queues.values() if k < len(q)]
    chosen = turns[: spec.gallery]
    rows = [
        {
            "index": i,
            "label": names[int(y[i])],
            "prediction": _name(names, int(before[i])),
            "adversarial_prediction": _name(names, int(after[i])),
            "eps": spec.eps,
            "norm": spec.norm,
        }
        for i in chosen
    ]
    return rows, {"gallery_x": x[chosen].cpu().numpy(), "gallery_adv": found[chosen].cpu().numpy()}


def _name(names: tuple[str, ...], index: int) -> str:
    """A class by its name; a victim may know more of them than there are in the data."""
    return names[index] if index < len(names) else f"class {index}"
