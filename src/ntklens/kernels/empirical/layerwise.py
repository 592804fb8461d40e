"""Structured tangents of layers, from what enters them and what comes back to them: no Jacobian is formed.

One forward and O backward passes of the whole batch give the inputs h and the cotangents δ = ∂f_o/∂z of all layers that
`observe` classes as structured (Novak et al. 2022, section 3.3); `layers.tangent` turns them into tangents. Other
parameters get plain Jacobians from `jacobians`, which is also the readable twin of this method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.empirical.batched_operations import BATCHED, operations
from ntklens.kernels.empirical.layers import Call, tangent
from ntklens.kernels.empirical.plan import Plan
from ntklens.kernels.empirical.recording import Hook
from ntklens.kernels.empirical.tangents import Tangents

_BATCHED_PASS = 1 << 22
"""Numbers of all cotangents of one output below which the backward passes of all outputs run as one batch.

The overhead of operations dominates small passes, and a batch pays it once. Large passes gain nothing, and a batch of
them would hold the intermediate results of all outputs at the same time.
"""


class ForwardPass:
    """A forward pass of a batch, from which the tangents of any of its outputs can be computed.

    The tangents keep a graph to x where x requires a gradient, and none otherwise.

    Args:
        network: a copy of the network for this pass alone. Its hooks stay, because torch.utils.checkpoint runs layers
            again in the backward passes.
        plan: which of its layers are structured.
        x: (n, *shape).
    """

    def __init__(self, network: nn.Module, plan: Plan, x: Tensor) -> None:
        self._network = network
        self._plan = plan
        self._keep_graph = x.requires_grad
        self._calls: list[tuple[str, Tensor, Tensor]] = []  # name of the module, its input h, the zero added to z
        self._modules = dict.fromkeys(module for layer in plan.layers.values() for module in layer.modules)
        self._n = len(x)
        self._is_forward = True
        for name in self._modules:
            network.get_submodule(name).register_forward_hook(self._watch(name))
        with torch.enable_grad():
            self._f: Tensor = network(x.clone())  # a clone, because a network may write into its input
        self._is_forward = False
        uncalled = self._modules.keys() - {name for name, _, _ in self._calls}
        if uncalled:
            raise _not_as_planned(uncalled.pop(), "is not called for some of them")

    def tangents(self, output: Callable[[Tensor], Tensor]) -> Tangents:
        """Return the tangents of the plan's layers.

        Args:
            output: takes the network's outputs (n, O) to those that are differentiated.
        """
        keep_graph = self._keep_graph
        with torch.enable_grad():
            cotangents = _cotangents(output(self._f), [zero for _, _, zero in self._calls], keep_graph=keep_graph)
        calls: dict[str, list[Call]] = {name: [] for name in self._modules}
        for (name, h, _), cotangent in zip(self._calls, cotangents, strict=True):
            calls[name].append((self._network.get_submodule(name), h if keep_graph else h.detach(), cotangent))
        with torch.set_grad_enabled(keep_graph):
            return {
                name: tangent(
                    [call for module in layer.modules for call in calls[module]], layer.weight_scale, layer.bias_scale
                )
                for name, layer in self._plan.layers.items()
            }

    def _watch(self, name: str) -> Hook:
        def hook(_: nn.Module, arguments: Any, z: Tensor) -> Tensor:
            zero = z.new_zeros(()).requires_grad_().expand_as(z)
            if not self._is_forward:
                return z + zero  # a checkpoint runs the layer again, and must find the same graph
            if len(arguments[0]) != self._n:
                raise _not_as_planned(name, f"runs on {len(arguments[0])} of {self._n} of them")
            # δ is taken at a zero that is added to z: z itself may be overwritten, as nn.ReLU(inplace=True) does.
            self._calls.append((name, arguments[0], zero))
            return z + zero

        return hook


def _not_as_planned(layer: str, what: str) -> InputError:
    """Return the error for a layer that some inputs do not reach."""
    return InputError(
        f"expected layers that run on all inputs, as `{layer}` does on the first; it {what}. "
        "Use empirical_kernel(..., layerwise=False) for a network that chooses layers by the values of its inputs."
    )


def _cotangents(f: Tensor, zeros: list[Tensor], *, keep_graph: bool) -> list[Tensor]:
    """Return ∂f_o/∂z (O, n, *) at each of the zeros added to z, from outputs f (n, O)."""
    if not f.requires_grad:
        return [zero.new_zeros(f.shape[1], *zero.shape) for zero in zeros]
    # An output of one input depends on no other input, so the gradient of Σ_i f_o(x_i) holds those of all inputs.
    outputs = f.unbind(1)
    if keep_graph:
        passes = [torch.autograd.grad(f_o.sum(), zeros, create_graph=True, materialize_grads=True) for f_o in outputs]
        return [torch.stack(per_output) for per_output in zip(*passes, strict=True)]
    if len(outputs) > 1 and sum(zero.numel() for zero in zeros) < _BATCHED_PASS:
        batched = _batched_cotangents(f, zeros)
        if batched is not None:
            return batched
    cotangents = [zero.new_empty(len(outputs), *zero.shape) for zero in zeros]
    for o, f_o in enumerate(outputs):
        gradients = torch.autograd.grad(f_o.sum(), zeros, retain_graph=True, materialize_grads=True)
        for place, gradient in zip(cotangents, gradients, strict=True):
            place[o] = gradient
    return cotangents


def _batched_cotangents(f: Tensor, zeros: list[Tensor]) -> list[Tensor] | None:
    """Return the cotangents of all outputs from one batched pass, or None where torch cannot batch an operation.

    Where the graph of f has operations whose batched backward is not known to be right, the result is compared with one
    more backward pass: Σ_o v_io δ_o for random weights v is the cotangent of Σ_o v_io f_o(x_i). None where they differ.
    """
    n, o = f.shape
    # one cotangent of f per output, (O, n, O); contiguous, so that the last layer multiplies them in a single product
    unit = torch.eye(o, dtype=f.dtype, device=f.device)[:, None].expand(o, n, o).contiguous()
    try:
        gradients = torch.autograd.grad(f, zeros, unit, retain_graph=True, is_grads_batched=True, allow_unused=True)
    except RuntimeError:
        return None
    if not operations(f) <= BATCHED:
        v = torch.randn(n, o, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(f)
        sums = torch.autograd.grad(f, zeros, v, retain_graph=True, allow_unused=True)
        for batched, expected in zip(gradients, sums, strict=True):
            if (batched is None) != (expected is None):
                return None
            if batched is not None and expected is not None and not _is_weighted_sum(expected, v, batched):
                return None
    return [
        zero.new_zeros(o, *zero.shape) if gradient is None else gradient.detach()
        for gradient, zero in zip(gradients, zeros, strict=True)
    ]


def _is_weighted_sum(expected: Tensor, v: Tensor, cotangents: Tensor) -> bool:
    """Return whether Σ_o v_io δ_oi is what is expected, up to rounding."""
    difference = torch.einsum("no,on...->n...", v, cotangents) - expected
    size = torch.linalg.vector_norm(cotangents, dim=0)
    allowed = torch.finfo(expected.dtype).eps ** 0.5 * (size + 1e-2 * size.max())
    return bool((difference.abs() <= allowed).all())
