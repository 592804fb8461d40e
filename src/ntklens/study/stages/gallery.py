"""A few images on which an attack succeeds, for people to look at."""

from __future__ import annotations

from torch import Tensor

from ntklens.study.context import Arrays, Context, Rows
from ntklens.study.stages.turns import by_turns


def gallery(context: Context, before: Tensor, after: Tensor, x_adv: Tensor) -> tuple[Rows, Arrays]:
    """Pick test images that were classified right before the attack and wrong after it, the classes taking turns.

    Args:
        context: of the experiment; `attack.gallery` of its spec is the largest number of images.
        before: (n,) predictions on the test images.
        after: (n,) predictions on the attacked images.
        x_adv: (n, C, H, W) attacked images.
    """
    threat, names = context.threat, context.data.classes
    x, y = context.test
    fooled = (before == y) & (after != y)
    chosen = by_turns(y, threat.gallery, fooled)
    rows = [
        {
            "index": i,
            "label": names[int(y[i])],
            "prediction": _class_name(names, int(before[i])),
            "adversarial_prediction": _class_name(names, int(after[i])),
            "eps": threat.eps,
            "norm": threat.norm,
        }
        for i in chosen
    ]
    return rows, {"gallery_x": x[chosen].cpu().numpy(), "gallery_adv": x_adv[chosen].cpu().numpy()}


def _class_name(names: tuple[str, ...], index: int) -> str:
    """Return the name of a class; a victim may know more classes than the data have."""
    return names[index] if index < len(names) else f"class {index}"
