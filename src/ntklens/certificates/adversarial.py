"""Machines that are trained against attacks: what certified training is compared with.

- *Pooled adversarial ridge*: a ridge solution on the images that attacks have made of the training images in all rounds so
  far, in the space that the training images span: fictitious play between the machine and the attack.
- *Adv-NTK* (Fu & Wang 2024) in a symmetric form: gradient flow in which every training image has a time of its own, d_i.
  With E = diag √d, S = E Θ E and φ(s) = (1 - e⁻ˢ) / s the coefficients are α = E φ(S) E Y, which equals their
  Θ⁻¹ (I - exp(-Θ diag d)) Y without an inverse. The times are learned on attacked held-out images.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count, check_generator
from ntklens.attacks import pgd
from ntklens.attacks.balls import Bounds
from ntklens.attacks.threat import Threat
from ntklens.certificates.inputs import checked_images, positive
from ntklens.certificates.training import Basis
from ntklens.errors import InputError
from ntklens.linalg import Factorisation, Ridge, Trained
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report
from ntklens.targets import class_targets

_SMALL = 1e-4
"""Arguments of φ below which its series is used."""
_FIRST_TIME = 1e-6
"""The time of every training image before the first step."""


def adversarial_ridge(
    machine: KernelMachine,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    eps: float,
    norm: str = "linf",
    *,
    ridge: float = 1e-3,
    rounds: int = 8,
    steps: int = 10,
    bounds: Bounds = (0, 1),
    progress: Report | None = None,
) -> KernelMachine:
    """Fit a ridge machine to attacked images, round by round: attack the machine, add the images, fit to all of them.

    Args:
        machine: a fitted machine, whose kernel and training inputs are used.
        x: images that are attacked; mostly the training images.
        y: their classes.
        eps: radius, in units of the pixels.
        norm: "linf" or "l2".
        ridge: ρ over λ_1; the loss is the mean over the images of all rounds, times the number of training images.
        rounds: number of attacks.
        steps: steps of each attack (PGD on the margin).
        bounds: lowest and highest pixel value.
        progress: called with the share of the rounds that are done.

    Raises:
        InputError: arguments that do not fit.
    """
    x, y, threat = checked_images(machine, x, y, eps, norm, bounds)
    rounds, steps = as_count(rounds, "rounds"), as_count(steps, "steps")
    ridge = positive(ridge, "ridge")
    largest = machine.factorisation.largest
    basis = Basis(machine.factorisation.spectrum)
    targets = class_targets(y, max(2, machine.targets.shape[1]))
    current = machine.refilter(Ridge(ridge * largest))
    gram = torch.zeros(len(basis), len(basis), dtype=torch.float64)
    moment = torch.zeros(len(basis), targets.shape[1], dtype=torch.float64)
    report = Progress(progress)
    for done in range(1, rounds + 1):
        x_adv = _attacked(current, x, y, threat, steps)
        values = basis.values(machine.kernel(x_adv.to(torch.float64), machine.double_inputs))
        gram += values.T @ values
        moment += values.T @ targets
        shifted = gram / done
        shifted.diagonal().add_(ridge * largest * len(x) / len(machine.train_inputs))
        weights = torch.linalg.solve(shifted, moment / done)
        current = machine.with_coefficients(
            basis.coefficients(weights), Trained(f"pooled adversarial ridge {ridge:g} λ_1, {done} rounds")
        )
        report.step(done, rounds)
    return current


def adversarial_flow(
    machine: KernelMachine,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    eps: float,
    norm: str = "linf",
    *,
    generator: torch.Generator,
    steps: int = 50,
    attack_steps: int = 10,
    step_size: float = 0.1,
    batch_size: int = 128,
    bounds: Bounds = (0, 1),
    progress: Report | None = None,
) -> KernelMachine:
    """Learn a time of gradient flow for every training image on attacked held-out images (Adv-NTK, Fu & Wang 2024).

    Each step attacks a batch of the held-out images and moves the times by a normalised gradient of the squared loss.

    Args:
        machine: a fitted machine, whose kernel, training inputs and targets are used.
        x: held-out images: no training images, and no test images.
        y: their classes.
        eps: radius, in units of the pixels.
        norm: "linf" or "l2".
        generator: chooses the batches.
        steps: number of steps.
        attack_steps: steps of each attack (PGD on the margin).
        step_size: length of a step of the times.
        batch_size: held-out images of a step.
        bounds: lowest and highest pixel value.
        progress: called with the share of the steps that are done.

    Raises:
        InputError: arguments that do not fit.
    """
    x, y, threat = checked_images(machine, x, y, eps, norm, bounds)
    steps, attack_steps = as_count(steps, "steps", least=0), as_count(attack_steps, "attack_steps")
    batch_size, step_size = as_count(batch_size, "batch_size"), positive(step_size, "step_size")
    check_generator(generator)
    theta = _whole(machine)
    targets = class_targets(y, max(2, machine.targets.shape[1]))
    times = torch.full((len(theta),), _FIRST_TIME, dtype=torch.float64)
    report = Progress(progress)

    def fitted(done: int) -> KernelMachine:
        found: KernelMachine = machine.with_coefficients(
            flow_coefficients(theta, times, machine.targets), Trained(f"Adv-NTK, {done} steps")
        )
        return found

    current = fitted(0)
    for done in range(1, steps + 1):
        rows = torch.randperm(len(x), generator=generator, device=generator.device)[:batch_size].to(x.device)
        x_adv = _attacked(current, x[rows], y[rows], threat, attack_steps)
        across = machine.kernel(x_adv.to(torch.float64), machine.double_inputs)
        error = across @ current.coefficients - targets[rows]
        slope = flow_gradient(theta, times, machine.targets, 2 * across.T @ error / len(rows))
        size = float(slope.norm())
        if size > 0:
            times = (times - step_size * slope / size).abs().clamp(min=_FIRST_TIME)
        current = fitted(done)
        report.step(done, steps)
    return current


def flow_coefficients(
    theta: Float[Tensor, "n n"], times: Float[Tensor, " n"], targets: Float[Tensor, "n O"]
) -> Float[Tensor, "n O"]:
    """Compute α = E φ(E Θ E) E Y with E = diag √d, for times d of each training image."""
    e = times.sqrt()[:, None]
    s, u = torch.linalg.eigh(e * theta * e.T)
    result: Tensor = e * (u @ (_phi(s)[:, None] * (u.T @ (e * targets))))
    return result


def flow_gradient(
    theta: Float[Tensor, "n n"],
    times: Float[Tensor, " n"],
    targets: Float[Tensor, "n O"],
    cotangent: Float[Tensor, "n O"],
) -> Float[Tensor, " n"]:
    """Compute the gradient in the times of Σ cotangent · α, through the divided differences of φ."""
    e = times.sqrt()[:, None]
    s, u = torch.linalg.eigh(e * theta * e.T)
    phi = _phi(s)
    gap = s[:, None] - s
    near = gap.abs() < 1e-7 * s.abs().max()
    middle = (s[:, None] + s) / 2
    divided = torch.where(near, _phi_slope(middle), (phi[:, None] - phi) / torch.where(near, 1.0, gap))
    a, b = u.T @ (e * cotangent), u.T @ (e * targets)
    m = u @ (divided * (a @ b.T)) @ u.T
    m = (m + m.T) / 2
    applied_targets, applied_cotangent = u @ (phi[:, None] * b), u @ (phi[:, None] * a)
    in_e = (cotangent * applied_targets + applied_cotangent * targets).sum(1) + 2 * ((theta * m) @ e)[:, 0]
    slope: Tensor = in_e / (2 * e[:, 0])
    return slope


def _phi(s: Tensor) -> Tensor:
    """Compute (1 - e⁻ˢ) / s."""
    small = s.abs() < _SMALL
    series = 1 - s / 2 + s.square() / 6 - s**3 / 24
    return torch.where(small, series, -torch.expm1(-s) / torch.where(small, 1.0, s))


def _phi_slope(s: Tensor) -> Tensor:
    """Compute the derivative of (1 - e⁻ˢ) / s."""
    small = s.abs() < 1e-2
    series = -0.5 + s / 3 - s.square() / 8 + s**3 / 30 - s**4 / 144
    safe = torch.where(small, 1.0, s)
    return torch.where(small, series, (torch.exp(-safe) * (1 + safe) - 1) / safe.square())


def _attacked(machine: KernelMachine, x: Tensor, y: Tensor, threat: Threat, steps: int) -> Tensor:
    if not threat.eps:
        return x
    return pgd(machine, x, y, threat.eps, threat.norm, steps, bounds=threat.bounds, loss="margin")


def _whole(machine: KernelMachine) -> Tensor:
    """Return Θ(X, X) as a whole."""
    factors = machine.factorisation
    if isinstance(factors, Factorisation):
        return factors.matrix
    raise InputError(
        f"expected a machine on up to 4,096 training inputs, whose matrix is kept whole; got one on "
        f"{len(machine.train_inputs):,}."
    )
