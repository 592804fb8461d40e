"""A tensor that records what a module's forward does to it, and the nodes that this yields.

Which torch functions are understood, and how, stands in `ntklens.kernels.tracing.layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import UnsupportedLayer
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules.graph import Node
from ntklens.kernels.rules.operations import Operation, Scales

Handler = Callable[..., "Traced"]
HANDLERS: dict[Any, Handler] = {}
"""Torch function -> how it is recorded; filled by `ntklens.kernels.tracing.layers`."""

REFUSALS: dict[Any, str] = {}
"""Torch function -> why it has no infinite-width rule and what to use in its place."""


class Traced(Tensor):
    """A meta tensor that knows the graph node it is the output of."""

    node: int
    tracer: Tracer

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record the function, or refuse it; shapes and other plain facts are simply answered."""
        kwargs = kwargs or {}
        tracer = next(a.tracer for a in _flat((args, kwargs)) if isinstance(a, Traced))
        if func in HANDLERS:
            made = HANDLERS[func](tracer, *args, **kwargs)
            if kwargs.get("inplace") or _is_inplace(_name(func)):
                args[0].node = made.node  # every name the user has for this tensor sees the change
                return args[0]
            return made
        if func in REFUSALS:
            raise tracer.refusal(_name(func), REFUSALS[func])
        try:
            with torch._C.DisableTorchFunctionSubclass():
                result = func(*args, **kwargs)
        except (NotImplementedError, RuntimeError) as error:
            why = "its result depends on the values of the input, which a kernel does not have"
            raise tracer.refusal(_name(func), why) from error
        if any(isinstance(t, Tensor) for t in _flat(result)):
            raise tracer.refusal(_name(func), "no rule is known for it")
        return result


class Tracer:
    """Collects the nodes of one forward pass.

    `roots` says for each node which layers' outputs it is linear in. A node with roots is a centred Gaussian in the
    limit; nodes with disjoint roots are uncorrelated, because the layers' weights are independent and have mean zero.
    The data and the outputs of activations have none (None). Nor has a sum of one of them with such a Gaussian, whose
    covariances add all the same: a layer or a pooling may read it, an activation may not (`mixed` tells why).
    """

    def __init__(self, module: nn.Module, values: dict[str, Tensor], parametrisation: Parametrisation) -> None:
        self.module = module
        self.values = values
        self.parametrisation = parametrisation
        self.nodes: list[Node] = []
        self.roots: list[frozenset[int] | None] = []
        self.mixed: set[int] = set()
        self.path: list[str] = []
        self.names = {id(t): name for name, t in tensors(module).items()}
        self.used: dict[str, str] = {}

    def add(self, operation: Operation, inputs: list[Traced], shape: Iterable[int]) -> Traced:
        """Append a node whose output has this shape (the first axis is the batch)."""
        _, *rest = shape
        self.nodes.append(Node(operation, tuple(t.node for t in inputs), self.where, tuple(rest)))
        before = [self.roots[t.node] for t in inputs]
        self.roots.append(self._roots_of_new(operation, before))
        if operation.is_linear and not operation.is_layer and self._mixes(inputs, before):
            self.mixed.add(len(self.nodes) - 1)
        return self.tag((2, *rest), len(self.nodes) - 1)

    def _mixes(self, inputs: list[Traced], before: list[frozenset[int] | None]) -> bool:
        return any(t.node in self.mixed for t in inputs) or (None in before and any(before))

    def _roots_of_new(self, operation: Operation, before: list[frozenset[int] | None]) -> frozenset[int] | None:
        if operation.is_layer:
            return frozenset({len(self.nodes) - 1})
        if not before or not operation.is_linear or None in before:
            return None
        return frozenset().union(*(r for r in before if r is not None))

    def tag(self, shape: Iterable[int], node: int) -> Traced:
        """A tensor of this shape that stands for a node."""
        traced: Traced = torch.empty(tuple(shape), device="meta").as_subclass(Traced)
        traced.node, traced.tracer = node, self
        return traced

    def layers_behind(self, t: Traced) -> set[int]:
        """The layers with parameters between the input and this tensor; empty for the data."""
        seen, stack = set(), [t.node]
        while stack:
            i = stack.pop()
            if i not in seen:
                seen.add(i)
                stack.extend(self.nodes[i].inputs)
        return {i for i in seen if self.nodes[i].operation.is_layer}

    @property
    def where(self) -> str:
        """Dotted name of the module whose forward runs now."""
        return self.path[-1] if self.path else ""

    def layer(self, weight: Tensor, bias: Tensor | None) -> Scales:
        """The scales of the layer that owns this weight, which must be a parameter that no other layer has used."""
        name = self.names.get(id(weight))
        if name is None:
            raise self.refusal("a weight", "it is computed from others, so that it is not a free Gaussian parameter")
        if name in self.used:
            why = f"its weight `{name}` was used before at `{self.used[name]}`; shared weights correlate the layers"
            raise self.refusal("a layer", why)
        self.used[name] = self.where
        w_std, b_std = self.parametrisation.of(name.rpartition(".")[0])
        b_std = 0.0 if bias is None else b_std
        if self.parametrisation.kind == "standard":
            return Scales(w_std, b_std, float(weight[0].numel()), float(bias is not None))
        return Scales(w_std, b_std, w_std**2, b_std**2)

    def constant(self, parameter: Tensor | None, default: float) -> float | None:
        """The one value of a parameter or buffer of the user's module; `default` without it, None when it varies."""
        if parameter is None:
            return default
        held = self.values.get(self.names.get(id(parameter), ""))
        if held is None:
            return None
        value = held.detach().flatten()
        return float(value[0]) if bool((value == value[0]).all()) else None

    def refusal(self, what: str, why: str) -> UnsupportedLayer:
        """The sentence for something that has no rule: where, what, why, the path to it and a way out."""
        owner = self.module.get_submodule(self.where) if self.where else self.module
        label = f"`{self.where}` ({type(owner).__name__})" if self.where else f"the forward of {type(owner).__name__}"
        seen = [n.path for n in self.nodes if n.path]
        trail = " -> ".join(["input", *dict.fromkeys(seen), self.where or what])
        return UnsupportedLayer(
            f"no infinite-width rule for {label}: {what}: {why}\n  path: {trail}\n"
            "  or: ntklens.empirical_kernel(module) takes the network as it is, at its own width."
        )

    @contextmanager
    def hooked(self, module: nn.Module) -> Iterator[None]:
        """Follow which submodule is running, for as long as the trace lasts."""

        def leave(child: nn.Module, args: Any, out: Any) -> None:
            self.path.pop()

        handles = []
        for name, child in module.named_modules():

            def enter(child: nn.Module, args: Any, name: str = name) -> None:
                self.path.append(name)

            handles.append(child.register_forward_pre_hook(enter))
            handles.append(child.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _flat(value: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _name(func: Any) -> str:
    name = getattr(func, "__name__", str(func))
    return name if name != "__get__" else str(func)


def _is_inplace(name: str) -> bool:
    """Torch's spelling of in-place functions: `add_`, and `__iadd__` of Python's."""
    return name.startswith("__i") if name.startswith("__") else name.endswith("_")
