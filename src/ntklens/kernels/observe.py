"""Which layers of a network have tangents that factor, seen from two runs of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ntklens.errors import InputError
from ntklens.kernels.parametrisation import Scaled

_AXES: dict[type[nn.Module], int] = {nn.Linear: 2, nn.Conv1d: 3, nn.Conv2d: 4}
"""Layers that are understood, and the axes of the batches that enter them."""

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]


@dataclass(frozen=True)
class Plan:
    """How the tangents of a network are to be had.

    Attributes:
        layers: for each layer that is understood, the scale of its weight and of its bias (0: it does not move).
        rest: scales of the parameters that are left to plain Jacobians.
        outputs: number of outputs.
        entries: numbers that the tangents of one input take, those of convolutions' patches included.
    """

    layers: dict[str, tuple[float, float]]
    rest: dict[str, float]
    outputs: int
    entries: int


def observe(network: nn.Module, scales: Mapping[str, float], x: Tensor, *, pseudo: bool, layerwise: bool) -> Plan:
    """Run the network on copies of one input (1, *shape), and say which layers' tangents factor.

    Raises:
        InputError: outputs are not (n, O), or depend on chance or on the rest of the batch.
    """
    pair, three = torch.cat([x, x]), torch.cat([x, x, torch.zeros_like(x)])
    f, found, sizes = _run(network, scales, pair)
    again, also, _ = _run(network, scales, three)
    if f.ndim != 2:
        raise InputError(f"a network with outputs of shape (n, O) was expected; {tuple(f.shape)} for n = 2 came.")
    size = float(f.nan_to_num(0, 0, 0).abs().max())
    if not torch.allclose(f[:1], again[:1], rtol=1e-3, atol=1e-4 * size, equal_nan=True):
        raise _not_a_function("depend on the rest of the batch")
    names = [name for name in found if name in also] if layerwise else []
    rows = 1 if pseudo else f.shape[1]
    layers: dict[str, tuple[float, float]] = {}
    rest = dict(scales)
    for name in names:
        weight, bias = _parameters(network.get_submodule(name), name)
        layers[name] = rest.pop(weight[0], 0.0) * weight[1], rest.pop(bias[0], 0.0) * bias[1]
    entries = sum(sizes[name](rows) for name in names)
    entries += 3 * rows * sum(p.numel() for name, p in network.named_parameters() if name in rest)
    return Plan(layers, rest, f.shape[1], entries)


@contextmanager
def hooked(network: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Forward hooks by the names of their layers, for as long as the context lasts."""
    handles = [network.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(
    network: nn.Module, scales: Mapping[str, float], x: Tensor
) -> tuple[Tensor, list[str], dict[str, Callable[[int], int]]]:
    """Outputs, the layers whose tangents factor, and the numbers an input takes there, given the output rows."""
    n = len(x)
    calls: Counter[str] = Counter()
    entered: dict[str, tuple[Tensor, int]] = {}
    sizes: dict[str, Callable[[int], int]] = {}

    def holds_its_own(name: str) -> bool:
        parameters = [p for p, _ in _parameters(known[name], name) if p in leaves]
        return all(attrgetter(p)(network) is leaves[p] for p in parameters)

    def watch(name: str) -> Hook:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            calls[name] += 1
            if inputs and inputs[0].ndim == _AXES[_kind(layer)] and len(inputs[0]) == n and holds_its_own(name):
                entered[name] = inputs[0], inputs[0]._version
                sizes[name] = _entries(layer, inputs[0][0].numel(), output[0].numel())

        return hook

    known = {name: layer for name, layer in network.named_modules() if _is_known(layer)}
    leaves = {name: p.detach().requires_grad_() for name, p in network.named_parameters()}
    devices = [x.device] if x.is_cuda else []
    hooks = {name: watch(name) for name in known}
    with torch.enable_grad(), torch.random.fork_rng(devices), hooked(network, hooks):
        before = _random_state(x)
        f: Tensor = functional_call(network, leaves, (x,))
        if not torch.equal(before, _random_state(x)):
            raise _not_a_function("depend on chance")
    uses = _uses(f)

    def is_product(name: str) -> bool:
        parameters = [p for p, _ in _parameters(known[name], name) if p in leaves]
        h, version = entered.get(name, (x, -1))
        alone = all(uses[id(leaves[p])] == 1 for p in parameters)
        return calls[name] == 1 and h._version == version and alone and any(p in scales for p in parameters)

    return f.detach(), [name for name in known if is_product(name)], sizes


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


def _kind(layer: nn.Module) -> type[nn.Module]:
    return next(kind for kind in _AXES if isinstance(layer, kind))


def _is_known(layer: nn.Module) -> bool:
    """Whether this is a layer of torch with torch's own forward, in torch's or our parametrisation."""
    if not isinstance(layer, tuple(_AXES)) or type(layer).forward is not _kind(layer).forward or layer._forward_hooks:
        return False
    changed = getattr(layer, "parametrizations", {})
    return all(len(steps) == 1 and isinstance(steps[0], Scaled) for steps in changed.values())


def _parameters(layer: nn.Module, name: str) -> list[tuple[str, float]]:
    """Names of the parameters that stand behind weight and bias, and the factor between."""
    dot = f"{name}." if name else ""
    changed = getattr(layer, "parametrizations", {})
    return [
        (f"{dot}parametrizations.{key}.original", changed[key][0].factor) if key in changed else (f"{dot}{key}", 1.0)
        for key in ("weight", "bias")
    ]


def _entries(layer: nn.Module, entering: int, leaving: int) -> Callable[[int], int]:
    """Numbers an input takes in one layer, as a function of the number of output rows."""
    if isinstance(layer, nn.Linear):
        return lambda rows: entering + (rows + 3) * leaving
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
    weights = layer.weight.numel()
    patches = leaving // layer.out_channels * layer.groups * layer.weight[0].numel()
    return lambda rows: entering + patches + (rows + 3) * leaving + 2 * rows * weights
