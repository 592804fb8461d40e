"""Measure what watching a training with a `KernelTracker` costs.

Run it with `python -m benchmarks.tracker_overhead` (about a minute). It prints the seconds of one epoch of small-cnn on
10,000 drawn images of 28x28 in batches of 50, on clean, one-step and PGD-7 images, and the seconds of one record of a
tracker with a probe set of 100 images, without and with its second series on one-step images.

Measured on 2026-11-25 at or before commit cc2a9b3 (processor not noted): a record takes 0.06 s, 0.17 s with the second
series, beside epochs of 0.5 s (clean), 1.0 s (one step) and 4.1 s (PGD-7).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import ntklens as nl
from benchmarks.common import cpu, medians
from ntklens.networks import build, train

EPS = 8 / 255
RUNS = 5


def one_step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Attack with one step."""
    return nl.fgsm(model, x, y, EPS)


def seven_steps(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Attack with PGD-7."""
    return nl.pgd(model, x, y, EPS, steps=7)


def main() -> None:
    """Print the median seconds of each work."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(10_000, 1, 28, 28, generator=generator)
    y = torch.randint(0, 10, (10_000,), generator=generator)
    torch.manual_seed(0)
    net = build("small-cnn", (1, 28, 28), 10, width=32).eval()
    tracker = nl.KernelTracker(x[:100], y[:100])
    attacked_tracker = nl.KernelTracker(x[:100], y[:100], attack=one_step)

    def epoch(attack: Callable[[nn.Module, Tensor, Tensor], Tensor] | None) -> None:
        train(net, x, y, epochs=1, batch_size=50, learning_rate=0.001, attack=attack, generator=generator)

    works = {
        "epoch, clean images": lambda: epoch(None),
        "epoch, one-step images": lambda: epoch(one_step),
        "epoch, PGD-7 images": lambda: epoch(seven_steps),
        "record": lambda: tracker.record(net, 0),
        "record with one-step images": lambda: attacked_tracker.record(net, 0),
    }
    print(f"{cpu()}, {torch.get_num_threads()} threads, medians of {RUNS} runs in turns")
    for name, seconds in zip(works, medians(*works.values(), runs=RUNS), strict=True):
        print(f"{name:30}{seconds:8.3f} s")


if __name__ == "__main__":
    main()
