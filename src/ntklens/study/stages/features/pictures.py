"""What features look at, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.features import NTKFeatures
from ntklens.study.context import Context
from ntklens.study.spec import FeaturesSpec


def pictures(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, scores: list[dict[str, Any]]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, NDArray[Any]]]:
    """Gradient images of chosen features at the first test images of each class in turn, and of many at the first one."""
    x, y = context.test
    columns = in_turn(y, spec.images)
    rows = [i for i in spec.pictured if i < len(scores)]
    images, labels = x[columns], y[columns]
    grid = np.stack([features.picture(images, i, labels).cpu().numpy() for i in rows])
    tables = {
        "picture_rows": [{k: scores[i][k] for k in ("index", "usefulness", "robustness")} for i in rows],
        "picture_columns": [{"index": c, "label": context.data.classes[int(y[c])]} for c in columns],
    }
    arrays = {"picture_images": images.cpu().numpy(), "pictures": grid}
    frames = sorted({round(v) for v in np.geomspace(1, len(scores), spec.frames)}) if spec.frames else []
    if frames:
        shown = [features.picture(images[:1], i - 1, labels[:1])[0].cpu().numpy() for i in frames]
        arrays["frames"] = np.stack(shown)
        tables["frames"] = [{k: scores[i - 1][k] for k in ("index", "usefulness", "robustness")} for i in frames]
    return tables, arrays


def in_turn(y: Tensor, count: int) -> list[int]:
    """The first images by their classes (n,), the classes taking turns."""
    turns = [(y == c).nonzero().flatten().tolist() for c in torch.unique(y)]
    return [q[r] for r in range(max(map(len, turns))) for q in turns if r < len(q)][:count]
