"""How the time of a kernel grows with inputs, depth, image side and threads; drawn into docs/scaling.png."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import ntklens as nl
from benchmarks.__main__ import images, medians, network

FIGURE = Path(__file__).parents[1] / "docs" / "scaling.png"


def timed(kernel: nl.AnalyticKernel, *inputs: torch.Tensor) -> float:
    """Median seconds of the kernel matrix."""
    return medians(lambda: kernel(*inputs))[0]


def over_inputs() -> tuple[list[int], list[float]]:
    """FC-3, d = 784, symmetric: nanoseconds a pair."""
    kernel, sizes = nl.analytic_kernel(network("fc3", 784)), [250, 500, 1000, 2000, 4000]
    return sizes, [1e9 * timed(kernel, images(n, 784)) / (n * n / 2) for n in sizes]


def over_depth() -> tuple[list[int], list[list[float]]]:
    """FC-L, n = 2000, d = 784: time over that of the bare product, with biases and without."""
    x, depths, rows = images(2000, 784), [1, 2, 4, 8, 16], []
    for b_std in (0.1, 0.0):
        kernels = [nl.analytic_kernel(network(f"fc{depth}", 784), b_std=b_std) for depth in depths]
        bare, *seconds = medians(lambda: x @ x.T, *[lambda k=k: k(x) for k in kernels])
        rows.append([s / bare for s in seconds])
    return depths, rows


def over_side() -> tuple[list[int], list[list[float]]]:
    """Three convolutions: microseconds a pair, flattened and pooled."""
    sides, rows = [4, 8, 16, 32], []
    for tail in (torch.nn.Identity, lambda: torch.nn.AdaptiveAvgPool2d(1)):
        row = []
        for side in sides:
            pool = tail()
            features = 8 if isinstance(pool, torch.nn.AdaptiveAvgPool2d) else 8 * side * side
            body = [torch.nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(3)]
            layers = [m for conv in body for m in (conv, torch.nn.ReLU())]
            net = torch.nn.Sequential(*layers, pool, torch.nn.Flatten(), torch.nn.Linear(features, 1))
            n1, n2 = (64, 256) if features > 8 else (2, 32)
            x, z = images(n1, 3, side, side), images(n2, 3, side, side)
            row.append(1e6 * timed(nl.analytic_kernel(net), x, z) / (n1 * n2))
        rows.append(row)
    return sides, rows


def over_threads() -> tuple[list[int], list[float]]:
    """Five convolutions, flattened: pairs a second over those of one thread."""
    most = torch.get_num_threads()
    threads = sorted({1, max(1, most // 2), most})
    kernel, x, z = nl.analytic_kernel(network("conv5", None)), images(64, 3, 32, 32), images(512, 3, 32, 32)
    seconds = []
    for count in threads:
        torch.set_num_threads(count)
        seconds.append(timed(kernel, x, z))
    torch.set_num_threads(most)
    return threads, [seconds[0] / s for s in seconds]


def draw() -> None:
    """Measure all four and draw them."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    sizes, each = over_inputs()
    axes[0, 0].plot(sizes, each, "o-")
    axes[0, 0].set(
        xlabel="inputs n", ylabel="nanoseconds a pair", title="FC-3, d = 784, symmetric", ylim=0, xscale="log"
    )
    axes[0, 0].set_xticks(sizes, [str(n) for n in sizes])
    depths, shares = over_depth()
    for row, label, mark in zip(shares, ("with biases", "without: a series in the angle"), "s^", strict=True):
        axes[0, 1].plot(depths, row, f"{mark}-", label=label)
    axes[0, 1].axhline(1, color="0.5", ls="--", label="the full product X Xᵀ")
    axes[0, 1].set(xlabel="hidden layers", ylabel="time over X Xᵀ", title="FC, n = 2000, d = 784, symmetric", ylim=0)
    axes[0, 1].legend(frameon=False)
    sides, rows = over_side()
    for row, label, mark in zip(rows, ("flattened", "global pooling"), "o^", strict=True):
        axes[1, 0].loglog(sides, row, f"{mark}-", label=label)
    axes[1, 0].set(
        xlabel="image side (pixels)", ylabel="microseconds a pair", title="three 3x3 convolutions, 3 channels"
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
