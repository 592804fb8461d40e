"""The stage "dynamics": trainings that are measured after every epoch, linearised ones, and machines on their kernels."""

from __future__ import annotations

from collections.abc import Hashable

from torch import nn

from ntklens.dynamics import checkpoints
from ntklens.kernels import empirical_kernel
from ntklens.networks import linearize, load_network, network_source
from ntklens.study.context import Context
from ntklens.study.costs.rates import Rates
from ntklens.study.parts import EPOCHS, Option, Part, fewer
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.attacks import knows_one_step, scored, tests_at
from ntklens.vocabulary import FGSM, PGD

__all__ = ["CHECKPOINTS", "LINEARISED", "MACHINES", "TRAININGS", "dynamics_parts"]

TRAININGS, LINEARISED, MACHINES, CHECKPOINTS = "trainings", "linearised trainings", "kernel machines", "checkpoints"
"""The parts of the stage."""
_SQUARE_LEFT = 0.3
"""Share of the queries that Square asks for in the worst case, about: it is shown what PGD has not fooled."""


def dynamics_parts(context: Context, spec: DynamicsSpec, rates: Rates) -> list[Part]:
    """Count training steps with their attacks, a record and a test per epoch, and what is continued from them."""
    context = context.on(spec.data)
    rates = rates.on(context)
    if spec.watch is not None:
        if spec.patience or spec.model is None:
            return []  # nobody knows how many checkpoints come
        network = load_network(spec.model).to(context.spec.device)
        measured = sum(part(context, spec, "watched", network, rates) for part in (_record, _test))
        return [Part(CHECKPOINTS, len(checkpoints(spec.watch)) * measured)]
    source = network_source(spec.architecture, spec.weights)
    network, key = rates.network(source, spec.width), ("dynamics", source)
    n = len(context.data.train)
    tested = sum(tests_at(spec, epoch) for epoch in range(spec.epochs + 1))
    measured = (spec.epochs + 1) * _record(context, spec, key, network, rates)
    measured += tested * _test(context, spec, key, network, rates)
    trained = [spec.epochs * _epoch(name, n, spec, key, network, rates) + measured for name in spec.trainings]
    parts = [Part(TRAININGS, spec.seeds * sum(trained), EPOCHS)]
    runs = spec.seeds * len(spec.trainings)
    if spec.linear_from:
        linear, linear_key = linearize(network), ("linear", spec.architecture)
        epochs = sum(_epoch(name, n, spec, linear_key, linear, rates) for name in ("standard", PGD))
        tests = 2 * _worst_case(context, spec, linear_key, linear, rates)
        final = _worst_case(context, spec, key, network, rates)
        seconds = runs * (len(spec.linear_from) * (spec.linear_epochs * epochs + tests) + final)
        parts.append(Part(LINEARISED, seconds, fewer("--linear-epochs", "dynamics.linear_epochs")))
    if spec.machine_train:
        count = spec.seeds * (1 + len(spec.trainings))
        option = Option("--machine-train", "dynamics.machine_train", "a smaller --machine-train")
        parts.append(Part(MACHINES, count * _machine(context, spec, network, rates), option))
    return parts


def _epoch(training: str, n: int, spec: DynamicsSpec, key: Hashable, network: nn.Module, rates: Rates) -> float:
    """Return the seconds of an epoch of a training."""
    batch = min(spec.batch_size, n)
    steps = -(-n // spec.batch_size)
    gradients = {FGSM: 1, PGD: spec.attack_steps}.get(training, 0)
    seconds = rates.step(key, network, batch)
    if gradients:
        seconds += gradients * batch * rates.network_gradient(key, network, batch)
    return steps * seconds


def _record(context: Context, spec: DynamicsSpec, key: Hashable, network: nn.Module, rates: Rates) -> float:
    """Return the seconds of a record of the kernel and of a test on clean images."""
    seconds = rates.record(key, network, spec.probe, attacked=knows_one_step(spec))
    return seconds + len(scored(spec, len(context.data.test))) * rates.network_value(key, network)


def _test(context: Context, spec: DynamicsSpec, key: Hashable, network: nn.Module, rates: Rates) -> float:
    """Return the seconds of a test of the network under several steps and, where it is asked for, under one."""
    n_test, one = len(scored(spec, len(context.data.test))), int(knows_one_step(spec))
    gradients = n_test * (spec.attack_steps + one)
    return gradients * rates.network_gradient(key, network) + (1 + one) * n_test * rates.network_value(key, network)


def _worst_case(context: Context, spec: DynamicsSpec, key: Hashable, network: nn.Module, rates: Rates) -> float:
    m = min(spec.machine_test, len(context.data.test))
    gradients = 2 * spec.attack_steps * rates.network_gradient(key, network)
    return m * (gradients + (3 + _SQUARE_LEFT * spec.queries) * rates.network_value(key, network))


def _machine(context: Context, spec: DynamicsSpec, network: nn.Module, rates: Rates) -> float:
    n = min(spec.machine_train, len(context.data.train))
    m = min(spec.machine_test, len(context.data.test))
    name = rates.hold("empirical", empirical_kernel(network))
    gradients = 2 * spec.attack_steps * rates.gradient(name, n)
    asked = m * (gradients + (3 + _SQUARE_LEFT * spec.queries) * rates.value(name, n))
    return rates.fit(name, n) + asked + m * spec.top_k * rates.along(name, n)
