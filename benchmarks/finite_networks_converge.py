"""Measure how kernels of finite networks approach the analytic one as the width grows.

Run it with `python -m benchmarks.finite_networks_converge` (minutes). It prints the root mean square relative error of one
drawn kernel at each width and the slope of its logarithm, and draws them into docs/finite_networks.png.

The figure in the repository is of 2026-11-23, commit 767b588: the error falls as width^-1/2, as theory says.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import ntklens as nl

WIDTHS = (32, 64, 128, 256, 512)
DRAWS = 80
FIGURE = Path(__file__).parents[1] / "docs" / "finite_networks.png"
NETWORKS = {
    "two dense layers": (
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)),
        "o",
    ),
    "two convolutions, flatten": (
        nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 1),
        ),
        "s",
    ),
    "two convolutions, global pooling": (
        nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 1),
        ),
        "^",
    ),
}


def errors(module: nn.Module, x: torch.Tensor) -> list[float]:
    """Compute sqrt(mean over draws |K_draw - K|² / |K|²) at each width."""
    kernel = nl.analytic_kernel(module)
    truth = kernel(x)
    drawn = [kernel.monte_carlo(x, width=w, draws=DRAWS).kernels for w in WIDTHS]
    return [float(((k - truth).square().sum((1, 2)).mean() / truth.square().sum()).sqrt()) for k in drawn]


def slope(values: list[float]) -> float:
    """Compute the slope of log error over log width, by least squares."""
    design = torch.tensor([[w, 1.0] for w in torch.tensor(WIDTHS).double().log()], dtype=torch.float64)
    log_errors = torch.tensor(values, dtype=torch.float64).log()[:, None]
    return float(torch.linalg.lstsq(design, log_errors).solution[0])


def main() -> None:
    """Print the table and draw the figure."""
    data = nl.load_dataset("digits")
    x = data.test.x[:5].double()
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    print(f"{'network':34}" + "".join(f"{w:>9}" for w in WIDTHS) + "    slope")
    for name, (module, marker) in NETWORKS.items():
        values = errors(module, x)
        print(f"{name:34}" + "".join(f"{v:9.4f}" for v in values) + f"{slope(values):9.2f}")
        axes.loglog(WIDTHS, values, marker=marker, label=f"{name} (slope {slope(values):.2f})")
    axes.loglog(WIDTHS, [values[0] * (w / WIDTHS[0]) ** -0.5 for w in WIDTHS], "--", color="0.5", label="slope -1/2")
    axes.set(xlabel="width (hidden units or channels per layer)", ylabel="relative error of one drawn kernel")
    axes.set_xticks(WIDTHS, [str(w) for w in WIDTHS])
    axes.set_yticks([0.1, 0.2, 0.4], ["10 %", "20 %", "40 %"])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(FIGURE, dpi=110)
    print(f"drawn into {FIGURE}")


if __name__ == "__main__":
    main()
