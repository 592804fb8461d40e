"""Recordings of a run of a network: which layers were called on which inputs, and how often each parameter was used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.empirical.broadcasts import Broadcasts
from ntklens.kernels.empirical.copies import differentiable_copy
from ntklens.kernels.empirical.layers import STRUCTURED, is_per_input, layer_class
from ntklens.kernels.parametrisation import Scaled
from ntklens.modules import is_in_autocast

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]

_METHODS_OF_A_RUN = ("forward", "_conv_forward", "__call__")
"""Methods that compute a layer's output: where a layer has its own of any of them, it may compute something else."""


@dataclass
class RecordedCall:
    """One call of a layer in a run.

    Attributes:
        h: the layer's input, or None where the layer did not run on the batch with its own parameters.
        version: torch's count of in-place changes of h at the time of the call.
        output_numbers: numbers of the layer's output for one input.
        uses: how often each parameter enters the graph of the layer's output within this call, by its name.
    """

    h: Tensor | None
    version: int
    output_numbers: int
    uses: Counter[str]

    @property
    def is_usable(self) -> bool:
        """Whether the input is known and has not been overwritten since."""
        return self.h is not None and self.h._version == self.version


@dataclass
class Run:
    """One forward pass.

    Attributes:
        outputs: the network's outputs.
        uses: how often each parameter enters the graph of the outputs, by its name.
        calls: the calls of each layer that can be structured, by its name.
        broadcasts: numbers of the copies, for one input, of each parameter that is broadcast over the inputs and has no
            other use.
    """

    outputs: Tensor
    uses: Counter[str]
    calls: dict[str, list[RecordedCall]]
    broadcasts: dict[str, int]


class Slot(NamedTuple):
    """A parameter of a module.

    Attributes:
        path: its dotted path in the network.
        name: the name under which the network lists it; one of several paths where it is shared.
        factor: what it is multiplied by in the module's forward.
    """

    path: str
    name: str
    factor: float


