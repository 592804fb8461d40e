"""Certified training and selection: machines whose proofs, and not whose attacks, are made good.

The first bound of a margin is a minimum of functions that are linear in the coefficients: over the two lines that bound
each term, over the ball, and over the ends of each enclosure. So it is concave in them, and a convex decreasing loss of it
is a convex program, without an attack in the loop. (The bounds by which finite networks are trained, IBP and CROWN, are not
convex in their weights.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count, as_number, check_range
from ntklens.attacks import Threat
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack
from ntklens.bounds import BallBounds, KernelBounds
from ntklens.certificates.margins import rivals
from ntklens.errors import InputError
from ntklens.linalg import Filter, Ridge, Spectrum, Trained, check_filter, rounding_floor
from ntklens.machine import KernelMachine
from ntklens.progress import Parts, Progress, Report
from ntklens.statistics import Estimate, proportion

_STARTS = tuple(10.0 ** (-k / 2) for k in range(7))
"""Ridges, over λ_1, of which certified training starts from the one that certifies most held-out images: 1 to 1e-3."""
_START = 0.03
"""The ridge that it starts from without held-out images, over λ_1."""
_NUMBERS_PER_TERM = 17
"""Numbers that are kept per training image and image whose bound is trained."""


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


def certified_fit(
    machine: KernelMachine,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    eps: float,
    norm: str = "linf",
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    steps: int = 60,
    temperature: float = 5.0,
    penalty: float = 1e-4,
    learning_rate: float = 0.03,
    bounds: Bounds = (0, 1),
    memory_limit: int = 1 << 31,
    progress: Report | None = None,
) -> KernelMachine:
    """Train a machine's coefficients for the proof: minimise a convex loss of the first bound of every margin.

    With margins m_c against each other class c and the bounds LB_c of `certify`, the loss is the mean over the images of
    log(1 + Σ_c exp(-τ LB_c)) / τ, plus ρ/2 |f|² in the kernel's norm. It is convex in the coefficients, and is minimised by
    Adam with all images at once, from a ridge solution.

    Args:
        machine: a fitted machine, whose kernel, training images and targets are used; its filter does not matter.
        x: images whose bounds are trained; mostly the training images of the machine, or some of them.
        y: their classes.
        eps: radius, in units of the pixels.
        norm: "linf" or "l2".
        held_out: images and classes by which the ridge of the start and the best iterate are chosen, by certified accuracy;
            without them the ridge is 0.03 λ_1, and the last iterate is returned.
        steps: steps of Adam.
        temperature: τ.
        penalty: ρ.
        learning_rate: of Adam.
        bounds: lowest and highest pixel value.
        memory_limit: bytes for the enclosures of all terms, which are kept: about 136 per image and training image.
        progress: called with the share of the steps that are done.

    Returns:
        A machine with the trained coefficients. Its filter is `Trained`: they are no function of the spectrum.

    Raises:
        InputError: arguments that do not fit, or images whose terms exceed the memory limit.
        UnsupportedLayer: no bound is known for the machine's kernel.
    """
    steps, temperature = as_count(steps, "steps", least=0), positive(temperature, "temperature")
    penalty, learning_rate = positive(penalty, "penalty", zero=True), positive(learning_rate, "learning_rate")
    x, y, threat = checked_images(machine, x, y, eps, norm, bounds)
    n = len(machine.train_inputs)
    needed = 8 * _NUMBERS_PER_TERM * len(x) * n
    if needed > as_count(memory_limit, "memory_limit"):
        raise InputError(
            f"the enclosures of {len(x):,} images against {n:,} training images take {needed:,} bytes, and "
            f"memory_limit is {memory_limit:,}. Train the bounds of fewer images, or raise memory_limit."
        )
    work = Parts(Progress(progress), {"start": 1.0, "terms": 2.0, "steps": 10.0})
    with work("start") as part:
        start, validation = _start(machine, held_out, threat, part)
    spectrum = start.factorisation.spectrum
    basis = Basis(spectrum)
    known = KernelBounds(machine.kernel, machine.double_inputs, memory_limit)
    with work("terms") as part:
        groups = _groups(known, x, y, threat, part)
    weights = basis.coordinates(start.coefficients.to(torch.float64)).requires_grad_()
    optimiser = torch.optim.Adam([weights], lr=learning_rate)
    best = (validation.score(known, start.coefficients) if validation else (-1, -1)), weights.detach().clone()
    with work("steps") as part:
        for step in range(steps):
            optimiser.zero_grad()
            loss = penalty / 2 * weights.square().sum()
            (gradient,) = torch.autograd.grad(loss, weights)
            for group in groups:
                # One group after the other, so that autograd keeps the intermediate results of one of them.
                share = group.loss(basis.coefficients(weights), temperature) / len(x)
                gradient = gradient + torch.autograd.grad(share, weights)[0]
            weights.grad = gradient
            optimiser.step()
            if validation is not None:
                score = validation.score(known, basis.coefficients(weights.detach()))
                if score > best[0]:
                    best = score, weights.detach().clone()
            part.step(step + 1, steps)
    final = best[1] if validation is not None else weights.detach()
    text = f"certified training, ε = {threat.eps:.4g} {threat.norm}, {steps} steps"
    Progress(progress)(1.0)
    trained: KernelMachine = machine.with_coefficients(basis.coefficients(final), Trained(text))
    return trained


class Basis:
    """Coefficients A = V Λ^(-1/2) β, for which |f|² in the kernel's norm is |β|².

    Args:
        spectrum: of the kernel matrix; directions whose eigenvalues are zero to rounding are left out.
    """

    def __init__(self, spectrum: Spectrum) -> None:
        values = spectrum.eigenvalues
        kept = values > rounding_floor(float(values[0]), len(values))
        self._roots, self._vectors = values[kept].sqrt(), spectrum.eigenvectors[:, kept]

    def __len__(self) -> int:
        return len(self._roots)

    def coefficients(self, weights: Tensor) -> Tensor:
        """Return A for β."""
        return self._vectors @ (weights / self._roots[:, None])

    def values(self, matrix: Tensor) -> Tensor:
        """Return ψ(x) = Λ^(-1/2) Vᵀ Θ(X, x), whose products with β are the outputs, for Θ(x, X): (m, k)."""
        return matrix @ self._vectors / self._roots

    def coordinates(self, coefficients: Tensor) -> Tensor:
        """Return β for A."""
        return self._roots[:, None] * (self._vectors.T @ coefficients)


@dataclass(frozen=True)
class _Group:
    """Images of one class with their enclosed terms."""

    label: int
    part: BallBounds

    def loss(self, coefficients: Tensor, temperature: float) -> Tensor:
        """Return the sum of the images' losses."""
        lower = self.part.linear(rivals(coefficients, self.label))
        # An image whose ball reaches the origin has no bound, and no part in the training.
        lower = lower[lower.isfinite().all(1)]
        zero = torch.zeros(len(lower), 1, dtype=lower.dtype)
        return torch.logsumexp(torch.cat([zero, -temperature * lower], 1), 1).sum() / temperature


