"""Where the kernel stops describing a network: over its training, and in trainings that are not lazy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.attacks import correct
from ntklens.errors import NumericalFailure
from ntklens.kernels import empirical_kernel
from ntklens.linalg import GradientDescent
from ntklens.machine import KernelMachine
from ntklens.networks import BinaryLogits, Centred, build, gradient_descent, ntk_parametrize, train
from ntklens.statistics import mean
from ntklens.study.context import Context
from ntklens.study.spec import TransferSpec
from ntklens.transfer import gradient_cosine, match_time

_PROBE = 100
"""Outputs of a victim that the search of its time asks for."""
_FAST = 3.0
"""The large rate over 1 / λ_1: above 2 the linear theory diverges and a wide network jumps away first."""

Tick = Callable[[], None]


def start_network(context: Context, width: int, seed: int, *, standard: bool = False) -> nn.Module:
    """A network of the kernel's architecture at initialisation: in the NTK parametrisation, or torch's own."""
    k = context.spec.kernel
    generator = context.generator(width, seed)
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(1 << 31, (1,), generator=context.generator(width, seed, 5))))
        plain = build(k.architecture, context.data.shape, context.outputs, width=width).to(context.spec.device)
    return plain if standard else ntk_parametrize(plain, k.w_std, k.b_std, generator=generator).to(context.spec.device)


def logits(context: Context, network: nn.Module) -> nn.Module:
    """The network with one logit a class."""
    return BinaryLogits(network) if context.outputs == 1 else network


def over_steps(context: Context, spec: TransferSpec, rate: float, tick: Tick) -> list[dict[str, Any]]:
    """One network at a time, looked at between its first step and its last: accuracies, and how alike the gradients are."""
    x, y = context.test
    rows = []
    infinite = context.images_of("fgsm", context.machine)
    for seed in range(spec.seeds):
        network: nn.Module = Centred(start_network(context, max(spec.widths), seed))
        done = 0
        for steps in spec.checkpoints:
            network = gradient_descent(
                network, context.train[0], _targets(context), steps=steps - done, learning_rate=rate
            )
            done = steps
            victim, matched = logits(context, network), context.machine.refilter(GradientDescent(steps, rate))
            own = {
                "clean": x,
                "white-box": context.images_of("fgsm", victim),
                "kernel matched time": context.images_of("fgsm", matched),
                "kernel t=inf": infinite,
            }
            cosines = {
                "kernel matched time": gradient_cosine(matched, victim, x, y),
                "kernel t=inf": gradient_cosine(context.machine, victim, x, y),
            }
            for source, found in own.items():
                right = correct(victim, found, y)
                cosine = cosines[source].row("cosine") if source in cosines else {}
                rows.append({"steps": steps, "seed": seed, "width": max(spec.widths), "source": source,
                             "accuracy": float(right.double().mean()), **cosine})  # fmt: skip
            tick()
    return rows


def regimes(context: Context, spec: TransferSpec, rate: float, tick: Tick) -> list[dict[str, Any]]:
    """The gap between the kernel's images and the white box, where training is lazy and where it is not.

    The kernel's time is searched from outputs of the victim alone, for all regimes alike.
    """
    x, y = context.test
    width = spec.regime_width or max(spec.widths)
    trainings: dict[str, Callable[[int], nn.Module | None]] = {
        "lazy": lambda seed: _descent(context, spec, Centred(start_network(context, width, seed)), rate),
        "large learning rate": lambda seed: _descent(
            context, spec, Centred(start_network(context, width, seed)), _FAST * rate / spec.rate
        ),
        "standard parametrisation": lambda seed: _standard(context, spec, width, seed),
        "cross-entropy, SGD": lambda seed: _cross_entropy(context, spec, width, seed),
    }
    rows = []
    for name in spec.regimes:
        gaps: list[Tensor] = []
        shares: dict[str, list[float]] = {}
        cosines: list[float] = []
        for seed in range(spec.seeds):
            victim = trainings[name](seed)
            tick()
            if victim is None:
                continue
            time = match_time(context.machine, victim, context.train[0][:_PROBE])
            matched = context.machine.refilter(time.filter)
            right = {
                "clean": correct(victim, x, y),
                "noise": correct(victim, context.images_of("noise", victim), y),
                "kernel": correct(victim, context.images_of("fgsm", matched), y),
                "white_box": correct(victim, context.images_of("fgsm", victim), y),
            }
            for source, hits in right.items():
                shares.setdefault(source, []).append(float(hits.double().mean()))
            gaps.append(right["kernel"].double() - right["white_box"].double())
            cosines.append(gradient_cosine(matched, victim, x, y).value)
        if gaps:
            gap = mean(torch.stack(gaps).mean(0).cpu().numpy())
            averages = {source: sum(values) / len(values) for source, values in shares.items()}
            rows.append({"regime": name, "width": width, "seeds": len(gaps), **averages,
                         **gap.row(), "cosine": sum(cosines) / len(cosines)})  # fmt: skip
    return rows


def _targets(context: Context) -> Tensor:
    return context.machine.targets.to(context.train[0])


def _descent(context: Context, spec: TransferSpec, network: nn.Module, rate: float) -> nn.Module | None:
    """Full-batch descent; None where it diverges."""
    try:
        trained = gradient_descent(network, context.train[0], _targets(context), steps=spec.steps, learning_rate=rate)
    except NumericalFailure:
        return None
    return logits(context, trained)


def _standard(context: Context, spec: TransferSpec, width: int, seed: int) -> nn.Module | None:
    """In torch's own parametrisation, at the same multiple of its own 1 / λ_1, with its outputs at initialisation kept."""
    network = start_network(context, width, seed, standard=True)
    kernel = KernelMachine(empirical_kernel(network)).fit(*(part[:_PROBE] for part in context.train))
    share = len(context.train[0]) / min(_PROBE, len(context.train[0]))  # λ_1 grows with the images
    largest = share * float(kernel.factorisation.spectrum.eigenvalues[0])
    return _descent(context, spec, network, spec.rate / largest)


def _cross_entropy(context: Context, spec: TransferSpec, width: int, seed: int) -> nn.Module:
    """As practitioners train: torch's own parametrisation, mini-batches, momentum, the cross-entropy."""
    x, y = context.train
    network = logits(context, start_network(context, width, seed, standard=True))
    generator = context.generator(width, seed, 6)
    return train(network, x, y, epochs=spec.regime_epochs, batch_size=50, learning_rate=0.05, generator=generator)