@contextmanager
def hooked(network: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Register forward hooks by the names of their layers, for as long as the context lasts."""
    handles = [network.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def record_run(network: nn.Module, x: Tensor, names: Collection[str], twins: tuple[int, int] = (0, 1)) -> Run:
    """Run the network on a batch and record it.

    Args:
        network: the network; it is copied.
        x: (n, *shape).
        names: the parameters whose uses are counted.
        twins: places of two inputs in x that are equal.

    Raises:
        InputError: the outputs depend on chance, or torch cannot differentiate the run.
    """
    n, (first, second) = len(x), twins
    values = {name: p for name, p in network.named_parameters() if name in names}
    copied, leaves = differentiable_copy(network, values)
    parameters = dict(copied.named_parameters())
    ids = {id(leaf): name for name, leaf in leaves.items()}
    layers = structured_layers(copied)
    slots = {name: [slot for slot in slots_of(copied, name) if slot is not None] for name in layers}
    calls: dict[str, list[RecordedCall]] = {name: [] for name in layers}

    def watch(name: str) -> Hook:
        def hook(layer: nn.Module, arguments: Any, output: Tensor) -> None:
            if is_in_autocast(x.device):
                raise InputError(
                    "expected a network that computes in the precision of its inputs; got torch.autocast around its layer "
                    f"`{name}`, where a kernel would have two digits. Leave autocast out of its forward while the kernel "
                    "is taken; autocast around the call of the kernel or the tracker has no effect on it."
                )
            h = arguments[0] if len(arguments) == 1 else None
            # The layer ran on the batch if the first axis of its input has the batch's length and treats inputs apart,
            # and equal inputs of the network have equal inputs at their places. It ran with its own parameters if those
            # are the network's: a network may call its layers with other weights (as by torch.func.functional_call).
            is_batch = isinstance(h, Tensor) and h.ndim > 0 and len(h) == n and is_per_input(layer, h)
            is_own = is_batch and all(attrgetter(slot.path)(copied) is parameters[slot.name] for slot in slots[name])
            if h is not None and is_own and nearly_equal(h[first], h[second], largest(h[[first, second]])):
                uses = _named(_uses_of_leaves(output, h), ids)
                calls[name].append(RecordedCall(h, h._version, output[0].numel(), uses))
            else:
                calls[name].append(RecordedCall(None, 0, 0, Counter()))

        return hook

    devices = [x.device] if x.is_cuda else []
    hooks = {name: watch(name) for name in layers}
    mode = Broadcasts(leaves, n)
    with torch.enable_grad(), torch.random.fork_rng(devices), hooked(copied, hooks), mode:
        before = _random_state(x)
        # With a graph to x, checkpoints in the reentrant way are seen in the graph of the outputs, whatever precedes them.
        f: Tensor = copied((x.detach().requires_grad_() if x.is_floating_point() else x).clone())
        if not torch.equal(before, _random_state(x)):
            raise not_a_function("depend on chance")
        mode.is_forward = False
        uses = _named(_uses_of_leaves(f), ids)
        broadcasts = _broadcasts(f, mode, ids, first)
    return Run(f.detach(), uses, calls, broadcasts)


def structured_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that run as layers of torch do, by their names."""
    return {name: layer for name, layer in network.named_modules() if _is_structured(layer)}


def slots_of(network: nn.Module, module: str) -> tuple[Slot | None, Slot | None]:
    """Return the weight and the bias of a module, None for one that it does not have."""
    layer = network.get_submodule(module)
    prefix = f"{module}." if module else ""
    parametrized = getattr(layer, "parametrizations", {})
    names = {id(p): name for name, p in network.named_parameters()}

    def slot(key: str) -> Slot | None:
        path, factor = key, 1.0
        if key in parametrized:
            path, factor = f"parametrizations.{key}.original", parametrized[key][0].factor
        try:
            name = names.get(id(attrgetter(path)(layer)))
        except AttributeError:
            return None
        return None if name is None else Slot(prefix + path, name, factor)

    return slot("weight"), slot("bias")


def not_a_function(why: str) -> InputError:
    """Return the error for a network whose outputs depend on more than their own input."""
    return InputError(
        f"expected outputs that each depend on one input alone; got outputs that {why}. Call model.eval() first."
    )


def reentrant_checkpoint() -> InputError:
    """Return the error for a network whose gradients torch.autograd.grad does not compute."""
    return InputError(
        "expected a network that torch.autograd.grad can differentiate; got torch.utils.checkpoint with "
        "use_reentrant=True. Call it with use_reentrant=False."
    )


def nearly_equal(a: Tensor, b: Tensor, size: float) -> bool:
    """Return whether two results are equal up to rounding, `size` being the largest entry around them."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * size, equal_nan=True)


def largest(t: Tensor) -> float:
    """Return the largest finite magnitude in a tensor of floats, and 0 for others."""
    return float(t.detach().nan_to_num(0, 0, 0).abs().max()) if t.is_floating_point() and t.numel() else 0.0


def _is_structured(layer: nn.Module) -> bool:
    """Return whether this is a layer of torch with torch's own forward, in torch's or our parametrisation."""
    if not isinstance(layer, STRUCTURED):
        return False
    cls, torchs = type(layer), layer_class(layer)
    if any(name in vars(layer) or getattr(cls, name, 0) is not getattr(torchs, name, 0) for name in _METHODS_OF_A_RUN):
        return False
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    parametrized = getattr(layer, "parametrizations", {})
    return all(len(steps) == 1 and isinstance(steps[0], Scaled) for steps in parametrized.values())


def _random_state(x: Tensor) -> Tensor:
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def _broadcasts(f: Tensor, mode: Broadcasts, ids: Mapping[int, str], first: int) -> dict[str, int]:
    """Return the parameters that were broadcast over the inputs and have no other use, as in `Run`.

    Copies must belong to the inputs of their rows: no output of one input may depend on the copy in another row.
    """
    uses = mode.uses
    if not uses or f.ndim != 2 or not f.requires_grad:
        return {}
    elsewhere = _named(_uses_of_leaves(f, *(use.copies for use in uses)), ids)
    zeros = [use.zero for use in uses]
    gradients = torch.autograd.grad(f[first].sum(), zeros, retain_graph=True, materialize_grads=True)
    numbers: Counter[str] = Counter()
    mixed = set(elsewhere)
    for use, gradient in zip(uses, gradients, strict=True):
        numbers[use.name] += use.zero[0].numel()
        others = torch.cat([gradient[:first], gradient[first + 1 :]])
        mixed |= {use.name} if others.any() else set()
    return {name: number for name, number in numbers.items() if name not in mixed}


def _uses_of_leaves(f: Tensor, *before: Tensor) -> Counter[int]:
    """Count how often each leaf enters the graph of f, by the leaf's id; without the parts that lead to `before`.

    Raises:
        InputError: a part of the graph is a checkpoint that plain gradients do not pass.
    """
    uses: Counter[int] = Counter()
    waiting, visited = [f.grad_fn], {f.grad_fn, *(t.grad_fn for t in before)}
    while waiting:
        node = waiting.pop()
        if node is not None and node.name() == "CheckpointFunctionBackward":
            raise reentrant_checkpoint()
        for following, _ in node.next_functions if node is not None else ():
            leaf = getattr(following, "variable", None)  # nodes that accumulate a leaf's gradient have it
            if leaf is not None:
                uses[id(leaf)] += 1
            elif following not in visited:
                visited.add(following)
                waiting.append(following)
    return uses


def _named(uses: Counter[int], names: Mapping[int, str]) -> Counter[str]:
    """Return counts by the names of the leaves."""
    return Counter({names[leaf]: count for leaf, count in uses.items() if leaf in names})
