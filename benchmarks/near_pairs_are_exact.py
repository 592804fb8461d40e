"""Measure the error of float32 input gradients against float64 ones, as the two images of a pair draw near.

Run it with `python -m benchmarks.near_pairs_are_exact` (seconds). Both precisions see the same rounded images, so the
error is the kernel's own: max |error| / max |gradient|, the worst of 8 pairs.

Measured on 2026-11-23 at or before commit a8c4829: gradients are right to 4e-7 from |x - z| = |x| down to 1e-4 |x|.
"""

import torch
from torch import Tensor, nn

import ntklens as nl
from ntklens.networks import build

DISTANCES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Relative distances |x - z| / |x|."""

SIDE = 8
NETWORKS = {
    "FC-3": lambda: build("fc3", (3, SIDE, SIDE), 1),
    "conv-3, flatten": lambda: build("conv3", (3, SIDE, SIDE), 1),
    "conv-2, GAP": lambda: build("conv2-gap", (3, SIDE, SIDE), 1),
}


def pairs(distance: float) -> tuple[Tensor, Tensor]:
    """Draw eight images and, for each, another one at this relative distance; both are exact in float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(8, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    step = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    sizes = (x.flatten(1).norm(dim=1) / step.flatten(1).norm(dim=1))[:, None, None, None]
    return x.float(), (x + distance * sizes * step).float()


def worst_error(module: nn.Module, distance: float) -> float:
    """Compute the largest relative error of the float32 gradients of single pairs."""
    kernel = nl.analytic_kernel(module)
    x, z = pairs(distance)
    weights = torch.eye(len(x))  # pairs every x with its own z alone
    single = kernel.gradient(x, z, weights).double()
    double = kernel.gradient(x.double(), z.double(), weights.double())
    errors = (single - double).flatten(1).abs().amax(1)
    return float((errors / double.flatten(1).abs().amax(1)).max())


def main() -> None:
    """Print one line per network and one column per distance."""
    print(f"{'|x - z| / |x|':20}" + "".join(f"{d:>10.0e}" for d in DISTANCES))
    for name, make in NETWORKS.items():
        print(f"{name:20}" + "".join(f"{worst_error(make(), d):10.1e}" for d in DISTANCES))


if __name__ == "__main__":
    main()
