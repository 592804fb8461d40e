"""The stage "lazy": networks of several widths under full-batch gradient descent."""

from __future__ import annotations

from ntklens.linalg import factor_seconds
from ntklens.study.context import Context
from ntklens.study.costs.machine import machine_part
from ntklens.study.costs.rates import Rates
from ntklens.study.parts import SPECTRUM, TRAIN, Part, fewer
from ntklens.study.spec import LazySpec

WIDTHS, CHECKPOINTS, REGIMES = "widths", "checkpoints", "regimes"
"""The parts of the stage."""
_WIDTHS = fewer("--widths", "lazy.widths")


def lazy_parts(context: Context, spec: LazySpec, rates: Rates) -> list[Part]:
    """Count training steps; the attacks are one step each, and the gradients are compared on the test images."""
    n, n_test = len(context.data.train), len(context.data.test)
    network = context.network
    spectrum = rates.once(SPECTRUM, factor_seconds(n, by_cholesky=False))
    gradient = n_test * rates.gradient("", n)

    def step(width: int) -> float:
        return rates.step((network, width), rates.network(network, width), n)

    trained = sum((spec.seeds + 1) * spec.steps * step(width) for width in spec.widths)
    compared = len(spec.widths) * spec.seeds * 3 * gradient
    parts = [machine_part(rates), Part(SPECTRUM, spectrum, TRAIN), Part(WIDTHS, trained + compared, _WIDTHS)]
    if spec.checkpoints:
        seconds = spec.seeds * (spec.checkpoints[-1] * step(max(spec.widths)) + 4 * len(spec.checkpoints) * gradient)
        parts.append(Part(CHECKPOINTS, seconds))
    if spec.regimes:
        width = spec.regime_width or max(spec.widths)
        parts.append(Part(REGIMES, spec.seeds * len(spec.regimes) * (spec.steps * step(width) + 3 * gradient)))
    return parts
