"""Tangents of dense and convolutional layers from what enters them and what comes back: no Jacobian is formed.

A dense layer z = W h has ∂f_o/∂W = δ_o ⊗ h with δ_o = ∂f_o/∂z, so its part of the tangent kernel is <h, h'> <δ_o, δ'_o>
(Novak et al. 2022, section 3.3). One forward and O backward passes of the whole batch give all h and δ. A convolution sums
such products over positions, which is done for each input.

This holds where a layer runs once on the batch and its parameters are used nowhere else: `observe` says where that is.
Parameters of all other layers are left to `tangents.jacobians`, which is also the readable twin of this file.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.kernels.observe import Hook, Plan, hooked
from ntklens.kernels.tangents import Tangent, Tangents


def layer_tangents(network: nn.Module, plan: Plan, x: Tensor, *, pseudo: bool) -> Tangents:
    """Tangents of the layers of a plan; they keep a graph to x where it requires a gradient, and none otherwise."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> Hook:
        def hook(_: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            # δ is taken at a zero added to z: z itself may be overwritten, as nn.ReLU(inplace=True) does.
            change = torch.zeros_like(output).requires_grad_()
            seen[name] = inputs[0], change
            return output + change

        return hook

    keep = x.requires_grad
    with torch.enable_grad(), hooked(network, {name: watch(name) for name in plan.layers}):
        f: Tensor = network(x)
        rows = [f.sum(1) / f.shape[1] ** 0.5] if pseudo else list(f.unbind(1))
        changes = [change for _, change in seen.values()]
        returned = [
            torch.autograd.grad(row.sum(), changes, retain_graph=True, create_graph=keep, materialize_grads=True)
            for row in rows
        ]
        blocks = {}
        for i, (name, (entered, _)) in enumerate(seen.items()):
            back = torch.stack([r[i] for r in returned], 1)
            entered, back = (entered, back) if keep else (entered.detach(), back.detach())
            blocks[name] = _tangent(network.get_submodule(name), entered, back, *plan.layers[name])
    return blocks


def _tangent(layer: nn.Module, h: Tensor, back: Tensor, w: float, b: float) -> Tangent:
    """From what entered, (n, *), and what came back, (n, O, *), with the scales of weight and bias."""
    if isinstance(layer, nn.Linear):
        return Tangent(torch.cat([w * h, h.new_full((len(h), 1), b)], 1), back)
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
    back = back.flatten(3)  # (n, O, channels, positions)
    by_group = back.reshape(*back.shape[:2], layer.groups, -1, back.shape[3])
    weight = w * by_group @ _patches(layer, h)[:, None]  # (n, O, groups, channels a group, fan-in)
    return Tangent(None, torch.cat([weight.flatten(2), b * back.sum(3)], 2))


def _patches(layer: nn.Conv1d | nn.Conv2d, h: Tensor) -> Tensor:
    """What each position of a convolution's output sees: (n, groups, positions, fan-in)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    h = F.pad(h, layer._reversed_padding_repeated_twice, mode=mode)
    flat = isinstance(layer, nn.Conv1d)
    one = (1,) if flat else ()
    columns = F.unfold(
        h[:, :, None] if flat else h,
        one + layer.kernel_size,
        dilation=one + layer.dilation,
        stride=one + layer.stride,
    )
    return columns.reshape(len(h), layer.groups, -1, columns.shape[2]).transpose(2, 3)
