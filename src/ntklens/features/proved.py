"""Every feature certified at every image: the lower end of its robustness, of which an attack gives the upper one."""

from __future__ import annotations

import torch
from torch import Tensor

from ntklens.attacks import Threat
from ntklens.bounds import KernelBounds, check_sound
from ntklens.machine import KernelMachine
from ntklens.progress import Parts, Progress, Report

_BATCH = 64
"""Images whose terms are enclosed together."""


def proved(
    machine: KernelMachine,
    vectors: Tensor,
    weights: Tensor,
    x: Tensor,
    clean: Tensor,
    attacked: Tensor,
    threat: Threat,
    *,
    quadratic: bool,
    progress: Report | None = None,
) -> Tensor:
    """Return which features are proved right on every image of a ball: (k, m), bool.

    The outputs of a feature are one scalar, Θ(x, X) v, times its weights: a prediction that is right stays so while the
    scalar keeps its sign.

    Args:
        machine: the machine whose kernel and training inputs are used.
        vectors: (n, k), eigenvectors.
        weights: (k, classes), the factors from a feature's scalar to its outputs.
        x: (m, ...), images within the bounds.
        clean: (k, m), whether a feature is right on the clean image, in float64.
        attacked: (k, m), whether it is right under an attack, in float64: only then a second bound is tried.
        threat: the ball.
        quadratic: try the second bound.
        progress: called with the share of the work that is done.

    Raises:
        NumericalFailure: an attack succeeds where a bound says that none does.
    """
    bounds = KernelBounds(machine.kernel, machine.double_inputs)
    vectors = vectors.to(torch.float64)
    with torch.no_grad():
        signs = machine.expand(vectors, torch.float64)(x.to(torch.float64)).T.sign()
    parts = Parts(Progress(progress), {"linear": 1.0, "quadratic": 9.0})
    lower = torch.empty(2, len(vectors.T), len(x), dtype=torch.float64)
    with parts("linear") as part:
        for start in range(0, len(x), _BATCH):
            batch = slice(start, start + _BATCH)
            found = bounds.linear(x[batch], threat, torch.cat([vectors, -vectors], 1))
            lower[:, :, batch] = found.T.reshape(2, -1, len(found))
            part.step(min(start + _BATCH, len(x)), len(x))
    bound = torch.where(signs > 0, lower[0], lower[1])
    # Where all weights are equal no attack changes the prediction.
    varying = (weights.amax(1) > weights.amin(1))[:, None]
    if quadratic:
        with parts("quadratic") as part:
            open_ = (attacked & varying & ~(bound > 0)).nonzero()
            for done, (feature, image) in enumerate(open_.tolist()):
                column = signs[feature, image] * vectors[:, feature]
                bound[feature, image] = bounds.quadratic(x[image : image + 1], threat, column)[0]
                part.step(done + 1, len(open_))
    # An attack that succeeds brings the scalar to zero, or beyond.
    check_sound(bound, torch.where(clean & ~attacked, 0.0, torch.inf).to(bound))
    return clean & ((bound > 0) | ~varying)
