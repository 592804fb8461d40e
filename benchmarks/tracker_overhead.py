"""What watching a training costs: `python -m benchmarks.tracker_overhead`.

Seconds of one epoch of small-cnn on 10,000 drawn images of 28x28 in batches of 50, on clean, one-step and PGD-7 images, and
of one record of a `KernelTracker` with a probe set of 100, without and with its second series of one-step images.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import ntklens as nl
from benchmarks.__main__ import cpu
from ntklens.networks import build, train

EPS, RUNS = 8 / 255, 5


def one_step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nl.fgsm(model, x, y, EPS)


def seven_steps(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nl.pgd(model, x, y, EPS, steps=7)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(10_000, 1, 28, 28, generator=generator), torch.randint(0, 10, (10_000,), generator=generator)
    torch.manual_seed(0)
    net = build("small-cnn", (1, 28, 28), 10, width=32).eval()
    trackers = {a: nl.KernelTracker(x[:100], y[:100], attack=a) for a in (None, one_step)}

    def epoch(attack: Callable[[nn.Module, Tensor, Tensor], Tensor] | None) -> None:
        train(net, x, y, epochs=1, batch_size=50, learning_rate=0.001, attack=attack, generator=generator)

    works = {
        "epoch, clean images": lambda: epoch(None),
        "epoch, one-step images": lambda: epoch(one_step),
        "epoch, PGD-7 images": lambda: epoch(seven_steps),
        "record": lambda: trackers[None].record(net, 0),
        "record with one-step images": lambda: trackers[one_step].record(net, 0),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(RUNS):
        for name, work in works.items():
            times[name].append(seconds(work))
    print(f"{cpu()}, {torch.get_num_threads()} threads, medians of {RUNS} runs in turns")
    for name, found in times.items():
        print(f"{name:30}{statistics.median(found):8.3f} s")


if __name__ == "__main__":
    main()
