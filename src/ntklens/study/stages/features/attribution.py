"""Which training images carry the robust and the useful non-robust features."""

from __future__ import annotations

from ntklens.features import NTKFeatures, attribution, class_shares
from ntklens.study.context import Arrays, Context, Rows
from ntklens.vocabulary import FRAGILE, ROBUST

_PICTURED = 6
"""Number of images that are pictured for each category."""
_ARRAY_NAMES = {ROBUST: "robust", FRAGILE: "fragile"}


def label_energy_by_image(
    context: Context, features: NTKFeatures, chosen: dict[str, list[int]]
) -> tuple[dict[str, Rows], Arrays]:
    """Split the label energy of the robust and of the useful non-robust features by class and by training image.

    Args:
        context: of the experiment.
        features: all features.
        chosen: indices of the features of each of the two categories.

    Returns:
        The tables "attribution" (one row per class) and "carriers" (the images with the most energy), and the arrays
        "attribution_*" (n,) and "carriers_*".
    """
    if not any(chosen.values()):
        return {}, {}
    x, y = context.train
    names = context.data.classes
    arrays: Arrays = {}
    by_class: Rows = [{"class": name, "images": int((y == c).sum())} for c, name in enumerate(names)]
    carriers: Rows = []
    for category, array_name in _ARRAY_NAMES.items():
        energy = attribution(features, chosen[category])
        shares = class_shares(energy, y)
        for c, row in enumerate(by_class):
            row[category] = float(shares[c])
        arrays[f"attribution_{array_name}"] = energy.cpu().numpy()
        if chosen[category]:
            top = energy.argsort(descending=True, stable=True)[:_PICTURED].tolist()
            arrays[f"carriers_{array_name}"] = x[top].cpu().numpy()
            carriers += [
                {"features": category, "index": i, "label": names[int(y[i])], "share": float(energy[i])} for i in top
            ]
    return {"attribution": by_class, "carriers": carriers}, arrays
