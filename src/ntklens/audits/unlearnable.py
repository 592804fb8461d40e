"""Unlearnable-data audit: how far accuracy falls if every training image is perturbed so that little is learned from it.

An image of the training set is changed by at most ε in each pixel, so that a machine that is trained on the changed images
errs on clean ones: the neural tangent generalisation attack (NTGA, Yuan & Wu 2021). The audit makes such images of your own
training set for a kernel machine, guided by held-out images, and scores machines on test images that have guided nothing,
beside random noise of the same size. It returns figures; the images are kept only where they are asked for.

With f = Θ(V, X) α on the held-out images V, α = h(Θ) Y, Θ = Θ(X, X) = U diag(λ) Uᵀ and R = ∂L/∂f, the loss has the gradient

    ∂L/∂x_j = Σ_v (α Rᵀ)_jv ∂₁Θ(x_j, v) + Σ_i 2 M_ji ∂₁Θ(x_j, x_i),
    M = sym(U [Γ ∘ (Uᵀ B)(Uᵀ Y)ᵀ] Uᵀ),   B = Θ(X, V) R,   Γ the divided differences of h (`linalg/divided.py`),

where ∂₁ differentiates in the first input. The term i = j is right because Θ(x, x) changes by twice ∂₁Θ(x, x), of which the
kernels take the part that depends on no direction; the kink of Θ(x, z) at z = x has no share in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ntklens.arguments import check_generator, check_range
from ntklens.attacks import noise
from ntklens.attacks.checks import check_attack, check_images
from ntklens.attacks.threat import Threat
from ntklens.audits.checks import classes_of
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel
from ntklens.linalg import (
    Factorisation,
    Filter,
    GradientDescent,
    GradientFlow,
    Ridge,
    check_filter,
    equal_rows,
    inverts,
)
from ntklens.linalg.divided import divided_differences
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, paired_difference, proportion
from ntklens.targets import class_logits

_LEAST_RIDGE = 1e-6
"""Ridge, over λ_1, whose gradient guides where the machine inverts its kernel matrix, which copies make singular."""
_SHARED = 0.1
"""Share of the test images that may be equal to images that guide; blank images and copies in large data sets are."""


@dataclass(frozen=True)
class UnlearnableAudit:
    """What perturbed training images do to machines.

    Attributes:
        filters: the filters of the machines that were fitted and scored.
        clean: the accuracy on test images of the machine of each filter, fitted on the training images as they are.
        noise: the same, fitted on training images with random noise of ±ε.
        perturbed: the same, fitted on the perturbed training images.
        cost: for each filter, how much more the perturbation costs than noise: the share that is right with noise minus the
            share that is right with the perturbation, on the same test images.
        losses: the mean cross-entropy on the held-out images before each step and after the last.
        eps: ε, in units of the pixels.
        training: number of training images.
        images: (n, *shape), the perturbed training images; None unless they were asked for.
        noisy: (n, *shape), the images with noise; None unless they were asked for.
    """

    filters: tuple[Filter, ...]
    clean: tuple[Estimate, ...]
    noise: tuple[Estimate, ...]
    perturbed: tuple[Estimate, ...]
    cost: tuple[Estimate, ...]
    losses: tuple[float, ...]
    eps: float
    training: int
    images: Tensor | None = field(default=None, repr=False)
    noisy: Tensor | None = field(default=None, repr=False)

    @property
    def is_worse_than_noise(self) -> tuple[bool, ...]:
        """Whether the perturbation costs more than noise by more than the interval, for each filter."""
        return tuple(e.low > 0 for e in self.cost)

    def rows(self) -> list[dict[str, Any]]:
        """Return one line per filter, for tables and JSON."""
        return [
            {
                "filter": repr(g),
                **clean.row("clean_accuracy"),
                **with_noise.row("noise_accuracy"),
                **perturbed.row("perturbed_accuracy"),
                **cost.row("cost"),
            }
            for g, clean, with_noise, perturbed, cost in zip(
                self.filters, self.clean, self.noise, self.perturbed, self.cost, strict=True
            )
        ]

    def __repr__(self) -> str:
        shares = [100 * e[0].value for e in (self.clean, self.noise, self.perturbed)]
        found = "" if self.is_worse_than_noise[0] else "; no gap shown"
        return (
            f"UnlearnableAudit(ε = {self.eps:.3g}: {shares[0]:.1f} % right clean, {shares[1]:.1f} % noise, "
            f"{shares[2]:.1f} % perturbed{found})"
        )


def unlearnable_audit(
    machine: KernelMachine,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    eps: float,
    *,
    held_out: tuple[Float[Tensor, "v *shape"], Int[Tensor, " v"]],
    generator: torch.Generator,
    steps: int = 8,
    step_size: float | None = None,
    filters: Sequence[Filter] | None = None,
    keep_images: bool = False,
    progress: Report | None = None,
) -> UnlearnableAudit:
    """Measure what is lost if every training image is perturbed by at most ε, so that what is learned does not generalise.

    Every step moves the training images by the sign of the gradient of the cross-entropy on the held-out images, and
    projects them to the ball of linf and to the pixels' range. Gradients are those of the machine's own filter; where it
    inverts the kernel matrix, those of a ridge of 1e-6 λ_1. A step takes O(n² d + n v d + n³) in time and O(n² + n v + n d)
    in memory. The data that is audited is your own.

    Args:
        machine: a machine fitted on class indices, with `Ridge`, `GradientFlow` or `GradientDescent`; its training images
            lie in [0, 1] and number up to 4,096.
        x: test images, on which the figures are given: neither training images nor held-out ones.
        y: their classes.
        eps: ε, in units of the pixels, which lie in [0, 1].
        held_out: images that guide the perturbation, and their classes.
        generator: draws the noise.
        steps: number of steps.
        step_size: length of a step, in units of the pixels; 1.5 ε / steps by default.
        filters: filters that are fitted on the same images and scored; the machine's own by default.
        keep_images: keep the perturbed images, and those with noise, in the result.
        progress: called with the share of the work that is done.

    Raises:
        InputError: arguments that do not fit; a filter that has no gradient here; test images that are held-out ones.

    Source:
        Yuan & Wu 2021, "Neural Tangent Generalization Attacks", algorithm 1 and equation 6.
    """
    labels, train = _checked_machine(machine)
    threat = Threat(eps, steps=steps, step_size=step_size)
    length = 1.5 * threat.eps / threat.steps if step_size is None else threat.step_length
    clean_machines = _checked_filters(machine, filters)
    check_generator(generator)
    x, y = _checked_images(machine, x, y, "x")
    if not isinstance(held_out, (tuple, list)) or len(held_out) != 2:
        raise InputError("expected held_out as images and their classes, (x, y).")
    guides, of_guides = _checked_images(machine, *held_out, "held_out")
    _check_apart(x, guides, "held-out")
    _check_apart(x, train, "training")
    report = Progress(progress)
    chosen = tuple(fitted.filter for fitted in clean_machines)
    share = threat.steps / (threat.steps + 3)
    guide, start = _guide(machine), train.to(torch.float64)
    images, losses = start, []
    for done in range(threat.steps):
        loss, gradient = loss_gradient(
            machine.kernel, guide, images, machine.targets, guides.to(torch.float64), of_guides
        )
        losses.append(loss)
        images = threat.project(images + length * threat.ascend(gradient), start)
        report(share * (done + 1) / threat.steps)
    losses.append(loss_gradient(
        machine.kernel, guide, images, machine.targets, guides.to(torch.float64), of_guides, differentiate=False
    )[0])  # fmt: skip
    perturbed = threat.project(images.to(train.dtype), train)
    noisy = noise(train, threat.eps, generator=generator)
    right = []
    for done, inputs in enumerate((train, noisy, perturbed)):
        machines = clean_machines if done == 0 else _fitted(machine, inputs, chosen)
        right.append([(fitted.predict(x) == y).cpu() for fitted in machines])
        report(share + (1 - share) * (done + 1) / 3)
    clean, with_noise, with_perturbation = ([proportion(int(r.sum()), len(r)) for r in each] for each in right)
    return UnlearnableAudit(
        filters=chosen,
        clean=tuple(clean),
        noise=tuple(with_noise),
        perturbed=tuple(with_perturbation),
        cost=tuple(paired_difference(a.numpy(), b.numpy()) for a, b in zip(right[1], right[2], strict=True)),
        losses=tuple(losses),
        eps=threat.eps,
        training=len(labels),
        images=perturbed if keep_images else None,
        noisy=noisy if keep_images else None,
    )


def loss_gradient(
    kernel: Kernel,
    g: Filter,
    train: Float[Tensor, "n *shape"],
    targets: Float[Tensor, "n O"],
    x: Float[Tensor, "v *shape"],
    y: Int[Tensor, " v"],
    *,
    differentiate: bool = True,
) -> tuple[float, Float[Tensor, "n *shape"]]:
    """Compute the mean cross-entropy of a machine on images, and its gradient in the machine's training images.

    Args:
        kernel: of the machine.
        g: `Ridge`, `GradientFlow` or `GradientDescent`.
        train: the training images, in float64.
        targets: Y.
        x: the images, in float64.
        y: their classes.
        differentiate: compute the gradient; without it, zeros are returned.
    """
    with torch.no_grad():
        factors = Factorisation(kernel(train))
        across = kernel(train, x)  # (n, v)
        alpha = factors.apply(g, targets)
        logits = class_logits(across.T @ alpha)
        loss = float(F.cross_entropy(logits, y))
        if not differentiate:
            return loss, torch.zeros_like(train)
        r = (torch.softmax(logits, 1) - F.one_hot(y, logits.shape[1])) / len(y)
        if targets.shape[1] == 1:
            r = (r[:, 1:] - r[:, :1]) / 2  # of the one output f in the logits (-f/2, f/2)
        b = across @ r  # (n, O)
        if isinstance(g, Ridge):
            m = -factors.apply(g, b) @ alpha.T  # Γ = -h hᵀ
        else:
            u, values = factors.spectrum.eigenvectors, factors.spectrum.eigenvalues
            m = u @ (divided_differences(g, values) * ((u.T @ b) @ (targets.T @ u))) @ u.T
        # M is the symmetric part, and enters twice.
        gradient = kernel.gradient(train, train, m + m.T)
        gradient += kernel.gradient(train, x, alpha @ r.T)
        return loss, gradient


def _guide(machine: KernelMachine) -> Filter:
    """Return the filter whose gradient is followed."""
    least = _LEAST_RIDGE * machine.factorisation.largest
    if inverts(machine.filter):
        return Ridge(least)
    return Ridge(max(machine.filter.rho, least)) if isinstance(machine.filter, Ridge) else machine.filter


def _checked_machine(machine: KernelMachine) -> tuple[Tensor, Tensor]:
    """Return the classes and the images that a machine was fitted on."""
    labels = classes_of(machine)
    if not isinstance(machine.factorisation, Factorisation):
        raise InputError(
            f"expected a machine on up to 4,096 training images, whose matrix is kept whole; got one on "
            f"{len(machine.train_inputs):,}."
        )
    if not isinstance(machine.filter, (Ridge, GradientFlow, GradientDescent)):
        raise InputError(
            f"expected a machine with Ridge, GradientFlow or GradientDescent, whose coefficients have a gradient in the "
            f"training images; got one with {machine.filter!r}."
        )
    return labels, check_images(machine.train_inputs, (0, 1), "the machine's training images")


def _fitted(machine: KernelMachine, x: Tensor, filters: Sequence[Filter]) -> list[KernelMachine]:
    """Return a machine of each filter on other training images; they share the matrix."""
    first = KernelMachine(machine.kernel, filters[0], arithmetic=machine.arithmetic).fit(x, machine.targets)
    return [first, *map(first.refilter, filters[1:])]


def _checked_filters(machine: KernelMachine, filters: Any) -> list[KernelMachine]:
    """Return a machine of each filter on the training images as they are, before any other work."""
    if filters is None:
        return [machine.refilter(machine.filter)]
    if not isinstance(filters, Iterable) or isinstance(filters, (str, Tensor)):
        raise InputError(f"expected filters as a list of filters, such as [nl.Ridge(0.1)]; got {filters!r}.")
    chosen = list(filters)
    if not chosen:
        raise InputError("expected filters as at least one filter; got none.")
    for g in chosen:
        check_filter(g)
    return list(map(machine.refilter, chosen))


def _checked_images(machine: KernelMachine, x: Any, y: Any, name: str) -> tuple[Tensor, Tensor]:
    """Return images like the machine's training images, one or more, with their classes."""
    images = check_images(x, (0, 1), name)
    images, classes = check_attack(machine.checked(images), y, (0, 1))
    if not len(images):
        raise InputError(f"expected {name} as at least one image; got none.")
    check_range(classes, max(2, machine.targets.shape[1]))
    return images, classes


def _check_apart(x: Tensor, others: Tensor, what: str) -> None:
    """Raise InputError where more than a tenth of the test images, and more than one, are among the others."""
    numbers = equal_rows(torch.cat([others.to(torch.float64), x.to(torch.float64)]).flatten(1))
    same = int(torch.isin(numbers[len(others) :], numbers[: len(others)]).sum())
    if same > max(1, _SHARED * len(x)):
        raise InputError(
            f"expected x as test images that are not {what} images; got {same:,} of {len(x):,} that are. What is judged on "
            "images that it was made with says nothing."
        )
