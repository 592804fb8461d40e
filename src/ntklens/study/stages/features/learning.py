"""The order in which a finite network picks up the features (claim C5)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ntklens.features import NTKFeatures, half_learned, over_bands, predicted_share, share_learned
from ntklens.linalg import GradientDescent
from ntklens.networks import Centred, gradient_descent
from ntklens.progress import Progress
from ntklens.statistics import rank_correlation
from ntklens.study.context import Context
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.lazy.networks import initial_network

_BANDS = (0, 1, 10, 100, 1000)
_ENERGY = 0.005
"""Bands with a smaller share of the labels' energy are left out: what is learned of them is noise."""
_RANKED = 50
"""Features, of the most label energy, whose times are compared with their places."""


def learning(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    """Share of each band of the spectrum in a network's outputs over full-batch gradient descent, beside the kernel's.

    The learning rate is 1 / λ_1, and the checkpoints stand at equal ratios from one step to the last.
    """
    if not spec.learning_steps:
        return {}
    rate = 1 / float(features.eigenvalues[0])
    checkpoints = sorted({round(t) for t in np.geomspace(1, spec.learning_steps, 13)})
    x, targets = context.train[0], features.machine.targets
    network: nn.Module = Centred(initial_network(context, spec.learning_width, 0))
    rows, found, done = [], [], 0
    for step in checkpoints:
        network = gradient_descent(network, x, targets.to(x), steps=step - done, learning_rate=rate)
        done = step
        with torch.no_grad():
            found.append(share_learned(features, network(x)))
        expected = predicted_share(features, GradientDescent(step, rate))
        bands = zip(over_bands(features, found[-1], _BANDS), over_bands(features, expected, _BANDS), strict=True)
        for (first, last, seen, energy), (_, _, kernel, _) in bands:
            if energy >= _ENERGY:
                row = {"step": step, "first": first, "last": last, "label_energy": energy}
                rows.append(row | {"network": seen, "kernel": kernel})
        progress(step / spec.learning_steps)
    times = half_learned(torch.stack(found), checkpoints)
    strongest = features.label_energy.argsort(descending=True)[:_RANKED].cpu().numpy()
    late = [float(t) if math.isfinite(float(t)) else 2.0 * spec.learning_steps for t in times[strongest]]
    order = rank_correlation(strongest, late)
    meta = {"width": spec.learning_width, "learning_rate": rate, **order.row(), "n": order.n}
    return {"learning": rows, "learning_meta": [meta]}
