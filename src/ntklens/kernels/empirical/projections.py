"""Random projections of the tangents, in memory that does not grow with the number of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.kernels.empirical.tangents import Rows, Tangents, jacobians


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

    if x.requires_grad:
        return {"projection": Rows(_by_jacobians(jacobians(network, scales, x, output), moving, seeds))}
    directions = (_signs(moving, seed) for seed in seeds)
    with _plain_attention():
        found = [jvp(outputs, (moving,), ({n: scales[n] * t for n, t in u.items()},))[1].detach() for u in directions]
    return {"projection": Rows(torch.stack(found, 2).transpose(0, 1) / len(seeds) ** 0.5)}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Torch's attention layers by operations that have a forward mode: their fused ones have none."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _by_jacobians(blocks: Tangents, moving: Mapping[str, Tensor], seeds: list[int]) -> Tensor:
    """The same with a graph to the inputs: torch's forward mode has no right derivative where there is a layer_norm."""
    rows: Tensor = torch.cat([block.tensors()[0] for block in blocks.values()], 2)
    signs = (_signs(moving, seed) for seed in seeds)
    directions: Tensor = torch.stack([torch.cat([u[name].flatten() for name in blocks]) for u in signs], 1)
    return (rows @ directions).div(len(seeds) ** 0.5)


def _signs(moving: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random signs, drawn on the CPU so that every device and precision gets the same."""
    generator = torch.Generator().manual_seed(seed)
    signs = {}
    for name, p in moving.items():
        signs[name] = (2 * torch.randint(0, 2, p.shape, generator=generator, dtype=torch.int8) - 1).to(p)
    return signs
