"""Tangents of layers from what enters them and what comes back to them: no Jacobian is formed.

One forward and O backward passes of the whole batch give all inputs h and signals δ = ∂f_o/∂z of the layers that
`observe` has understood (Novak et al. 2022, section 3.3); `sites` says what each kind of layer makes of them. Other
parameters are left to `tangents.jacobians`, which is also the readable twin of this way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.kernels.observe import Hook, Plan, hooked
from ntklens.kernels.sites import Call, tangent
from ntklens.kernels.tangents import Tangents

_SMALL = 1 << 22
"""Numbers that come back in one pass, below which the passes of all outputs are made as one."""


def layer_tangents(network: nn.Module, plan: Plan, x: Tensor, output: Callable[[Tensor], Tensor]) -> Tangents:
    """Tangents of the layers of a plan; they keep a graph to x where it requires a gradient, and none otherwise.

    `output` takes the outputs (n, O) to those that are differentiated.
    """
    seen: list[tuple[str, Tensor, Tensor]] = []

    def watch(name: str) -> Hook:
        def hook(_: nn.Module, inputs: Any, out: Tensor) -> Tensor:
            # δ is taken at a zero added to z: z itself may be overwritten, as nn.ReLU(inplace=True) does.
            change = out.new_zeros(()).requires_grad_().expand_as(out)
            seen.append((name, inputs[0], change))
            return out + change

        return hook

    keep = x.requires_grad
    names = dict.fromkeys(name for layer in plan.layers.values() for name in layer.sites)
    with torch.enable_grad(), hooked(network, {name: watch(name) for name in names}):
        f = output(network(x))
        returned = _returned(f, [change for _, _, change in seen], keep=keep)
        calls: dict[str, list[Call]] = {name: [] for name in names}
        for (name, entered, _), back in zip(seen, returned, strict=True):
            calls[name].append((network.get_submodule(name), entered if keep else entered.detach(), back))
    with torch.set_grad_enabled(keep):
        return {
            key: tangent([call for name in layer.sites for call in calls[name]], layer.weight, layer.bias)
            for key, layer in plan.layers.items()
        }


def _returned(f: Tensor, changes: list[Tensor], *, keep: bool) -> list[Tensor]:
    """∂f_o/∂z of each change, (O, n, *), from outputs (n, O)."""
    rows = f.unbind(1)
    if keep:
        passes = [torch.autograd.grad(row.sum(), changes, create_graph=True, materialize_grads=True) for row in rows]
        return [torch.stack(part) for part in zip(*passes, strict=True)]
    if len(rows) > 1 and sum(change.numel() for change in changes) < _SMALL:
        together = _at_once(f, changes)
        if together is not None:
            return together
    returned = [change.new_empty(len(rows), *change.shape) for change in changes]
    for o, row in enumerate(rows):
        passed = torch.autograd.grad(row.sum(), changes, retain_graph=True, materialize_grads=True)
        for place, back in zip(returned, passed, strict=True):
            place[o] = back
    return returned


def _at_once(f: Tensor, changes: list[Tensor]) -> list[Tensor] | None:
    """All outputs in one pass, or None where an operation of the network has no rule for it."""
    n, o = f.shape
    each = torch.eye(o, dtype=f.dtype, device=f.device)[:, None].expand(o, n, o)
    try:
        passed = torch.autograd.grad(f, changes, each, retain_graph=True, is_grads_batched=True, allow_unused=True)
    except RuntimeError:
        return None
    return [
        change.new_zeros(o, *change.shape) if back is None else back.detach()
        for back, change in zip(passed, changes, strict=True)
    ]
