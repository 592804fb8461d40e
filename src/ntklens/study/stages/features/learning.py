"""The order in which a finite network picks up the features (claim C5)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ntklens.features import NTKFeatures, half_learned, over_bands, predicted_share, share_learned
from ntklens.linalg import GradientDescent
from ntklens.networks import Centred, gradient_descent
from ntklens.progress import Progress
from ntklens.statistics import rank_correlation
from ntklens.study.context import Context, Rows
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.lazy.networks import initial_network

_BANDS = (0, 1, 10, 100, 1000)
"""First features of the bands of the spectrum whose learning is followed."""
_LEAST_ENERGY = 0.005
"""Bands with a smaller share of the labels' energy are left out: what is learned of them is noise."""
_RANKED = 50
"""Number of features, those of the most label energy, whose times of learning are compared with their indices."""
_CHECKPOINTS = 13
"""Number of checkpoints, at equal ratios from the first step to the last."""


def learning(context: Context, features: NTKFeatures, spec: FeaturesSpec, progress: Progress) -> dict[str, Rows]:
    """Follow the share of each band of the spectrum in a network's outputs over full-batch gradient descent.

    The learning rate is 1 / λ_1.

    Returns:
        The tables "learning" (one row per checkpoint and band, with the kernel's prediction) and "learning_meta" (the rank
        correlation between a feature's index and the step at which half of it is learned).
    """
    if not spec.learning_steps:
        return {}
    learning_rate = 1 / float(features.eigenvalues[0])
    checkpoints = sorted({round(step) for step in np.geomspace(1, spec.learning_steps, _CHECKPOINTS)})
    x, targets = context.train[0], features.machine.targets
    network: nn.Module = Centred(initial_network(context, spec.learning_width, 0))
    rows: Rows = []
    learned: list[Tensor] = []
    steps_taken = 0
    for step in checkpoints:
        network = gradient_descent(network, x, targets.to(x), steps=step - steps_taken, learning_rate=learning_rate)
        steps_taken = step
        with torch.no_grad():
            learned.append(share_learned(features, network(x)))
        predicted = predicted_share(features, GradientDescent(step, learning_rate))
        by_network, by_kernel = (over_bands(features, shares, _BANDS) for shares in (learned[-1], predicted))
        for (first, last, network_share, energy), (_, _, kernel_share, _) in zip(by_network, by_kernel, strict=True):
            if energy >= _LEAST_ENERGY:
                band = {"step": step, "first": first, "last": last, "label_energy": energy}
                rows.append(band | {"network": network_share, "kernel": kernel_share})
        progress.step(step, spec.learning_steps)
    times = half_learned(torch.stack(learned), checkpoints)
    strongest = features.label_energy.argsort(descending=True)[:_RANKED].cpu().numpy()
    # A feature that is not half learned at the end comes after all others in the order.
    after_the_end = 2.0 * spec.learning_steps
    steps = [float(time) if math.isfinite(float(time)) else after_the_end for time in times[strongest]]
    order = rank_correlation(strongest, steps)
    meta = {"width": spec.learning_width, "learning_rate": learning_rate, **order.row(), "n": order.n}
    return {"learning": rows, "learning_meta": [meta]}
