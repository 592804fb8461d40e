"""Selection: the filter of a machine that is proved right on most held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import Threat
from ntklens.attacks.balls import Bounds
from ntklens.bounds import KernelBounds
from ntklens.certificates.inputs import checked_images
from ntklens.certificates.margins import rivals
from ntklens.errors import InputError
from ntklens.linalg import Filter, check_filter
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, proportion


@dataclass(frozen=True)
class FilterChoice:
    """Filters of a machine on held-out images.

    Attributes:
        filters: the filters.
        clean: the accuracy of each.
        certified: the share of images that each has right and proved so by the first bound.
        best: position of the filter that certifies most; of those that certify as many, the one that has most right.
        machine: the machine with that filter.
    """

    filters: tuple[Filter, ...]
    clean: tuple[Estimate, ...]
    certified: tuple[Estimate, ...]
    best: int
    machine: KernelMachine

    @property
    def filter(self) -> Filter:
        """The filter that certifies most."""
        return self.filters[self.best]

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per filter, for tables and JSON."""
        return [
            {
                "filter": repr(g),
                **clean.row("clean_accuracy"),
                **certified.row("certified_accuracy"),
                "best": i == self.best,
            }
            for i, (g, clean, certified) in enumerate(zip(self.filters, self.clean, self.certified, strict=True))
        ]

    def __repr__(self) -> str:
        return f"FilterChoice({len(self.filters)} filters; best {self.filter!r}: {self.certified[self.best]} certified)"


def choose_filter(
    machine: KernelMachine,
    filters: Sequence[Filter],
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    eps: float,
    norm: str = "linf",
    *,
    bounds: Bounds = (0, 1),
    memory_limit: int = 1 << 30,
    progress: Report | None = None,
) -> FilterChoice:
    """Choose the filter of a machine that is proved right on most held-out images, by the first bound of `certify`.

    The terms of an image are enclosed once for all filters, so that many cost little more than one.

    Args:
        machine: a fitted machine.
        filters: ridges, times or numbers of features, as filters.
        x: held-out images: neither training nor test images.
        y: their classes.
        eps: radius, in units of the pixels.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        memory_limit: bytes of working memory, about.
        progress: called with the share of the images that are done.

    Raises:
        InputError: arguments that do not fit.
        UnsupportedLayer: no bound is known for the machine's kernel.
    """
    if not isinstance(filters, (list, tuple)):
        raise InputError(f"expected filters as a list of them; got {type(filters).__name__}.")
    chosen: list[Filter] = list(filters)
    if not chosen:
        raise InputError("expected at least one filter to choose from; got an empty list.")
    for g in chosen:
        check_filter(g)
    x, y, threat = checked_images(machine, x, y, eps, norm, bounds)
    machines = [machine.refilter(g) for g in chosen]
    columns = [m.coefficients.to(torch.float64) for m in machines]
    known = KernelBounds(machine.kernel, machine.double_inputs, memory_limit)
    scores = _scores(known, columns, x, y, threat, machine, Progress(progress))
    certified = [int((margin > 0).sum()) for margin in scores.certified]
    clean = [int(right.sum()) for right in scores.clean]
    best = max(range(len(chosen)), key=lambda i: (certified[i], clean[i]))
    return FilterChoice(
        tuple(chosen),
        tuple(proportion(count, len(y)) for count in clean),
        tuple(proportion(count, len(y)) for count in certified),
        best,
        machines[best],
    )


@dataclass(frozen=True)
class _Scores:
    """Of several columns of coefficients on images: (columns, m) each."""

    clean: Tensor
    certified: Tensor


def _scores(
    known: KernelBounds,
    coefficients: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
    threat: Threat,
    machine: KernelMachine,
    progress: Report,
) -> _Scores:
    """Return which predictions are right, and lower bounds of the margins."""
    clean = torch.empty(len(coefficients), len(x), dtype=torch.bool)
    bound = torch.empty(len(coefficients), len(x), dtype=torch.float64)
    whole = torch.cat(list(coefficients), 1)
    with torch.no_grad():
        outputs = machine.expand(whole, torch.float64)(x.to(torch.float64))
    report, done = Progress(progress), 0
    for label in torch.unique(y).tolist():
        chosen = (y == label).nonzero().flatten()
        against = [rivals(a, label) for a in coefficients]
        apart = [rivals(f, label) for f in torch.split(outputs[chosen], coefficients[0].shape[1], 1)]
        for i, margin in enumerate(apart):
            # Where margins are equal the first class is predicted.
            least = margin.amin(1)
            clean[i, chosen] = least >= 0 if label == 0 else least > 0
        columns = torch.cat(against, 1)
        for rows, part in known.parts(x[chosen], threat, columns.shape[1]):
            lower = part.linear(columns).reshape(-1, len(coefficients), against[0].shape[1]).amin(2)
            bound[:, chosen[rows]] = lower.T
            done += len(lower)
            report.step(done, len(x))
    return _Scores(clean, bound)
