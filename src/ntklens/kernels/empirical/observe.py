"""Which parameters of a network have tangents in closed form, seen from two runs of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ntklens.errors import InputError
from ntklens.kernels.empirical.sites import KINDS, family, kind, takes
from ntklens.kernels.parametrisation import Scaled

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]


@dataclass(frozen=True)
class Layer:
    """A weight and a bias that are used in the same calls, or one of the two.

    Attributes:
        sites: the modules that use them.
        kind: of those modules.
        parameters: the names of the two that move.
        weight: scale of the weight; 0 where it does not move.
        bias: scale of the bias, likewise.
    """

    sites: tuple[str, ...]
    kind: type[nn.Module]
    parameters: tuple[str, ...]
    weight: float
    bias: float


@dataclass(frozen=True)
class Plan:
    """How the tangents of a network are to be had.

    Attributes:
        layers: those in closed form, by the name of their module, or of a parameter that several modules share.
        rest: scales of the parameters that are left to plain Jacobians.
        outputs: number of outputs.
        dtype: of the outputs.
        fixed: numbers that one input takes, whatever the outputs.
        each: numbers that each output of one input takes.
    """

    layers: dict[str, Layer]
    rest: dict[str, float]
    outputs: int
    dtype: torch.dtype
    fixed: int
    each: int

    def entries(self, rows: int) -> int:
        """Numbers that the tangents of so many outputs of one input take, and the passes that find them."""
        return self.fixed + rows * self.each


@dataclass
class _Call:
    """What entered a layer, or None where it did not run on the batch by its own parameters, and the numbers it gave."""

    entered: Tensor | None
    version: int
    leaving: int

    @property
    def good(self) -> bool:
        """Whether what entered is still there."""
        return self.entered is not None and self.entered._version == self.version


@dataclass
class _Run:
    """What one run has shown."""

    outputs: Tensor
    uses: Counter[str]
    calls: dict[str, list[_Call]]


def observe(network: nn.Module, scales: Mapping[str, float], x: Tensor, *, layerwise: bool) -> Plan:
    """Run the network on copies of one input (1, *shape), and say which parameters have tangents in closed form.

    Raises:
        InputError: outputs are not (n, O), or depend on chance or on the rest of the batch.
    """
    runs = [_run(network, batch) for batch in (torch.cat([x, x]), torch.cat([x, x, torch.zeros_like(x)]))]
    f, again = (run.outputs for run in runs)
    if f.ndim != 2:
        raise InputError(f"a network with outputs of shape (n, O) was expected; {tuple(f.shape)} for n = 2 came.")
    if not _same(f[:1], again[:1], _largest(f)):
        raise _not_a_function("depend on the rest of the batch")
    layers = _layers(network, scales, runs) if layerwise else {}
    taken = {name for layer in layers.values() for name in layer.parameters}
    rest = {name: scale for name, scale in scales.items() if name not in taken}
    sites = [call for name in {s for layer in layers.values() for s in layer.sites} for call in runs[0].calls[name]]
    fixed = sum((0 if call.entered is None else call.entered[0].numel()) + 3 * call.leaving for call in sites)
    each = sum(call.leaving for call in sites) + max((2 * call.leaving for call in sites), default=0)
    each += 3 * sum(p.numel() for name, p in network.named_parameters() if name in rest)
    return Plan(layers, rest, f.shape[1], f.dtype, fixed, each)


@contextmanager
def hooked(network: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Forward hooks by the names of their layers, for as long as the context lasts."""
    handles = [network.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(network: nn.Module, scales: Mapping[str, float], runs: list[_Run]) -> dict[str, Layer]:
    """Weights and biases all of whose uses are calls of modules that are understood."""
    known = {name: layer for name, layer in network.named_modules() if _is_known(layer)}
    slots = {module: _slots(network, module) for module in known if runs[0].calls[module]}
    sites: dict[str, list[tuple[str, int, float]]] = {}
    for module, both in slots.items():
        for i, slot in enumerate(both):
            if slot is not None and slot.name in scales:
                sites.setdefault(slot.name, []).append((module, i, slot.factor))

    def is_closed(name: str) -> bool:
        modules = [module for module, _, _ in sites[name]]
        alike = {(family(known[module]), i, factor) for module, i, factor in sites[name]}
        counted = all(run.uses[name] == sum(len(run.calls[module]) for module in modules) for run in runs)
        return len(alike) == 1 and counted and all(call.good for r in runs for m in modules for call in r.calls[m])

    closed = {name: tuple(module for module, _, _ in sites[name]) for name in sites if is_closed(name)}
    layers: dict[str, Layer] = {}
    for module, both in slots.items():
        moving = [slot for slot in both if slot is not None and slot.name in scales]
        own = [slot for slot in moving if closed.get(slot.name, ("",))[0] == module and slot.name in closed]
        joined = len(own) == len(moving) and len({closed[slot.name] for slot in own}) == 1
        for group in [own] if joined else [[slot] for slot in own]:
            names = [slot.name for slot in group]
            weight, bias = (
                slot.factor * scales[slot.name] if slot is not None and slot.name in names else 0.0 for slot in both
            )
            key = module if joined else names[0]
            layers[key] = Layer(closed[names[0]], kind(known[module]), tuple(names), weight, bias)
    return layers


def _run(network: nn.Module, x: Tensor) -> _Run:
    """Outputs, how often each parameter was used on the way to them, and the calls of layers that are understood."""
    n = len(x)
    known = {name: layer for name, layer in network.named_modules() if _is_known(layer)}
    slots = {name: [slot for slot in _slots(network, name) if slot is not None] for name in known}
    leaves = {name: p.detach().requires_grad_() for name, p in network.named_parameters()}
    calls: dict[str, list[_Call]] = {name: [] for name in known}

    def watch(name: str) -> Hook:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            h = inputs[0] if len(inputs) == 1 else None
            good = isinstance(h, Tensor) and h.ndim > 0 and len(h) == n and takes(layer, h)
            good = good and all(attrgetter(slot.path)(network) is leaves[slot.name] for slot in slots[name])
            if h is not None and good and _same(h[0], h[1], _largest(h[:2])):
                calls[name].append(_Call(h, h._version, output[0].numel()))
            else:
                calls[name].append(_Call(None, 0, 0))

        return hook

    devices = [x.device] if x.is_cuda else []
    hooks = {name: watch(name) for name in known}
    with torch.enable_grad(), torch.random.fork_rng(devices), hooked(network, hooks):
        before = _random_state(x)
        f: Tensor = functional_call(network, leaves, (x,))
        if not torch.equal(before, _random_state(x)):
            raise _not_a_function("depend on chance")
    uses = _uses(f)
    return _Run(f.detach(), Counter({name: uses[id(leaf)] for name, leaf in leaves.items()}), calls)


def _not_a_function(why: str) -> InputError:
    return InputError(
        f"the network's outputs for an input {why}, so it has no kernel of single inputs; call model.eval() first."
    )


def _random_state(x: Tensor) -> Tensor:
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def _uses(f: Tensor) -> Counter[int]:
    """How often each leaf enters the graph of f, by id."""
    uses: Counter[int] = Counter()
    waiting, seen = [f.grad_fn], {f.grad_fn}
    while waiting:
        node = waiting.pop()
        for follower, _ in node.next_functions if node is not None else ():
            leaf = getattr(follower, "variable", None)
            if leaf is not None:
                uses[id(leaf)] += 1
            elif follower not in seen:
                seen.add(follower)
                waiting.append(follower)
    return uses


def _is_known(layer: nn.Module) -> bool:
    """Whether this is a layer of torch with torch's own forward, in torch's or our parametrisation."""
    if not isinstance(layer, KINDS) or type(layer).forward is not kind(layer).forward:
        return False
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    changed = getattr(layer, "parametrizations", {})
    return all(len(steps) == 1 and isinstance(steps[0], Scaled) for steps in changed.values())


class Slot(NamedTuple):
    """A parameter of a module: its path there, the name under which the network lists it, and the factor between."""

    path: str
    name: str
    factor: float


def _slots(network: nn.Module, module: str) -> tuple[Slot | None, Slot | None]:
    """Weight and bias of a module, None where it has none."""
    layer = network.get_submodule(module)
    dot = f"{module}." if module else ""
    changed = getattr(layer, "parametrizations", {})
    listed = {id(p): name for name, p in network.named_parameters()}

    def slot(key: str) -> Slot | None:
        path, factor = (f"parametrizations.{key}.original", changed[key][0].factor) if key in changed else (key, 1.0)
        try:
            name = listed.get(id(attrgetter(path)(layer)))
        except AttributeError:
            return None
        return None if name is None else Slot(dot + path, name, factor)

    return slot("weight"), slot("bias")


def _same(a: Tensor, b: Tensor, size: float) -> bool:
    """Whether two results are one up to rounding."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * size, equal_nan=True)


def _largest(t: Tensor) -> float:
    return float(t.detach().nan_to_num(0, 0, 0).abs().max()) if t.is_floating_point() and t.numel() else 0.0
