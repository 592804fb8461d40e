"""The gap between the kernel's images and the white box, where training is lazy and where it is not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ntklens.attacks import correct
from ntklens.kernels import empirical_kernel
from ntklens.machine import KernelMachine
from ntklens.networks import Centred, train
from ntklens.schema import bounds
from ntklens.study.context import Context, Rows
from ntklens.study.rows import over_both
from ntklens.study.spec import LazySpec
from ntklens.study.stages.lazy.networks import descended_unless_divergent, initial_network, with_logits
from ntklens.study.stages.lazy.steps import StepCount
from ntklens.study.streams import NetworkStream
from ntklens.transfer import gradient_cosine, match_time

_MATCHED_ON = 100
"""Number of training images on which a victim's outputs are compared with the machine's to find its training time."""
_EIGENVALUE_IMAGES = 100
"""Number of training images from which λ_1 of a finite network's own kernel is estimated."""
_LARGE_RATE = 3.0
"""The large learning rate in units of 1 / λ_1. Above 2 the linear theory diverges: a wide network leaves its kernel."""


def regimes(context: Context, spec: LazySpec, learning_rate: float, count: StepCount) -> Rows:
    """Measure the gap between the kernel's images and the white box after several kinds of training.

    What the kernel's images cost beyond noise is measured too. Both have intervals over images and seeds. The kernel's
    training time is searched for from outputs of the victim alone, in the same way for all kinds.

    Returns:
        The table "lazy_regimes", one row per kind of training that did not diverge for every seed.
    """
    x, y = context.test
    width = spec.regime_width or max(spec.widths)
    trainings = _trainings(context, spec, width, learning_rate)
    rows: Rows = []
    for name in spec.regimes:
        gaps: list[Tensor] = []
        beyond_noise: list[Tensor] = []
        shares: dict[str, list[float]] = {}
        cosines: list[float] = []
        for seed in range(spec.seeds):
            victim = trainings[name](seed)
            count.add(spec.steps)
            if victim is None:
                continue
            time = match_time(context.machine, victim, context.train[0][:_MATCHED_ON])
            matched = context.machine.refilter(time.filter)
            right = {
                "clean": correct(victim, x, y),
                "noise": correct(victim, context.attacked_test("noise", victim), y),
                "kernel": correct(victim, context.attacked_test("fgsm", matched), y),
                "white_box": correct(victim, context.attacked_test("fgsm", victim), y),
            }
            for source, hits in right.items():
                shares.setdefault(source, []).append(float(hits.double().mean()))
            gaps.append(right["kernel"].double() - right["white_box"].double())
            beyond_noise.append(right["noise"].double() - right["kernel"].double())
            cosines.append(gradient_cosine(matched, victim, x, y).value)
        if gaps:
            averages = {source: sum(values) / len(values) for source, values in shares.items()}
            row = {"regime": name, "width": width, **averages, "cosine": sum(cosines) / len(cosines)}
            gap, beyond = over_both(torch.stack(gaps)), over_both(torch.stack(beyond_noise))
            # The share that is due to seeds is of the latter, by which the claim is judged.
            columns = {bounds("beyond_noise")[place]: beyond[end] for place, end in enumerate(("low", "high"))}
            rows.append(row | gap | columns | {"beyond_noise": beyond["value"], "seed_share": beyond["seed_share"]})
    return rows


def _trainings(
    context: Context, spec: LazySpec, width: int, learning_rate: float
) -> dict[str, Callable[[int], nn.Module | None]]:
    """Return the kinds of training by name, each from a seed to a victim with logits, or to None where it diverges."""

    def in_ntk_parametrisation(seed: int, rate: float) -> nn.Module | None:
        return descended_unless_divergent(context, spec, Centred(initial_network(context, width, seed)), rate)

    return {
        "lazy": lambda seed: in_ntk_parametrisation(seed, learning_rate),
        "large learning rate": lambda seed: in_ntk_parametrisation(seed, _LARGE_RATE * learning_rate / spec.rate),
        "standard parametrisation": lambda seed: _in_standard_parametrisation(context, spec, width, seed),
        "cross-entropy, SGD": lambda seed: _by_sgd(context, spec, width, seed),
    }


def _in_standard_parametrisation(context: Context, spec: LazySpec, width: int, seed: int) -> nn.Module | None:
    """Train in torch's own parametrisation, at the same multiple of 1 / λ_1 of the network's own kernel.

    The outputs at initialisation are not subtracted.
    """
    network = initial_network(context, width, seed, standard=True)
    x, y = context.train
    sample = slice(0, _EIGENVALUE_IMAGES)
    machine = KernelMachine(empirical_kernel(network)).fit(x[sample], y[sample])
    # λ_1 grows in proportion to the number of images, so that of the sample is scaled up to all of them.
    scale = len(x) / min(_EIGENVALUE_IMAGES, len(x))
    largest = scale * machine.factorisation.largest
    return descended_unless_divergent(context, spec, network, spec.rate / largest)


def _by_sgd(context: Context, spec: LazySpec, width: int, seed: int) -> nn.Module:
    """Train as practitioners do: torch's own parametrisation, mini-batches, momentum, the cross-entropy."""
    x, y = context.train
    network = with_logits(context, initial_network(context, width, seed, standard=True))
    generator = context.generator(width, seed, NetworkStream.BATCHES)
    return train(network, x, y, epochs=spec.regime_epochs, batch_size=50, learning_rate=0.05, generator=generator)
