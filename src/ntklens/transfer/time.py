"""The time at which a kernel machine is a trained network's twin, and how alike their gradients are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import Model
from ntklens.attacks.ascent import Ascent, batches
from ntklens.linalg import GradientFlow
from ntklens.machine import KernelMachine
from ntklens.statistics import Estimate, mean

_TIMES = 33
_BATCH = 250


@dataclass(frozen=True)
class MatchedTime:
    """The best of a grid of training times.

    Attributes:
        filter: gradient flow to that time.
        correlation: of the two models' centred logits on the images asked, from -1 to 1.
        queries: outputs of the victim that were asked for.
    """

    filter: GradientFlow
    correlation: float
    queries: int


@torch.no_grad()
def match_time(machine: KernelMachine, victim: Model, x: Float[Tensor, "m *shape"]) -> MatchedTime:
    """Search the training time at which the machine's outputs are most like a victim's, from a few of these alone.

    A network trained for a while is described by the machine at its own time, not at t = ∞; for a black box that time is
    unknown. Logits are centred over the classes and compared by their correlation, which no scale changes.

    Args:
        machine: a fitted machine, whatever its filter.
        victim: images to logits.
        x: a few images of the data, such as a hundred.
    """
    theirs = _centred(victim(x))
    values = machine.factorisation.spectrum.eigenvalues
    first, last = -1.0 - float(values[0].log10()), 1.0 - float(values[-1].clamp_min(1e-14 * values[0]).log10())
    best: MatchedTime | None = None
    for exponent in torch.linspace(first, last, _TIMES, dtype=torch.float64).tolist():
        flow = GradientFlow(10.0**exponent)
        ours = _centred(machine.refilter(flow)(x))
        size = ours.norm() * theirs.norm()
        score = float((ours * theirs).sum() / size) if float(size) > 0 else 0.0
        if best is None or score > best.correlation:
            best = MatchedTime(flow, score, len(x))
    assert best is not None
    return best


def _centred(logits: Tensor) -> Tensor:
    logits = logits.to(torch.float64)
    return logits - logits.mean(1, keepdim=True)


def gradient_cosine(a: Model, b: Model, x: Float[Tensor, "n *shape"], y: Int[Tensor, " n"]) -> Estimate:
    """Cosine between two models' input gradients of the cross-entropy: mean over the images, with its 95 % interval."""
    how = Ascent()
    values = []
    for part in batches(len(x), _BATCH):
        first, second = (how.gradient(m, x[part], y[part])[0].flatten(1).to(torch.float64) for m in (a, b))
        size = first.norm(dim=1) * second.norm(dim=1)
        values.append((first * second).sum(1) / size.clamp_min(1e-300))
    return mean(torch.cat(values).cpu().numpy())
