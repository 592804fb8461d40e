"""Random projections of the tangents, in memory that does not grow with the number of parameters.

Each gradient ∂f_o/∂θ is replaced by its k numbers ∂f_o/∂θ · u / sqrt(k) for k directions u of random signs. Since
E[u uᵀ] = 1, inner products of projections have those of the gradients as their mean.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.kernels.empirical.jacobians import jacobians, jacobians_one_by_one, weighted_gradients
from ntklens.kernels.empirical.tangents import PlainTangent, Tangents
from ntklens.modules import sharing_copy


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
    if x.requires_grad:
        blocks = jacobians(network, scales, x, output)
        return {"projection": PlainTangent(_projected_jacobians(blocks, parameters, seeds))}
    columns = _by_forward_mode(network, parameters, scales, x, output, seeds)
    if columns is None:
        columns = torch.cat([_one_by_one(network, parameters, scales, one[None], output, seeds) for one in x], 1)
    return {"projection": PlainTangent(columns / len(seeds) ** 0.5)}


def _by_forward_mode(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    scales: Mapping[str, float],
    x: Tensor,
    output: Callable[[Tensor], Tensor],
    seeds: list[int],
) -> Tensor | None:
    """Return the products J_o(x_i) u (O, n, k) with directions of random signs, or None where forward mode fails.

    Torch's forward mode is no more to be trusted than its batched passes (see `jacobians`), and is compared with plain
    autograd in the same way: Σ_io v_io J_o(x_i) u is the product of u with the gradient of Σ_io v_io f_o(x_i), so that one
    backward pass serves all directions.
    """
    v, sums = weighted_gradients(network, parameters, x, output)
    gradients = {name: scales[name] * gradient for name, gradient in sums.items() if gradient is not None}
    copied = sharing_copy(network)

    def outputs(values: dict[str, Tensor]) -> Tensor:
        return output(functional_call(copied, values, (x.clone(),)))

    columns, expected = [], []
    try:
        with attention_with_forward_mode():
            for seed in seeds:
                u = _signs(parameters, seed)
                scaled = {name: scales[name] * signs for name, signs in u.items()}
                columns.append(jvp(outputs, (dict(parameters),), (scaled,))[1].detach())
                products = [(gradient * u[name]).sum() for name, gradient in gradients.items()]
                expected.append(sum(products, start=v.new_zeros(())))
    except Exception:  # torch raises errors of many types, and the network runs without torch.func in any case
        return None
    found = torch.stack(columns, 2)  # (n, O, k)
    difference = torch.einsum("no,nok->k", v, found) - torch.stack(expected)
    allowed = torch.finfo(found.dtype).eps ** 0.5 * torch.linalg.vector_norm(found, dim=(0, 1)).max()
    return found.transpose(0, 1) if bool((difference.abs() <= allowed).all()) else None


def _one_by_one(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    scales: Mapping[str, float],
    one: Tensor,
    output: Callable[[Tensor], Tensor],
    seeds: list[int],
) -> Tensor:
    """Return J_o(x) u for one input, (O, 1, k), by the Jacobian of this input."""
    blocks = jacobians_one_by_one(network, parameters, one, output)
    columns = []
    for seed in seeds:
        u = _signs(parameters, seed)
        products = [
            scales[name] * (block * u[name]).reshape(*block.shape[:2], -1).sum(2) for name, block in blocks.items()
        ]
        columns.append(sum(products[1:], start=products[0]))
    return torch.stack(columns, 2)


def _load_forward_mode() -> None:
    """Load torch's own rules for forward mode, which it loads when they are first used, without its warnings of them."""
    name = "torch._decomp.decompositions_for_jvp"
    if name in sys.modules:
        return
    with warnings.catch_warnings(), suppress(ImportError):  # a private module, which another torch may name otherwise
        # Torch compiles them by a function of its own that it calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module(name)


@contextmanager
def attention_with_forward_mode() -> Iterator[None]:
    """Run torch's attention layers by operations that have a forward mode: their fused ones have none."""
    _load_forward_mode()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _projected_jacobians(
    blocks: Mapping[str, PlainTangent], parameters: Mapping[str, Tensor], seeds: list[int]
) -> Tensor:
    """Multiply plain Jacobians with the directions, where a graph to the inputs is needed.

    Torch's forward mode of layer_norm takes the saved mean and deviation for constants. Its values are right, but their
    derivative in the inputs loses a term, so forward mode cannot be used for this.
    """
    jacobian: Tensor = torch.cat([block.jacobian for block in blocks.values()], 2)
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
