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

from ntklens.kernels.empirical.observe import Hook, Plan, hooked
from ntklens.kernels.empirical.sites import Call, tangent
from ntklens.kernels.empirical.tangents import Tangents

_SMALL = 1 << 22
"""Numbers that come back in one pass, below which the passes of all outputs are made as one."""


class Pass:
    """A forward pass of a batch, from which the tangents of any of its outputs can be had.

    They keep a graph to x where it requires a gradient, and none otherwise.
    """

    def __init__(self, network: nn.Module, plan: Plan, x: Tensor) -> None:
        self._network, self._plan, self._keep = network, plan, x.requires_grad
        self._seen: list[tuple[str, Tensor, Tensor]] = []
        self._names = dict.fromkeys(name for layer in plan.layers.values() for name in layer.sites)
        with torch.enable_grad(), hooked(network, {name: self._watch(name) for name in self._names}):
            self._f: Tensor = network(x)

    def tangents(self, output: Callable[[Tensor], Tensor]) -> Tangents:
        """Of the layers of the plan; `output` takes the outputs (n, O) to those that are differentiated."""
        keep = self._keep
        with torch.enable_grad():
            returned = _returned(output(self._f), [change for _, _, change in self._seen], keep=keep)
        calls: dict[str, list[Call]] = {name: [] for name in self._names}
        for (name, entered, _), back in zip(self._seen, returned, strict=True):
            layer = self._network.get_submodule(name)
            calls[name].append((layer, entered if keep else entered.detach(), back))
        with torch.set_grad_enabled(keep):
            return {
                key: tangent([call for name in layer.sites for call in calls[name]], layer.weight, layer.bias)
                for key, layer in self._plan.layers.items()
            }

    def _watch(self, name: str) -> Hook:
        def hook(_: nn.Module, inputs: Any, out: Tensor) -> Tensor:
            # δ is taken at a zero added to z: z itself may be overwritten, as nn.ReLU(inplace=True) does.
            change = out.new_zeros(()).requires_grad_().expand_as(out)
            self._seen.append((name, inputs[0], change))
            return out + change

        return hook


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
    each = torch.eye(o, dtype=f.dtype, device=f.device)[:, None].expand(o, n, o).contiguous()  # for one product
    try:
        passed = torch.autograd.grad(f, changes, each, retain_graph=True, is_grads_batched=True, allow_unused=True)
    except RuntimeError:
        return None
    return [
        change.new_zeros(o, *change.shape) if back is None else back.detach()
        for back, change in zip(passed, changes, strict=True)
    ]
