"""Structured tangents of layers, from what enters them and what comes back to them: no Jacobian is formed.

One forward and O backward passes of the whole batch give the inputs h and the cotangents δ = ∂f_o/∂z of all layers that
`observe` classes as structured (Novak et al. 2022, section 3.3); `layers.tangent` turns them into tangents. Other
parameters get plain Jacobians from `jacobians`, which is also the readable twin of this method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.empirical.batched_operations import BATCHED, operations
from ntklens.kernels.empirical.broadcasts import Broadcasts
from ntklens.kernels.empirical.layers import Call, entering, tangent
from ntklens.kernels.empirical.plan import Plan
from ntklens.kernels.empirical.recording import Hook
from ntklens.kernels.empirical.tangents import PlainTangent, Tangents

_BATCHED_PASS = 1 << 22
"""Numbers of all cotangents of one output below which the backward passes of all outputs run as one batch.

The overhead of operations dominates small passes, and a batch pays it once. Large passes gain nothing, and a batch of
them would hold the intermediate results of all outputs at the same time.
"""

_PART = 1 << 21
"""Numbers that the largest tensor of a pass may have on a processor, where the inputs do not all fit a batched pass."""


class ForwardPass:
    """A forward pass of a batch, from which the tangents of any of its outputs can be computed.

    The tangents keep a graph to x where x requires a gradient, and none otherwise. Without one, those of one call
    of `tangents` overwrite those of the call before.

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
        self._modules = dict.fromkeys(module for layer in plan.layers.values() for module in layer.modules)
        self._buffers: list[Tensor] = []
        self._recorded: _Part | None = None  # the part that is recorded at present
        for name in self._modules:
            network.get_submodule(name).register_forward_hook(self._watch(name))
        size = len(x) if self._keep_graph else _part_size(plan, x)
        self._parts = [self._run(part) for part in torch.split(x, size)]
        if any(part.shapes() != self._parts[0].shapes() for part in self._parts[1:]):
            self._parts = [self._run(x)]  # a network that calls layers by the values of its inputs
        uncalled = self._modules.keys() - {name for name, _, _ in self._parts[0].calls}
        if uncalled:
            raise _not_as_planned(uncalled.pop(), "is not called for some of them")
        with torch.set_grad_enabled(self._keep_graph):
            self._entering = [self._joined(i) for i in range(len(self._parts[0].calls))]

    def tangents(self, output: Callable[[Tensor], Tensor]) -> Tangents:
        """Return the tangents of the plan's layers.

        Args:
            output: takes the network's outputs (n, O) to those that are differentiated.
        """
        cotangents = self._cotangents(output)
        calls: dict[str, list[Call]] = {name: [] for name in self._modules}
        first = self._parts[0]
        for (name, _, _), h, cotangent in zip(first.calls, self._entering, cotangents, strict=False):
            calls[name].append((self._network.get_submodule(name), h, cotangent))
        sizes = {name: p.numel() for name, p in self._network.named_parameters()}
        with torch.set_grad_enabled(self._keep_graph):
            blocks: Tangents = {}
            for name, layer in self._plan.layers.items():
                if layer.modules:
                    of_layer = [call for module in layer.modules for call in calls[module]]
                    blocks[name] = tangent(of_layer, layer.weight_scale, layer.bias_scale)
                else:
                    jacobian = first.mode.jacobian(name, sizes[name], cotangents[len(first.calls) :])
                    blocks[name] = PlainTangent(layer.weight_scale * jacobian)
            return blocks

    def _run(self, x: Tensor) -> _Part:
        """Run the network on some inputs and record it."""
        names = {name for name, layer in self._plan.layers.items() if not layer.modules}
        parameters = {name: p for name, p in self._network.named_parameters() if name in names}
        part = self._recorded = _Part(Broadcasts(parameters, len(x)), len(x))
        with torch.enable_grad(), part.mode:
            part.f = self._network(x.clone())  # a clone, because a network may write into its input
        self._recorded = None
        part.mode.is_forward = False
        if names != {use.name for use in part.mode.uses}:
            raise _not_as_planned(
                next(iter(names ^ {use.name for use in part.mode.uses})), "is not used for some of them"
            )
        return part

    def _watch(self, name: str) -> Hook:
        def hook(_: nn.Module, arguments: Any, z: Tensor) -> Tensor:
            zero = z.new_zeros(()).requires_grad_().expand_as(z)
            part = self._recorded
            if part is None:
                return z + zero  # a checkpoint runs the layer again, and must find the same graph
            if len(arguments[0]) != part.n:
                raise _not_as_planned(name, f"runs on {len(arguments[0])} of {part.n} of them")
            # δ is taken at a zero that is added to z: z itself may be overwritten, as nn.ReLU(inplace=True) does.
            part.calls.append((name, arguments[0], zero))
            return z + zero

        return hook

    def _joined(self, i: int) -> Tensor:
        """Return what enters one call, for all parts."""
        pieces = [
            entering(self._network.get_submodule(name), h) for name, h, _ in (part.calls[i] for part in self._parts)
        ]
        pieces = pieces if self._keep_graph else [piece.detach() for piece in pieces]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _cotangents(self, output: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return ∂f_o/∂z (O, n, *) at the zeros of all calls and of all broadcasts, part by part."""
        first, keep_graph = self._parts[0], self._keep_graph
        with torch.enable_grad(), first.mode:
            f = output(first.f)
            if keep_graph or len(self._parts) == 1:
                whole = _passes_at_once(f, first.zeros(), keep_graph=keep_graph)
                if whole is not None:
                    return whole
        n, outputs = sum(part.n for part in self._parts), f.shape[1]
        if not self._buffers or self._buffers[0].shape[:2] != (n, outputs):
            self._buffers = [self._buffer(i, zero, n, outputs) for i, zero in enumerate(first.zeros())]
        start = 0
        for part in self._parts:
            with torch.enable_grad(), part.mode:
                _write_cotangents(output(part.f), part.zeros(), [t[start : start + part.n] for t in self._buffers])
            start += part.n
        return [t.transpose(0, 1) for t in self._buffers]

    def _buffer(self, i: int, zero: Tensor, n: int, outputs: int) -> Tensor:
        """Return a place for the cotangents of n inputs at one zero, (n, O, *).

        The inputs come first in memory, so that a part of them is one piece of it. The outputs come next to the channels,
        with which they are the rows of one matrix in the products: these are last in dense layers, else first.
        """
        calls = self._parts[0].calls
        if i < len(calls) and zero.ndim > 2 and isinstance(self._network.get_submodule(calls[i][0]), nn.Linear):
            return zero.new_empty(n, *zero.shape[1:-1], outputs, zero.shape[-1]).movedim(-2, 1)
        return zero.new_empty(n, outputs, *zero.shape[1:])


@dataclass
class _Part:
    """The recording of a forward pass of some of the inputs.

    Attributes:
        mode: the broadcasts.
        n: number of inputs.
        f: the network's outputs.
        calls: the name of the module, its input h, and the zero that is added to its output z, for each call.
    """

    mode: Broadcasts
    n: int
    f: Tensor = field(init=False)
    calls: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)

    def zeros(self) -> list[Tensor]:
        """Return the zeros of all calls and of all broadcasts."""
        return [*(zero for _, _, zero in self.calls), *(use.zero for use in self.mode.uses)]

    def shapes(self) -> list[tuple[str, torch.Size]]:
        """Return what the parts of one pass have in common: what was called, and its shapes."""
        calls = [(name, zero.shape[1:]) for name, _, zero in self.calls]
        return calls + [(use.name, use.zero.shape[1:]) for use in self.mode.uses]


def _part_size(plan: Plan, x: Tensor) -> int:
    """Return how many inputs one pass takes: those whose tensors stay in the processor's cache, in parts of equal size.

    Tensors of many inputs are taken from the system anew by each operation, which costs as much as the operation.
    """
    n = len(x)
    if x.is_cuda or not plan.largest or n * plan.per_output < _BATCHED_PASS:
        return n
    fitting = max(1, _PART // plan.largest)
    return -(-n // -(-n // fitting))


def _not_as_planned(layer: str, what: str) -> InputError:
    """Return the error for a layer that some inputs do not reach."""
    return InputError(
        f"expected layers that run on all inputs, as `{layer}` does on the first; it {what}. "
        "Use empirical_kernel(..., layerwise=False) for a network that chooses layers by the values of its inputs."
    )


def _passes_at_once(f: Tensor, zeros: list[Tensor], *, keep_graph: bool) -> list[Tensor] | None:
    """Return ∂f_o/∂z (O, n, *) at each of the zeros where all are stacked: with a graph, or from one batched pass.

    None where the outputs are to be passed one by one into tensors that are there already.
    """
    if not f.requires_grad:
        return [zero.new_zeros(f.shape[1], *zero.shape) for zero in zeros]
    if keep_graph:
        passes = [
            torch.autograd.grad(f_o.sum(), zeros, create_graph=True, materialize_grads=True) for f_o in f.unbind(1)
        ]
        return [torch.stack(per_output) for per_output in zip(*passes, strict=True)]
    if f.shape[1] > 1 and sum(zero.numel() for zero in zeros) < _BATCHED_PASS:
        return _batched_cotangents(f, zeros)
    return None


def _write_cotangents(f: Tensor, zeros: list[Tensor], places: list[Tensor]) -> None:
    """Write ∂f_o/∂z into places (n, O, *), from outputs f (n, O).

    An output of one input depends on no other input, so the gradient of Σ_i f_o(x_i) holds those of all inputs.
    """
    for o, f_o in enumerate(f.unbind(1)):
        if f.requires_grad:
            gradients = torch.autograd.grad(f_o.sum(), zeros, retain_graph=True, materialize_grads=True)
            for place, gradient in zip(places, gradients, strict=True):
                place[:, o] = gradient
        else:
            for place in places:
                place[:, o] = 0


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
