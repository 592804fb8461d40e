"""Certified training: machines whose proofs, and not whose attacks, are made good.

The first bound of a margin is a minimum of functions that are linear in the coefficients: over the two lines that bound
each term, over the ball, and over the ends of each enclosure. So it is concave in them, and a convex decreasing loss of it
is a convex program, without an attack in the loop. (The bounds by which finite networks are trained, IBP and CROWN, are not
convex in their weights.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count
from ntklens.attacks import Threat
from ntklens.attacks.balls import Bounds
from ntklens.bounds import BallBounds, KernelBounds
from ntklens.certificates.inputs import checked_images, positive
from ntklens.certificates.margins import rivals
from ntklens.certificates.selection import choose_filter
from ntklens.errors import InputError
from ntklens.linalg import Ridge, Spectrum, Trained, rounding_floor
from ntklens.machine import KernelMachine
from ntklens.progress import Parts, Progress, Report

_STARTS = tuple(10.0 ** (-k / 2) for k in range(7))
"""Ridges, over λ_1, of which certified training starts from the one that certifies most held-out images: 1 to 1e-3."""
_START = 0.03
"""The ridge that it starts from without held-out images, over λ_1."""
_NUMBERS_PER_TERM = 17
"""Numbers that are kept per training image and image whose bound is trained."""


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