def _groups(known: KernelBounds, x: Tensor, y: Tensor, threat: Threat, progress: Report) -> list[_Group]:
    groups, report, done = [], Progress(progress), 0
    for label in torch.unique(y).tolist():
        chosen = x[y == label]
        for rows, part in known.parts(chosen, threat):
            groups.append(_Group(label, part))
            done += len(chosen[rows])
            report.step(done, len(x))
    return groups


@dataclass(frozen=True)
class _Validation:
    """Held-out images by which iterates are compared."""

    x: Tensor
    y: Tensor
    threat: Threat
    machine: KernelMachine
    kept: list[tuple[Tensor, int, BallBounds]]

    def score(self, known: KernelBounds, coefficients: Tensor) -> tuple[int, int]:
        """Return how many images are certified, and how many are right."""
        a = coefficients.to(torch.float64)
        certified = sum(int((part.linear(rivals(a, label)).amin(1) > 0).sum()) for _, label, part in self.kept)
        with torch.no_grad():
            outputs = self.machine.expand(a, torch.float64)(self.x.to(torch.float64))
        margins = torch.cat([rivals(outputs[rows], label).amin(1) for rows, label, _ in self.kept])
        return certified, int((margins > 0).sum())


def _start(
    machine: KernelMachine, held_out: tuple[Tensor, Tensor] | None, threat: Threat, progress: Report
) -> tuple[KernelMachine, _Validation | None]:
    """Return the ridge machine that training starts from, and what compares its iterates."""
    largest = machine.factorisation.largest
    if held_out is None:
        return machine.refilter(Ridge(_START * largest)), None
    if not isinstance(held_out, tuple) or len(held_out) != 2:
        raise InputError(f"expected held_out as images and their classes, (x, y); got {type(held_out).__name__}.")
    x, y, _ = checked_images(machine, *held_out, threat.eps, threat.norm, threat.bounds)
    ridges = [Ridge(share * largest) for share in _STARTS]
    choice = choose_filter(machine, ridges, x, y, threat.eps, threat.norm, bounds=threat.bounds, progress=progress)
    known = KernelBounds(machine.kernel, machine.double_inputs)
    kept = []
    for label in torch.unique(y).tolist():
        chosen = (y == label).nonzero().flatten()
        kept += [(chosen[rows], label, part) for rows, part in known.parts(x[chosen], threat)]
    return choice.machine, _Validation(x, y, threat, machine, kept)


def checked_images(
    machine: KernelMachine, x: Tensor, y: Tensor, eps: float, norm: str, bounds: Bounds
) -> tuple[Tensor, Tensor, Threat]:
    """Return images, their classes and the ball; InputError for what does not fit the machine."""
    if not isinstance(machine, KernelMachine):
        raise InputError(f"expected machine as a KernelMachine; got {type(machine).__name__}.")
    threat = Threat(eps, norm, bounds=bounds)
    x, y = check_attack(x, y, threat.bounds)
    x = machine.checked(x)
    if not len(x):
        raise InputError("expected x as at least one image; got none.")
    check_range(y, max(2, machine.targets.shape[1]))
    return x, y, threat


def positive(value: float, name: str, *, zero: bool = False) -> float:
    """Return a finite number above 0, or of 0 or more; InputError for another."""
    number = float(as_number(value, name))
    if not (0 <= number < float("inf")) or (number == 0 and not zero):
        raise InputError(f"expected {name} {'of 0 or more' if zero else 'above 0'}; got {value}.")
    return number
