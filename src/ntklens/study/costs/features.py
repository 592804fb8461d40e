"""The stage "features": scores of every feature, machines of chosen ones, and other kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ntklens.certificates import ATTACK_STEPS
from ntklens.linalg import factor_seconds
from ntklens.networks import NetworkSource, network_source
from ntklens.study.context import Context
from ntklens.study.costs.machine import machine_part
from ntklens.study.costs.rates import Rates
from ntklens.study.parts import SPECTRUM, TEST, TRAIN, Option, Part, fewer
from ntklens.study.spec import FeaturesSpec

SCORES, MACHINES, BANDS, TRADE_OFF = "scores", "machines of features", "bands", "trade-off"
OTHER_KERNELS, PICTURES, LEARNING, ROBUST_DATA = "other kernels", "pictures", "learning", "robust data"
CERTIFICATES = "certificates"
"""The parts of the stage."""
_COMPARE = Option("--compare", "features.compare", "a shorter --compare")
_SCORED = fewer("--scored", "features.scored")
_CERTIFIED = fewer("--certified", "features.certified")
_FIRST_BOUND = 20.0
"""Gradients that take as long as the first bound of an image."""
_SECOND_BOUND = 1.2e-10
"""Seconds per operation of the second bound of an image: .15 for 784 pixels and 1,200 training images."""
_OPEN = 0.15
"""Share of the images that the first bound leaves open, about."""
_DRAW_SECONDS = 0.009
"""Seconds of a draw of what chance gives, of which each other kernel takes 200; CPU seconds for 20 features."""


def features_parts(context: Context, spec: FeaturesSpec, rates: Rates) -> list[Part]:
    """Count the rows of kernel values, the gradients and the factorisations of each step of the stage."""
    n, n_test = len(context.data.train), len(context.data.test)
    value, gradient, along = rates.value("", n), rates.gradient("", n), rates.along("", n)
    spectrum = rates.once(SPECTRUM, factor_seconds(n, by_cholesky=False))
    scored = min(spec.scored or n, n)
    # A feature tells two classes apart; on an image of these it is right about half of the time, and only then attacked.
    right = n_test * scored / max(2, len(context.data.classes)) * 1.1
    one_machine = n_test * (2 * value + gradient)
    sizes = len([k for k in spec.top_k if k < n]) + 1
    others = [source for source in map(network_source, dict.fromkeys(spec.compare)) if source != context.network]
    return [
        machine_part(rates),
        Part(SPECTRUM, spectrum, TRAIN),
        Part(SCORES, n_test * value + right * along * max(1.0, 0.5 * spec.steps + (spec.steps > 1)), _SCORED),
        Part(MACHINES, (sizes + 4) * one_machine + _head_and_tail(context, value, gradient), TEST),
        Part(BANDS, sizes * one_machine, TEST),
        Part(TRADE_OFF, spec.trade_off * (2 * one_machine + factor_seconds(n, by_cholesky=True)), TEST),
        Part(OTHER_KERNELS, sum(_other(context, spec, source, rates) for source in others), _COMPARE),
        Part(PICTURES, (len(spec.pictured) * spec.images + spec.frames) * gradient),
        Part(LEARNING, _learning(spec, rates)),
        Part(ROBUST_DATA, _robust_data(context, spec, rates)),
        Part(CERTIFICATES, _certificates(context, spec, gradient, along), _CERTIFIED),
    ]


def _head_and_tail(context: Context, value: float, gradient: float) -> float:
    """Return the seconds of three machines on half of the test images, of which one step leaves about one third to PGD."""
    half = len(context.data.test) / 2
    return 3 * half * (3 * value + (1 + context.threat.steps / 3) * gradient)


def _other(context: Context, spec: FeaturesSpec, name: NetworkSource, rates: Rates) -> float:
    """Return the seconds of the comparison with one other kernel."""
    n = min(spec.compare_train or len(context.data.train), len(context.data.train))
    m = min(spec.compare_test or len(context.data.test), len(context.data.test))
    k = min(spec.subspace, n // 2)
    gradients = m * k / max(2, len(context.data.classes)) * 1.1 + k * spec.compare_images
    spectrum = factor_seconds(n, by_cholesky=False)
    return (
        rates.fit(name, n)
        + spectrum
        + m * rates.value(name, n)
        + gradients * rates.along(name, n)
        + 200 * _DRAW_SECONDS
    )


def _learning(spec: FeaturesSpec, rates: Rates) -> float:
    if not spec.learning_steps:
        return 0.0
    n = len(rates.context.data.train)
    network = rates.network(replace(rates.context.network, weights=None), spec.learning_width)
    return spec.learning_steps * rates.step(("learning", spec.learning_width), network, n)


def _robust_data(context: Context, spec: FeaturesSpec, rates: Rates) -> float:
    n, n_test = len(context.data.train), len(context.data.test)
    sets = 1 + len(spec.robust_ranks)
    trainings = (1 + 4 * sets) * spec.robust_seeds
    seconds = 0.0
    for architecture in spec.robust_networks:
        network = rates.network(network_source(architecture), spec.robust_width)
        key = ("robust", architecture)
        steps = spec.robust_epochs * -(-n // 50)
        attacked = n_test * (
            2 * rates.network_value(key, network) + context.threat.steps * rates.network_gradient(key, network)
        )
        seconds += trainings * (steps * rates.step(key, network, min(50, n)) + attacked)
    return seconds


def _certificates(context: Context, spec: FeaturesSpec, gradient: float, along: float) -> float:
    """Return the seconds of attacks and bounds of machines at each radius, and of single features.

    The first bound costs about as much as a few gradients. The second one, of the images that the first leaves open, has
    the cost of d³ and n d² operations, and of several rivals where there are several classes.
    """
    if not spec.certified or not context.threat.eps:
        return 0.0
    n, d = len(context.data.train), int(np.prod(context.data.shape))
    images = min(spec.certified, len(context.data.test) // 2)
    jobs = 4 * len(spec.certified_radii) + 3
    second = _SECOND_BOUND * (d**3 + n * d**2) * min(3, len(context.data.classes) - 1)
    of_machines = jobs * images * ((ATTACK_STEPS + _FIRST_BOUND) * gradient + _OPEN * second)
    singles = images * min(spec.certified_features, n) / len(context.data.classes)
    return of_machines + singles * (ATTACK_STEPS * along + 0.1 * second)
