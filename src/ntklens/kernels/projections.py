"""Random projections of the tangents, in memory that does not grow with the number of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from ntklens.kernels.tangents import Rows, Tangents


def projected(
    network: nn.Module,
    scales: Mapping[str, float],
    x: Tensor,
    output: Callable[[Tensor], Tensor],
    seeds: list[int],
) -> Tangents:
    """∂f/∂θ · u / sqrt(k) for k directions u of random signs, one a seed: (O, n, k), by k forward-mode passes.

    A direction is drawn anew from its seed at every call, so that it is the same for all batches.
    """
    moving: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if name in scales}

    def outputs(moved: dict[str, Tensor]) -> Tensor:
        return output(functional_call(network, moved, (x,)))

    found = [jvp(outputs, (moving,), (_signs(moving, scales, seed),))[1] for seed in seeds]
    return {"projection": Rows(torch.stack(found, 2).transpose(0, 1) / len(seeds) ** 0.5)}


def _signs(moving: dict[str, Tensor], scales: Mapping[str, float], seed: int) -> dict[str, Tensor]:
    """Random signs times the scales, drawn on the CPU so that every device and precision gets the same."""
    generator = torch.Generator().manual_seed(seed)
    signs = {}
    for name, p in moving.items():
        drawn = torch.randint(0, 2, p.shape, generator=generator, dtype=torch.int8)
        signs[name] = scales[name] * (2 * drawn - 1).to(p)
    return signs
