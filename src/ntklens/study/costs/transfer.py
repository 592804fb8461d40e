"""The stage "transfer": surrogates that are fitted or trained and attacked, and victims that are trained and attacked."""

from __future__ import annotations

from ntklens.study.context import Context
from ntklens.study.costs.rates import Rates
from ntklens.study.parts import Option, Part, fewer, of_surrogate, of_victim
from ntklens.study.spec import TransferSpec

_SURROGATES = Option("--surrogates", "transfer.surrogates", "a shorter --surrogates")
_VICTIMS = fewer("--seeds", "transfer.seeds")


def transfer_parts(context: Context, spec: TransferSpec, rates: Rates) -> list[Part]:
    """Count fits, training steps and gradients; variants of a surrogate share its model."""
    n, n_test = len(context.data.train), len(context.data.test)
    sample = min(spec.sample, n)
    epochs = round(spec.epochs * n / sample)
    parts: list[Part] = []
    for name in spec.surrogates:
        base = name.partition("+")[0]
        gradients = n_test * context.threat.steps
        if base == "noise":
            seconds = 0.0
        elif base.startswith("net:"):
            network = rates.network(base.removeprefix("net:"), spec.width)
            steps = epochs * -(-sample // spec.batch_size)
            training = steps * rates.step(base, network, min(spec.batch_size, sample))
            seconds = rates.once(base, training) + gradients * rates.network_gradient(base, network)
        else:
            seconds = rates.once(base, rates.fit(base, sample)) + gradients * rates.gradient(base, sample)
        parts.append(Part(of_surrogate(name), seconds, _SURROGATES))
    for architecture in spec.victims:
        network, key = rates.network(architecture, spec.width), f"net:{architecture}"
        steps = spec.epochs * -(-n // spec.batch_size)
        training = steps * rates.step(key, network, min(spec.batch_size, n))
        attacked = n_test * context.threat.steps * rates.network_gradient(key, network)
        scored = n_test * (len(spec.surrogates) + 2) * rates.network_value(key, network)
        parts.append(Part(of_victim(architecture), spec.seeds * (training + attacked + scored), _VICTIMS))
    return parts
