"""Measure how the time of a kernel grows with inputs, depth, image side and threads.

Run it with `python -m benchmarks --figure` (minutes); it draws the four curves into docs/scaling.png. The figure in the
repository is of 2026-11-23, commit 4d4b2fe (processor not noted, two threads at most).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import ntklens as nl
from benchmarks.common import images, medians, network

FIGURE = Path(__file__).parents[1] / "docs" / "scaling.png"


def seconds_of(kernel: nl.AnalyticKernel, *inputs: torch.Tensor) -> float:
    """Return the median seconds of the kernel matrix."""
    return medians(lambda: kernel(*inputs))[0]


def over_inputs() -> tuple[list[int], list[float]]:
    """Time FC-3 on symmetric matrices, d = 784: nanoseconds per pair."""
    kernel = nl.analytic_kernel(network("fc3", 784))
    sizes = [250, 500, 1000, 2000, 4000]
    return sizes, [1e9 * seconds_of(kernel, images(n, 784)) / (n * n / 2) for n in sizes]


def over_depth() -> tuple[list[int], list[list[float]]]:
    """Time FC-L over its depth L, n = 2000, d = 784: multiples of the bare product, with biases and without."""
    x = images(2000, 784)
    depths = [1, 2, 4, 8, 16]
    rows = []
    for b_std in (0.1, 0.0):
        kernels = [nl.analytic_kernel(network(f"fc{depth}", 784), b_std=b_std) for depth in depths]
        bare, *seconds = medians(lambda: x @ x.T, *[lambda k=k: k(x) for k in kernels])
        rows.append([s / bare for s in seconds])
    return depths, rows


def over_side() -> tuple[list[int], list[list[float]]]:
    """Time three convolutions over the side of the image: microseconds per pair, flattened and pooled."""
    sides = [4, 8, 16, 32]
    rows = []
    for pooled in (False, True):
        row = []
        # Pooling needs covariances between all pairs of positions, so that it gets fewer images.
        n1, n2 = (2, 32) if pooled else (64, 256)
        for side in sides:
            body = [nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(3)]
            layers = [m for conv in body for m in (conv, nn.ReLU())]
            pool = nn.AdaptiveAvgPool2d(1) if pooled else nn.Identity()
            features = 8 if pooled else 8 * side * side
            net = nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(features, 1))
            x, z = images(n1, 3, side, side), images(n2, 3, side, side)
            row.append(1e6 * seconds_of(nl.analytic_kernel(net), x, z) / (n1 * n2))
        rows.append(row)
    return sides, rows


def over_threads() -> tuple[list[int], list[float]]:
    """Time five convolutions, flattened, over the number of threads: speed over that of one thread."""
    most = torch.get_num_threads()
    threads = sorted({1, max(1, most // 2), most})
    kernel = nl.analytic_kernel(network("conv5", None))
    x, z = images(64, 3, 32, 32), images(512, 3, 32, 32)
    seconds = []
    for count in threads:
        torch.set_num_threads(count)
        seconds.append(seconds_of(kernel, x, z))
    torch.set_num_threads(most)
    return threads, [seconds[0] / s for s in seconds]


def draw() -> None:
    """Measure all four curves and draw them."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    sizes, per_pair = over_inputs()
    axes[0, 0].plot(sizes, per_pair, "o-")
    axes[0, 0].set(
        xlabel="inputs n", ylabel="nanoseconds per pair", title="FC-3, d = 784, symmetric", ylim=0, xscale="log"
    )
    axes[0, 0].set_xticks(sizes, [str(n) for n in sizes])
    depths, multiples = over_depth()
    for row, label, mark in zip(multiples, ("with biases", "without: a series in the angle"), "s^", strict=True):
        axes[0, 1].plot(depths, row, f"{mark}-", label=label)
    axes[0, 1].axhline(1, color="0.5", ls="--", label="the full product X Xᵀ")
    axes[0, 1].set(xlabel="hidden layers", ylabel="time over X Xᵀ", title="FC, n = 2000, d = 784, symmetric", ylim=0)
    axes[0, 1].legend(frameon=False)
    sides, rows = over_side()
    for row, label, mark in zip(rows, ("flattened", "global pooling"), "o^", strict=True):
        axes[1, 0].loglog(sides, row, f"{mark}-", label=label)
    axes[1, 0].set(
        xlabel="image side (pixels)", ylabel="microseconds per pair", title="three 3x3 convolutions, 3 channels"
    )
    axes[1, 0].set_xticks(sides, [str(s) for s in sides])
    axes[1, 0].legend(frameon=False)
    threads, speed = over_threads()
    axes[1, 1].plot(threads, speed, "o-")
    axes[1, 1].plot(threads, threads, "--", color="0.5", label="in proportion")
    axes[1, 1].set(xlabel="threads", ylabel="speed over one thread", title="five convolutions, 32x32x3", ylim=0)
    axes[1, 1].set_xticks(threads)
    axes[1, 1].legend(frameon=False)
    for ax in axes.flat:
        ax.minorticks_off()
    figure.savefig(FIGURE, dpi=110)
    print(f"drawn into {FIGURE}")


if __name__ == "__main__":
    draw()
