"""The stage "transfer": surrogates that are fitted or trained and attacked, and victims that are trained and attacked."""

from __future__ import annotations

from dataclasses import replace

from ntklens.study.context import Context
from ntklens.study.costs.rates import Rates
from ntklens.study.networks import named_surrogates, named_victims
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
    for name, surrogate in named_surrogates(context, spec).items():
        base = replace(surrogate, variants=())
        gradients = n_test * context.threat.steps
        if base.kind == "noise":
            seconds = 0.0
        elif base.kind == "net" and base.network is not None and base.network.kind != "machine":
            network = rates.network(base.network, spec.width)
            seconds = gradients * rates.network_gradient(base, network)
            if not base.network.is_trained:
                steps = epochs * -(-sample // spec.batch_size)
                seconds += rates.once(base, steps * rates.step(base, network, min(spec.batch_size, sample)))
        else:
            seconds = rates.once(base, rates.fit(base, sample)) + gradients * rates.gradient(base, sample)
        parts.append(Part(of_surrogate(name), seconds, _SURROGATES))
    for source, name in named_victims(context, spec).items():
        network = rates.network(source, spec.width)
        attacked = n_test * context.threat.steps * rates.network_gradient(source, network)
        seconds = attacked + n_test * (len(spec.surrogates) + 2) * rates.network_value(source, network)
        if source.draws_its_weights():
            steps = spec.epochs * -(-n // spec.batch_size)
            seconds = spec.seeds * (seconds + steps * rates.step(source, network, min(spec.batch_size, n)))
        parts.append(Part(of_victim(name), seconds, _VICTIMS))
    return parts
