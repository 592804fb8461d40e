"""Certificates against evasion: lower bounds of a machine's margin over a ball, beside the upper bound of an attack."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import check_range
from ntklens.attacks import Threat, pgd
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack, check_reach
from ntklens.bounds import check_sound
from ntklens.certificates.margins import Margins
from ntklens.certificates.radii import certified_radii
from ntklens.certificates.result import Certificates
from ntklens.errors import InputError
from ntklens.machine import KernelMachine
from ntklens.progress import Parts, Progress, Report

ATTACK_STEPS = 40
"""Steps of the attack beside the proof."""


def certify(
    machine: KernelMachine,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    eps: float,
    norm: str = "linf",
    *,
    bounds: Bounds = (0, 1),
    tiers: str = "both",
    attack: Threat | None = None,
    radius: bool = False,
    memory_limit: int = 1 << 30,
    progress: Report | None = None,
) -> Certificates:
    """Prove on which images no perturbation in the ball changes a right prediction of a kernel machine.

    Each image is attacked by projected gradient steps on the margin. A first bound, of tangents and chords of the kernel,
    takes milliseconds per image. Images that neither decides take a second one, which lets the curvatures of the training
    inputs cancel (docs/certificates.md). Machines of analytic kernels of dense networks with ReLU, LeakyReLU, absolute
    values, erf or GELU, with or without biases, at any depth and with any filter are covered, and machines of a linear
    kernel. An l2 ball is not clipped to the bounds, so that the proof is about a larger set than the attack sees.

    What is certified is the machine in float64, whatever its arithmetic.

    Args:
        machine: a fitted machine.
        x: images within the bounds.
        y: true classes.
        eps: radius of the ball, in units of the pixels.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        tiers: "both", or "linear" for the first bound alone.
        attack: the steps of the attack, a `Threat` of this radius and norm; 40 steps by default.
        radius: find radii too, by bisection: the first bound takes tenths of a second per image for it, the second one some
            seconds.
        memory_limit: bytes of working memory, about.
        progress: called with the share of the work that is done, from 0 to 1.

    Raises:
        InputError: arguments that do not fit.
        UnsupportedLayer: no bound is known for the machine's kernel; the message names randomised smoothing.
        NumericalFailure: the kernel differs from the form that is bounded, or a bound lies above what an attack finds.
            Neither is expected, and both are checked in every call.

    Example:
        >>> from ntklens.kernels import LinearKernel
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> machine = KernelMachine(LinearKernel()).fit(x, torch.tensor([0, 1]))
        >>> certify(machine, torch.tensor([[0.25, 0.75]]), torch.tensor([0]), eps=0.125).bound
        tensor([0.2500], dtype=torch.float64)
    """
    threat = _checked_threat(eps, norm, bounds, attack)
    if tiers not in ("both", "linear"):
        raise InputError(f'expected tiers "both" or "linear"; got {tiers!r}.')
    if not isinstance(machine, KernelMachine):
        raise InputError(
            f"expected machine as a KernelMachine; got {type(machine).__name__}. nl.smooth certifies any classifier."
        )
    x, y = check_attack(x, y, threat.bounds)
    x = machine.checked(x)
    check_reach(threat, x)
    margins = Margins(machine, memory_limit)
    check_range(y, margins.classes)
    work = Parts(Progress(progress), {"attack": 1.0, "linear": 0.5, "quadratic": 3.0, "radius": 8.0 if radius else 0.0})
    with work("attack") as part:
        clean_margin = margins.at(x, y)
        clean = margins.predicted(x) == y
        x_adv = x
        if threat.eps and len(x):
            with torch.enable_grad():
                x_adv = pgd(
                    machine, x, y, threat.eps, norm, threat.steps, threat.step_length, bounds=threat.bounds,
                    loss="margin", progress=part,
                )  # fmt: skip
            # In float32 an attack may leave the ball by rounding, and find what the proof is not about.
            x_adv = threat.project(x_adv.to(torch.float64), x.to(torch.float64))
        attacked_margin = torch.minimum(margins.at(x_adv, y), clean_margin)
        attacked = clean & (margins.predicted(x_adv) == y) & (attacked_margin >= 0)
    with work("linear") as part:
        bound = margins.linear(x, y, threat, part)
    tier = np.where(clean.numpy(), np.where(attacked.numpy(), "undecided", "attacked"), "wrong").astype("<U9")
    tier[(bound > 0).numpy()] = "linear"
    if tiers == "both":
        open_ = torch.from_numpy(tier == "undecided").nonzero().flatten()
        with work("quadratic") as part:
            found = margins.quadratic(x[open_], y[open_], threat, part)
        proved = open_[found > 0]
        bound[open_] = torch.maximum(bound[open_], found)
        tier[proved.numpy()] = "quadratic"
    check_sound(bound, attacked_margin)
    radii = None
    if radius:
        with work("radius") as part:
            radii = certified_radii(margins, x, y, clean, threat, tiers, part)
    Progress(progress)(1.0)
    return Certificates(
        certified=bound > 0,
        bound=bound,
        tier=tier,
        attacked=attacked,
        clean=clean,
        attacked_margin=attacked_margin,
        eps=threat.eps,
        norm=norm,
        radius=radii,
    )


def _checked_threat(eps: float, norm: str, bounds: Bounds, attack: Threat | None) -> Threat:
    threat = Threat(eps, norm, ATTACK_STEPS, bounds=bounds)
    if attack is None:
        return threat
    if not isinstance(attack, Threat):
        raise InputError(f"expected attack as a Threat, such as Threat(8 / 255, steps=40); got {attack!r}.")
    if (attack.eps, attack.norm, attack.bounds) != (threat.eps, threat.norm, threat.bounds):
        raise InputError(
            f"expected an attack of the radius {threat.eps:g}, the norm {norm} and the bounds {threat.bounds} that are to "
            f"be certified; got {attack.eps:g}, {attack.norm} and {attack.bounds}."
        )
    return attack
