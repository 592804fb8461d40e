"""Speed and memory beside the bare limit: `python -m benchmarks`. Medians of five runs in one process; noisy machines."""

import platform
import resource
import statistics
import time
from collections.abc import Callable

import torch

import ntklens as nl
from ntklens.networks import build

RUNS = 5


def median(work: Callable[[], object]) -> float:
    """Median seconds of a few runs, after one to warm up."""
    work()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def images(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def dense_kernel() -> tuple[str, float, float]:
    """A kernel matrix of n = 2000 against the one full matrix product that no method avoids."""
    x = images(2000, (3, 32, 32))
    flat, kernel = x.flatten(1), nl.analytic_kernel(build("fc3", (3, 32, 32), 1))
    return "FC-3, n = 2000, d = 3072, symmetric / X @ X.T", median(lambda: kernel(x)), median(lambda: flat @ flat.T)


def dense_gradient() -> tuple[str, float, float]:
    """An input gradient against its two matrix products."""
    x, z = images(256, (3, 32, 32)), images(2000, (3, 32, 32))
    w, kernel = torch.rand(256, 2000), nl.analytic_kernel(build("fc3", (3, 32, 32), 1))
    bare = median(lambda: (x.flatten(1) @ z.flatten(1).T, w @ z.flatten(1)))
    return "FC-3 gradient, 256 x 2000, d = 3072 / two products", median(lambda: kernel.gradient(x, z, w)), bare


def convolution(name: str, side: int, n: int) -> tuple[str, float, float]:
    """Microseconds a pair of colour images; the bare limit is not given."""
    x, kernel = images(n, (3, side, side)), nl.analytic_kernel(build(name, (3, side, side), 1))
    pairs = n * (n + 1) / 2
    return f"{name}, {side}x{side}x3, us a pair", 1e6 * median(lambda: kernel(x)) / pairs, float("nan")


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'work':52} {'ours':>12} {'bare':>10} {'ratio':>8}")
    for name, ours, bare in (
        dense_kernel(),
        dense_gradient(),
        convolution("conv5", 32, 64),
        convolution("conv2-gap", 8, 32),
    ):
        print(f"{name:52} {ours:12.4g} {bare:10.4g} {ours / bare:8.2f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
