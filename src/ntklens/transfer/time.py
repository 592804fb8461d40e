"""The training time at which a kernel machine resembles a trained network, and how alike their gradients are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import Model, correct, fgsm
from ntklens.attacks.model import batches
from ntklens.attacks.objective import Objective
from ntklens.errors import InputError
from ntklens.linalg import CrossEntropy, Filter, GradientFlow
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, mean

_MATCHED_TIMES = 33
"""Times that `match_time` compares."""
_SEARCHED_TIMES = 9
"""Times that `search_time` tries; each of them costs queries of the victim."""
CROSS_ENTROPY_TIMES = (1e2, 3e2, 1e3, 3e3, 1e4)
"""Times, times λ_1, that it tries of machines trained on the cross-entropy."""
_BATCH = 250
"""Images whose gradients are compared at a time."""


@dataclass(frozen=True)
class MatchedTime:
    """The time, of a grid of training times, at which a machine's outputs are most like a victim's.

    Attributes:
        filter: gradient flow to that time.
        correlation: correlation of the two models' centred logits on the images, from -1 to 1.
        queries: number of outputs that the victim was asked for.
    """

    filter: GradientFlow
    correlation: float
    queries: int


@torch.no_grad()
def match_time(
    machine: KernelMachine, victim: Model, x: Float[Tensor, "m *shape"], *, progress: Report | None = None
) -> MatchedTime:
    """Find the training time at which the machine's outputs are most like a victim's, from a few of these outputs.

    A network that was trained for a while is described by the machine at its own time, not at t = ∞; for a black box that
    time is unknown. Logits are centred over the classes and compared by their correlation, which no scale changes.

    Args:
        machine: a fitted machine, with any filter.
        victim: images to logits.
        x: a few images of the data, such as a hundred.
        progress: called with the share of the times that is compared, from 0 to 1.
    """
    victim_logits = victim(x)
    best: MatchedTime | None = None
    for done, flow in enumerate(_times(machine, _MATCHED_TIMES), 1):
        logits = machine.refilter(flow)(x)
        # A victim may know more classes than the data have; the first ones are those of the data.
        shared = min(logits.shape[1], victim_logits.shape[1])
        correlation = _correlation(_centred(logits[:, :shared]), _centred(victim_logits[:, :shared]))
        if best is None or correlation > best.correlation:
            best = MatchedTime(flow, correlation, len(x))
        Progress(progress).step(done, _MATCHED_TIMES)
    assert best is not None
    return best


@dataclass(frozen=True)
class SearchedTime:
    """The time, of a few training times, whose adversarial images fool a victim most.

    Attributes:
        filter: gradient flow to that time, of the squared loss or the cross-entropy, or the machine's own filter, which is
            tried with the first one too.
        fooled: share of the victim's right predictions that the machine's images of that time turn wrong.
        queries: number of images that the victim was asked about; its answer need only be a class.
    """

    filter: Filter
    fooled: float
    queries: int

    @property
    def time(self) -> float:
        """Training time t; infinity for the machine's own filter where this has no time."""
        return self.filter.time if isinstance(self.filter, (GradientFlow, CrossEntropy)) else math.inf


def search_time(
    machine: KernelMachine,
    victim: Model,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    eps: float,
    norm: str,
    *,
    loss: str = "squared",
    progress: Report | None = None,
) -> SearchedTime:
    """Find the training time whose adversarial images fool a victim most, on a few images set aside.

    Outputs that are most alike, as `match_time` looks for, need not share their adversarial directions when the victim is
    not the machine's own lazy network: the machine most like a convolutional network is a very early, smooth one.

    Args:
        machine: a fitted machine, not on these images; its own filter is one of those tried.
        victim: images to logits.
        x: a few images of the data, such as a hundred.
        y: their classes.
        eps: radius of the attack, one step on the margin.
        norm: "linf" or "l2".
        loss: what the machines are trained on: "squared", or "cross-entropy", on which most networks are trained. Then
            some thousands of products with the kernel matrix are needed for each time.
        progress: called with the share of the times that is tried, from 0 to 1.

    Raises:
        InputError: an unknown loss.
    """
    filters: list[Filter]
    if loss == "squared":
        filters = [*_times(machine, _SEARCHED_TIMES), machine.filter]
    elif loss == "cross-entropy":
        filters = [CrossEntropy(time / machine.factorisation.largest) for time in CROSS_ENTROPY_TIMES]
    else:
        raise InputError(f'expected loss "squared" or "cross-entropy"; got {loss!r}.')
    clean_correct = correct(victim, x, y)
    best: SearchedTime | None = None
    queries = (1 + len(filters)) * len(x)
    for done, tried in enumerate(filters, 1):
        x_adv = fgsm(machine.refilter(tried), x, y, eps, norm, loss="margin")
        lost = clean_correct & ~correct(victim, x_adv, y)
        fooled = float(lost.sum()) / max(1, int(clean_correct.sum()))
        # Among equals the last wins: the longest time, or the machine's own filter.
        if best is None or fooled >= best.fooled:
            best = SearchedTime(tried, fooled, queries)
        Progress(progress).step(done, len(filters))
    assert best is not None
    return best


def _times(machine: KernelMachine, count: int) -> list[GradientFlow]:
    """Return times on a logarithmic grid, from 0.1 / λ_max to 10 / λ_min.

    At the first no feature is learned yet, at the last all are, down to the smallest eigenvalue that is not rounding.
    """
    largest = machine.factorisation.largest
    smallest = max(machine.factorisation.smallest, 1e-14 * largest)
    first, last = -1.0 - math.log10(largest), 1.0 - math.log10(smallest)
    exponents = torch.linspace(first, last, count, dtype=torch.float64).tolist()
    return [GradientFlow(10.0**exponent) for exponent in exponents]


def _centred(logits: Tensor) -> Tensor:
    logits = logits.to(torch.float64)
    return logits - logits.mean(1, keepdim=True)


def _correlation(a: Tensor, b: Tensor) -> float:
    """Compute the cosine of two matrices as vectors; 0 where one of them is zero."""
    size = a.norm() * b.norm()
    return float((a * b).sum() / size) if float(size) > 0 else 0.0


def gradient_cosine(a: Model, b: Model, x: Float[Tensor, "n *shape"], y: Int[Tensor, " n"]) -> Estimate:
    """Compute the cosine between two models' input gradients of the cross-entropy, as a mean over the images.

    Args:
        a: images to logits.
        b: images to logits.
        x: images.
        y: true classes.
    """
    objective = Objective()
    cosines = []
    for batch in batches(len(x), _BATCH):
        of_a, of_b = (objective.gradient(model, x[batch], y[batch])[0].flatten(1).to(torch.float64) for model in (a, b))
        size = of_a.norm(dim=1) * of_b.norm(dim=1)
        cosines.append((of_a * of_b).sum(1) / size.clamp_min(1e-300))
    return mean(torch.cat(cosines).cpu().numpy())
