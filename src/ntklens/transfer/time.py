"""The time at which a kernel machine is a trained network's twin, and how alike their gradients are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import Model, correct, fgsm
from ntklens.attacks.model import batches
from ntklens.attacks.objective import Objective
from ntklens.linalg import Filter, GradientFlow
from ntklens.machine import KernelMachine
from ntklens.statistics import Estimate, mean

_TIMES = 33
_FEW_TIMES = 9
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
    theirs = victim(x)
    best: MatchedTime | None = None
    for flow in _times(machine, _TIMES):
        outputs = machine.refilter(flow)(x)
        shared = min(outputs.shape[1], theirs.shape[1])  # of more classes than there are in the data, the first
        ours, theirs = _centred(outputs[:, :shared]), _centred(theirs[:, :shared])
        size = ours.norm() * theirs.norm()
        score = float((ours * theirs).sum() / size) if float(size) > 0 else 0.0
        if best is None or score > best.correlation:
            best = MatchedTime(flow, score, len(x))
    assert best is not None
    return best


@dataclass(frozen=True)
class SearchedTime:
    """The best of a few training times.

    Attributes:
        filter: gradient flow to that time, or the machine's own filter, which is tried too.
        fooled: share of the victim's right predictions that the machine's images of that time fooled.
        queries: images that the victim was asked about; it needs to answer with a class only.
    """

    filter: Filter
    fooled: float
    queries: int

    @property
    def time(self) -> float:
        """t; infinity for the machine's own filter where that is not one of time."""
        return self.filter.time if isinstance(self.filter, GradientFlow) else math.inf


def search_time(
    machine: KernelMachine, victim: Model, x: Float[Tensor, "m *shape"], y: Int[Tensor, " m"], eps: float, norm: str
) -> SearchedTime:
    """Search the training time whose adversarial images fool a victim most, on a few images set aside.

    Outputs that are most alike, as `match_time` asks for, need not share their adversarial directions when the victim is
    not the machine's own lazy network: of a convolutional network the likest machine is a very early, smooth one.

    Args:
        machine: a fitted machine, not on these images; its own filter is one of those tried.
        victim: images to logits.
        x: a few images of the data, such as a hundred.
        y: their classes.
        eps: radius of the attack, one step on the margin.
        norm: "linf" or "l2".
    """
    right = correct(victim, x, y)
    best: SearchedTime | None = None
    flows: list[Filter] = [*_times(machine, _FEW_TIMES), machine.filter]
    for flow in flows:
        found = fgsm(machine.refilter(flow), x, y, eps, norm, loss="margin")
        fooled = float((right & ~correct(victim, found, y)).sum()) / max(1, int(right.sum()))
        if best is None or fooled >= best.fooled:
            best = SearchedTime(flow, fooled, (1 + len(flows)) * len(x))
    assert best is not None
    return best


def _times(machine: KernelMachine, count: int) -> list[GradientFlow]:
    """From before the first feature is learned to after the last one that rounding leaves."""
    values = machine.factorisation.spectrum.eigenvalues
    first, last = -1.0 - float(values[0].log10()), 1.0 - float(values[-1].clamp_min(1e-14 * values[0]).log10())
    return [GradientFlow(10.0**e) for e in torch.linspace(first, last, count, dtype=torch.float64).tolist()]


def _centred(logits: Tensor) -> Tensor:
    logits = logits.to(torch.float64)
    return logits - logits.mean(1, keepdim=True)


def gradient_cosine(a: Model, b: Model, x: Float[Tensor, "n *shape"], y: Int[Tensor, " n"]) -> Estimate:
    """Cosine between two models' input gradients of the cross-entropy: mean over the images, with its 95 % interval."""
    objective = Objective()
    values = []
    for batch in batches(len(x), _BATCH):
        first, second = (objective.gradient(m, x[batch], y[batch])[0].flatten(1).to(torch.float64) for m in (a, b))
        size = first.norm(dim=1) * second.norm(dim=1)
        values.append((first * second).sum(1) / size.clamp_min(1e-300))
    return mean(torch.cat(values).cpu().numpy())
