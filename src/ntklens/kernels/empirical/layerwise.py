"""Structured tangents of layers, from what enters them and what comes back to them: no Jacobian is formed.

One forward and O backward passes of the whole batch give the inputs h and the cotangents δ = ∂f_o/∂z of all layers that
`observe` classes as structured (Novak et al. 2022, section 3.3); `layers.tangent` turns them into tangents. Other
parameters get plain Jacobians from `tangents.jacobians`, which is also the readable twin of this method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.kernels.empirical.layers import Call, tangent
from ntklens.kernels.empirical.plan import Plan
from ntklens.kernels.empirical.recording import Hook, hooked
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
        network: the network; it is not altered.
        plan: which of its layers are structured.
        x: (n, *shape).
    """

    def __init__(self, network: nn.Module, plan: Plan, x: Tensor) -> None:
        self._network = network
        self._plan = plan
        self._keep_graph = x.requires_grad
        self._calls: list[tuple[str, Tensor, Tensor]] = []  # name of the module, its input h, the zero added to z
        self._modules = dict.fromkeys(module for layer in plan.layers.values() for module in layer.modules)
        with torch.enable_grad(), hooked(network, {name: self._watch(name) for name in self._modules}):
            self._f: Tensor = network(x)

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
            # δ is taken at a zero that is added to z: z itself may be overwritten, as nn.ReLU(inplace=True) does.
            zero = z.new_zeros(()).requires_grad_().expand_as(z)
            self._calls.append((name, arguments[0], zero))
            return z + zero

        return hook


def _cotangents(f: Tensor, zeros: list[Tensor], *, keep_graph: bool) -> list[Tensor]:
    """Return ∂f_o/∂z (O, n, *) at each of the zeros added to z, from outputs f (n, O)."""
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
    """Return the cotangents of all outputs from one batched pass, or None where torch cannot batch an operation."""
    n, o = f.shape
    # one cotangent of f per output, (O, n, O); contiguous, so that the last layer multiplies them in a single product
    unit = torch.eye(o, dtype=f.dtype, device=f.device)[:, None].expand(o, n, o).contiguous()
    try:
        gradients = torch.autograd.grad(f, zeros, unit, retain_graph=True, is_grads_batched=True, allow_unused=True)
    except RuntimeError:
        return None
    return [
        zero.new_zeros(o, *zero.shape) if gradient is None else gradient.detach()
        for gradient, zero in zip(gradients, zeros, strict=True)
    ]
