"""Random projections of the tangents, in memory that does not grow with the number of parameters.

Each gradient ∂f_o/∂θ is replaced by its k numbers ∂f_o/∂θ · u / sqrt(k) for k directions u of random signs. Since
E[u uᵀ] = 1, inner products of projections have those of the gradients as their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.kernels.empirical.tangents import PlainTangent, Tangents, jacobians


def projected(
    network: nn.Module,
    scales: Mapping[str, float],
    x: Tensor,
    output: Callable[[Tensor], Tensor],
    seeds: list[int],
) -> Tangents:
    """Compute the projections (O, n, k) on one random direction per seed, each by one forward-mode pass.

    A direction is drawn from its seed at every call, so that it is the same for all batches and takes no memory between
    them.

    Args:
        network: the network.
        scales: factor of each differentiated parameter, by its name.
        x: (n, *shape).
        output: takes the network's outputs (n, O) to those that are differentiated.
        seeds: seeds of the k directions.
    """
    parameters: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if name in scales}

    def outputs(values: dict[str, Tensor]) -> Tensor:
        return output(functional_call(network, values, (x,)))

    if x.requires_grad:
        blocks = jacobians(network, scales, x, output)
        return {"projection": PlainTangent(_projected_jacobians(blocks, parameters, seeds))}
    directions = (_signs(parameters, seed) for seed in seeds)
    with _attention_with_forward_mode():
        columns = [
            jvp(outputs, (parameters,), ({name: scales[name] * signs for name, signs in u.items()},))[1].detach()
            for u in directions
        ]
    return {"projection": PlainTangent(torch.stack(columns, 2).transpose(0, 1) / len(seeds) ** 0.5)}


@contextmanager
def _attention_with_forward_mode() -> Iterator[None]:
    """Run torch's attention layers by operations that have a forward mode: their fused ones have none."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _projected_jacobians(blocks: Tangents, parameters: Mapping[str, Tensor], seeds: list[int]) -> Tensor:
    """Multiply plain Jacobians with the directions, where a graph to the inputs is needed.

    Torch's forward mode has a wrong derivative where there is a layer_norm, so it cannot be used for this.
    """
    jacobian: Tensor = torch.cat([block.tensors()[0] for block in blocks.values()], 2)
    signs = (_signs(parameters, seed) for seed in seeds)
    directions: Tensor = torch.stack([torch.cat([u[name].flatten() for name in blocks]) for u in signs], 1)
    return (jacobian @ directions).div(len(seeds) ** 0.5)


def _signs(parameters: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Draw a direction of random signs, on the CPU so that every device and precision gets the same."""
    generator = torch.Generator().manual_seed(seed)
    signs = {}
    for name, p in parameters.items():
        signs[name] = (2 * torch.randint(0, 2, p.shape, generator=generator, dtype=torch.int8) - 1).to(p)
    return signs
