"""What features look at, image by image."""

from __future__ import annotations

import numpy as np

from ntklens.features import NTKFeatures
from ntklens.study.context import Arrays, Context, Rows
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.turns import by_turns

_COLUMNS = ("index", "usefulness", "robustness")


def pictures(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, scored: Rows, head: int | None = None
) -> tuple[dict[str, Rows], Arrays]:
    """Picture chosen features at the first test images of each class, and many features at one image for an animation.

    Args:
        context: of the experiment.
        features: all features.
        spec: which features, how many images, and how many frames.
        scored: the table "features".
        head: number of first features that are the head; None where there is no head and no tail.

    Returns:
        The tables "picture_rows", "picture_columns" and "frames", and the arrays "picture_images" (m, C, H, W),
        "pictures" (features, m, C, H, W), "frames" (frames, C, H, W), and "head_and_tail" (2, m, C, H, W), the gradients of
        the machines of the head's and of the tail's features.
    """
    x, y = context.test
    images = by_turns(y, spec.images)
    indices = [i for i in spec.pictured if i < len(scored)]
    grid = [features.picture(x[images], i, y[images]).cpu().numpy() for i in indices]
    tables: dict[str, Rows] = {
        "picture_rows": [{column: scored[i][column] for column in _COLUMNS} for i in indices],
        "picture_columns": [{"index": j, "label": context.data.classes[int(y[j])]} for j in images],
    }
    arrays: Arrays = {"picture_images": x[images].cpu().numpy(), "pictures": np.stack(grid)}
    if head is not None:
        halves = (range(head), range(head, features.rank))
        arrays["head_and_tail"] = np.stack([features.picture(x[images], i, y[images]).cpu().numpy() for i in halves])
    if spec.frames:
        # Frames stand at equal ratios of the place, from the first feature to the last scored one.
        frames = sorted({round(place) - 1 for place in np.geomspace(1, len(scored), spec.frames)})
        first = images[:1]
        gradients = [features.picture(x[first], i, y[first])[0].cpu().numpy() for i in frames]
        arrays["frames"] = np.stack(gradients)
        tables["frames"] = [{column: scored[i][column] for column in _COLUMNS} for i in frames]
    return tables, arrays
