"""The Jacobian of any parameter: by one backward pass per input and output, or batched where that is proven equal.

Plain autograd, one input and one output at a time, is right for whatever torch can differentiate, and is the oracle of
this package. `torch.func` takes all of them in one pass, `vmap(jacrev(...))`, which is many times faster, but its rules
are not all right (torch 2.13):

- The backward of `prelu` in the shared slope takes the axis of the images for that of the outputs under two nested vmaps.
  It raises an error, unless there are as many images as outputs: then the result is silently wrong.
- The backward of `linalg.solve` uses the LU factors of its forward again while gradients are disabled. Whether they are
  those of the matrix or of its transpose it guesses from the matrix's strides, and batching changes the strides. So the
  batched pass is run with gradients enabled, where the backward solves anew.
- Parameters that are reached by a reference outside torch's register keep their old values in `functional_call`.

Since no list of such operations is ever complete, each batched result is compared with plain autograd, on the very inputs
it was computed for. With random weights v, the sum Σ_io v_io J_o(x_i) is the gradient of Σ_io v_io f_o(x_i), which takes a
single backward pass. A wrong Jacobian fails this test for almost all v (the idea of Freivalds 1977), and what fails is
computed one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from ntklens.kernels.empirical.copies import differentiable_copy
from ntklens.kernels.empirical.tangents import PlainTangent
from ntklens.modules import sharing_copy

Output = Callable[[Tensor], Tensor]
"""Takes the network's outputs (n, O) to those that are differentiated."""


def jacobians(
    network: nn.Module, scales: Mapping[str, float], x: Tensor, output: Output, *, one_by_one: Collection[str] = ()
) -> dict[str, PlainTangent]:
    """Compute the Jacobian of each parameter named in `scales`, times its scale.

    The result takes n O times as many numbers as there are parameters that the outputs depend on; others take none. It has
    a graph to x where x requires a gradient.

    Args:
        network: the network.
        scales: factor of each parameter by its name.
        x: (n, *shape).
        output: takes the network's outputs (n, O) to those that are differentiated.
        one_by_one: parameters for which the batched pass is known to fail.
    """
    values = {name: p for name, p in network.named_parameters() if name in scales}
    v, sums = weighted_gradients(network, values, x, output)
    used = {name: p for name, p in values.items() if sums[name] is not None}
    found: dict[str, Tensor] = {}
    # torch.func loses a term in its second derivative of layer_norm, so it is not used where a graph to x is needed.
    if not x.requires_grad:
        batched = {name: p for name, p in used.items() if name not in one_by_one}
        found = {
            name: block
            for name, block in _batched_jacobians(network, batched, x, output).items()
            if is_jacobian(block, v, sums[name])
        }
    left = {name: p for name, p in used.items() if name not in found}
    found |= jacobians_one_by_one(network, left, x, output) if left else {}
    n, outputs = v.shape
    return {
        name: PlainTangent(scales[name] * found[name].reshape(outputs, n, -1))
        if name in found
        else PlainTangent(v.new_zeros(()).expand(outputs, n, values[name].numel()), is_zero=True)
        for name in scales
    }


def failing_parameters(network: nn.Module, names: Collection[str], batches: Sequence[Tensor]) -> frozenset[str]:
    """Return the parameters whose batched Jacobian fails on one of these batches, or cannot be computed."""
    values = {name: p for name, p in network.named_parameters() if name in names}
    failing: set[str] = set()
    for x in batches:
        v, sums = weighted_gradients(network, values, x, lambda f: f)
        used = {name: p for name, p in values.items() if sums[name] is not None}
        found = _batched_jacobians(network, used, x, lambda f: f)
        failing |= {name for name in used if name not in found or not is_jacobian(found[name], v, sums[name])}
    return frozenset(failing)


def jacobians_one_by_one(
    network: nn.Module, values: Mapping[str, Tensor], x: Tensor, output: Output
) -> dict[str, Tensor]:
    """Compute Jacobians (O, n, *shape of the parameter) by one backward pass per input and output."""
    copied, leaves = differentiable_copy(network, values)
    rows: list[tuple[Tensor, ...]] = []
    with torch.enable_grad():
        for one in x:
            f = copied(one[None].clone())
            if f.ndim != 2:
                # a network that squeezes the axis of a single input, which it does not do for two
                f = copied(torch.stack([one, one]))[:1]
            rows += [_gradients(f_o, list(leaves.values()), create_graph=x.requires_grad) for f_o in output(f)[0]]
    # One row per (input, output), in this order; the rows become (O, n, *shape of the parameter).
    stacked = [torch.stack(per_parameter) for per_parameter in zip(*rows, strict=True)]
    by_output = [t.view(len(x), -1, *t.shape[1:]).transpose(0, 1) for t in stacked]
    return dict(zip(leaves, by_output, strict=True))


def weighted_gradients(
    network: nn.Module, values: Mapping[str, Tensor], x: Tensor, output: Output
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Return random weights v (n, O), and the gradient of Σ_io v_io f_o(x_i) in each parameter by plain autograd.

    The gradient is None for a parameter that the outputs do not depend on.
    """
    copied, leaves = differentiable_copy(network, values)
    with torch.enable_grad():
        f = output(copied(x.detach().clone()))
        v = torch.randn(f.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(f)
        if not f.requires_grad:
            return v, dict.fromkeys(leaves)
        gradients = torch.autograd.grad(f, list(leaves.values()), v, allow_unused=True)
    return v, dict(zip(leaves, gradients, strict=True))


def is_jacobian(jacobian: Tensor, v: Tensor, gradient: Tensor | None) -> bool:
    """Return whether Σ_io v_io J_o(x_i) is the gradient of Σ_io v_io f_o(x_i), up to rounding.

    Args:
        jacobian: (O, n, *shape).
        v: random weights, (n, O).
        gradient: (*shape).
    """
    assert gradient is not None
    flat = jacobian.reshape(*jacobian.shape[:2], -1)
    difference = torch.einsum("no,onp->p", v, flat) - gradient.flatten()
    # Rounding is relative to the entries that are summed; entries far below the largest one are differences of larger ones.
    size = torch.linalg.vector_norm(flat, dim=(0, 1))
    allowed = torch.finfo(flat.dtype).eps ** 0.5 * (size + 1e-2 * size.max())
    return bool((difference.abs() <= allowed).all())


def _batched_jacobians(
    network: nn.Module, values: Mapping[str, Tensor], x: Tensor, output: Output
) -> dict[str, Tensor]:
    """Compute Jacobians (O, n, *shape) of all inputs and outputs in one pass; none where torch cannot batch the network."""
    if not values:
        return {}
    copied = sharing_copy(network)

    def outputs(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        return output(functional_call(copied, parameters, (one[None],)))[0]

    try:
        with warnings.catch_warnings(), torch.enable_grad():
            # an operation without a batching rule is run in a loop, with a warning
            warnings.filterwarnings("ignore", "There is a performance drop")
            detached = {name: p.detach() for name, p in values.items()}
            jacobian: dict[str, Tensor] = vmap(jacrev(outputs), (None, 0), out_dims=1)(detached, x.detach().clone())
    except Exception:  # torch raises errors of many types, and the network runs without torch.func in any case
        return {}
    return {name: block.detach() for name, block in jacobian.items()}


def _gradients(f: Tensor, leaves: list[nn.Parameter], *, create_graph: bool) -> tuple[Tensor, ...]:
    """Return the gradient of one number in each leaf, zero where it does not depend on it."""
    if not f.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    return torch.autograd.grad(f, leaves, retain_graph=True, create_graph=create_graph, materialize_grads=True)
