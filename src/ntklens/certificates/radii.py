"""Certified radii, by bisection: any radius at which a lower bound of the margin is positive is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.attacks import Threat
from ntklens.certificates.margins import Margins
from ntklens.progress import Parts, Progress, Report

_BISECTIONS = 10
"""Halvings of an interval of radii, which leave a part in 1,000 of it."""


def certified_radii(
    margins: Margins,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    wanted: Bool[Tensor, " m"],
    threat: Threat,
    tiers: str,
    progress: Report | None = None,
) -> Float[Tensor, " m"]:
    """Return radii up to which predictions are proved, 0 for images that are not wanted.

    Args:
        margins: of the machine.
        x: images.
        y: classes.
        wanted: images that are predicted right.
        threat: the norm and the bounds of the pixels.
        tiers: "both" or "linear".
        progress: called with the share of the images that are done.
    """
    proved, open_ = torch.zeros(len(x), dtype=torch.float64), wanted.nonzero().flatten()
    largest = threat.bounds[1] - threat.bounds[0]
    if threat.norm == "l2":
        largest *= x[0].numel() ** 0.5 if len(x) else 1.0
    x, y, low = x[open_], y[open_], torch.zeros(len(open_), dtype=torch.float64)
    parts = Parts(Progress(progress), {"linear": 1.0, "quadratic": 9.0})
    with parts("linear") as part:
        low = _bisected(margins.linear, x, y, threat, low, torch.full_like(low, largest), 2 * _BISECTIONS, part)
    if tiers == "both":
        with parts("quadratic") as part:
            # What the second bound proves is seldom more than twice what the first one does.
            high = torch.where(low > 0, 2 * low, threat.eps or largest).clamp(max=largest)
            low = _bisected(margins.quadratic, x, y, threat, low, high, _BISECTIONS, part)
    proved[open_] = low
    return proved


def _bisected(
    bound: Callable[[Tensor, Tensor, Threat, Report | None, Tensor | None], Tensor],
    x: Tensor,
    y: Tensor,
    threat: Threat,
    low: Tensor,
    high: Tensor,
    steps: int,
    progress: Report,
) -> Tensor:
    """Return radii between two, each with a positive bound if the lower one has it: the largest that are met."""
    report = Progress(progress)
    for done in range(steps):
        middle = (low + high) / 2
        holds = bound(x, y, threat, None, middle) > 0
        low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)
        report.step(done + 1, steps)
    return low
