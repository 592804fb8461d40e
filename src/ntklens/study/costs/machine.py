"""The stage "attack": a kernel machine under noise, one step and several, at every radius."""

from __future__ import annotations

from ntklens.study.context import Context
from ntklens.study.costs.rates import Rates
from ntklens.study.parts import KERNEL_MATRIX, TEST, TRAIN, Part
from ntklens.study.spec import AttackSpec


def machine_part(rates: Rates) -> Part:
    """Return the fit of the experiment's machine, which the first stage that uses it pays."""
    n = len(rates.context.data.train)
    return Part(KERNEL_MATRIX, rates.once(KERNEL_MATRIX, rates.fit("", n)), TRAIN)


def attack_parts(context: Context, threat: AttackSpec, rates: Rates) -> list[Part]:
    """Count an evaluation per attack and radius, two values per image, and the gradients of one and of several steps."""
    n, n_test = len(context.data.train), len(context.data.test)
    radii = len({*threat.curve, threat.eps} - {0.0})
    fit = machine_part(rates)
    images = n_test * (3 + 3 * 2 * radii)
    gradients = n_test * radii * (1 + threat.steps)
    return [fit, Part("attacks", images * rates.value("", n) + gradients * rates.gradient("", n), TEST)]
