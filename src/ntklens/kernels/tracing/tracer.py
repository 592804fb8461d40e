"""A tensor that records what a module's forward does to it, and the nodes of the graph that the record consists of.

Which torch functions have a rule is told by two tables that `ntklens.kernels.tracing.trace` passes in. A function may also
carry its own handler, in the attribute `HANDLER`, as those of `ntklens.kernels.tracing.activations.activation` do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import UnsupportedLayer
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules.graph import Node
from ntklens.kernels.rules.operations import Flatten, Operation, Scales

Handler = Callable[..., "Traced"]
"""Records one call of a torch function: the tracer, then the arguments of the call -> the traced output."""

HANDLER = "_ntklens_handler"
"""Name of the attribute in which a function of the user carries its handler."""

_NO_RULE = "no rule is known for it in ntklens, though theory may have one"

BATCH = 2
"""Inputs in the batch of a traced tensor. With more than one, `squeeze` cannot take the batch axis for a channel."""


class Traced(Tensor):
    """A tensor without values that knows which node of the graph it is the output of."""

    node: int
    tracer: Tracer
    memory: list[Traced]
    """All traced tensors, this one among them, that are views of the same memory."""
    is_outdated: bool
    """Whether a function has changed the memory through another view, so that `node` is no longer what it holds."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record a call of a torch function, or refuse it; questions for plain facts, such as a shape, are answered."""
        kwargs = kwargs or {}
        tracer = next(a.tracer for a in _leaves((args, kwargs)) if isinstance(a, Traced))
        name = _name(func)
        # 1. A function with a handler is recorded.
        handler = tracer.handlers.get(func) or getattr(func, HANDLER, None)
        if handler is not None:
            for t in _leaves((args, kwargs)):
                if isinstance(t, Traced):
                    t.check_is_current(name)
            output = _call(handler, name, tracer, args, kwargs)
            if kwargs.get("inplace") or _is_inplace(name):
                # The tensor itself changes, so that every variable that refers to it sees the change. Views of another
                # shape change, too; their node is not known, so they are refused if the forward reads them again.
                args[0].node = output.node
                for view in args[0].memory:
                    view.is_outdated = view is not args[0]
                return args[0]
            return output
        # 2. A function that is known to have no rule is refused with the reason.
        if func in tracer.refusals:
            raise tracer.refusal(name, tracer.refusals[func])
        # 3. Any other function may tell facts about the tensor, such as its shape, and nothing else: it is run to see.
        try:
            with torch._C.DisableTorchFunctionSubclass():
                result = func(*args, **kwargs)
        except (NotImplementedError, RuntimeError) as error:
            raise tracer.refusal(name, _NO_RULE) from error
        if any(isinstance(t, Tensor) for t in _leaves(result)):
            raise tracer.refusal(name, _NO_RULE)
        return result

    def share_memory(self, view: Traced) -> Traced:
        """Note that another tensor is a view of this one's memory, and return it."""
        view.memory = self.memory
        self.memory.append(view)
        return view

    def check_is_current(self, name: str) -> None:
        """Refuse to read this tensor if its memory was changed through another view.

        Args:
            name: the function that reads it.

        Raises:
            UnsupportedLayer: it was.
        """
        if self.is_outdated:
            raise self.tracer.refusal(
                name,
                "it reads a tensor whose memory an in-place function has changed through a view of another shape; use the "
                "function that is not in place, such as F.relu for F.relu_",
            )


class Tracer:
    """Collects the nodes of one forward pass.

    `roots` tells for each node which layers' outputs it is a linear function of. A node with roots is a centred Gaussian
    at infinite width, and nodes without a common root are uncorrelated, because the weights of different layers are
    independent and have mean zero. The data and the outputs of activations have no roots (None).

    The sum of such a node and a Gaussian has no roots either. Its covariance is still the sum of the two, so layers and
    poolings may follow, but activations may not; `mixed` holds these sums and what was computed linearly from them.

    Args:
        module: the copy of the user's module that is traced, on the meta device.
        values: parameters and buffers of the user's module by name, with their values.
        parametrisation: standard deviations of the weights and biases.
        handlers: torch function -> how a call of it is recorded.
        refusals: torch function -> why it has no infinite-width rule, and what to use instead.
    """

    def __init__(
        self,
        module: nn.Module,
        values: dict[str, Tensor],
        parametrisation: Parametrisation,
        *,
        handlers: Mapping[Any, Handler],
        refusals: Mapping[Any, str],
    ) -> None:
        self.module = module
        self.values = values
        self.parametrisation = parametrisation
        self.handlers = handlers
        self.refusals = refusals
        self.nodes: list[Node] = []
        self.roots: list[frozenset[int] | None] = []
        self.mixed: set[int] = set()
        # Names of the submodules whose forward is running, the outermost first.
        self.path: list[str] = []
        # The forward hands over tensors, whose identity tells the name of the parameter.
        self.names = {id(t): name for name, t in tensors(module).items()}
        # Weight -> the submodule that has used it.
        self.used: dict[str, str] = {}

    def add(self, operation: Operation, inputs: list[Traced], shape: Iterable[int]) -> Traced:
        """Append a node whose output has this shape, of which the first axis is the batch."""
        _, *rest = shape
        index = len(self.nodes)
        self.nodes.append(Node(operation, tuple(t.node for t in inputs), self.where, tuple(rest)))
        input_roots = [self.roots[t.node] for t in inputs]
        self.roots.append(_roots(operation, index, input_roots))
        if operation.is_linear and not operation.is_layer and self._is_mixture(inputs, input_roots):
            self.mixed.add(index)
        return self.tag((BATCH, *rest), index)

    def _is_mixture(self, inputs: list[Traced], input_roots: list[frozenset[int] | None]) -> bool:
        """Whether one of the inputs is a mixture, or a Gaussian meets something that is not Gaussian."""
        return any(t.node in self.mixed for t in inputs) or (None in input_roots and any(input_roots))

    def tag(self, shape: Iterable[int], node: int) -> Traced:
        """Return a tensor of this shape that stands for a node."""
        traced: Traced = torch.empty(tuple(shape), device="meta").as_subclass(Traced)
        traced.node = node
        traced.tracer = self
        traced.memory = [traced]
        traced.is_outdated = False
        return traced

    def layers_behind(self, t: Traced) -> set[int]:
        """Return the nodes of all layers with weights between the input and this tensor; none for the data."""
        visited: set[int] = set()
        waiting = [t.node]
        while waiting:
            i = waiting.pop()
            if i not in visited:
                visited.add(i)
                waiting.extend(self.nodes[i].inputs)
        return {i for i in visited if self.nodes[i].operation.is_layer}

    def flatten_behind(self, t: Traced) -> int | None:
        """Return the last node at which positions became features of this tensor; None if no feature was a position.

        A layer with weights ends the search: its outputs are alike, whatever they are computed from.
        """
        waiting = [t.node]
        while waiting:
            i = waiting.pop()
            node = self.nodes[i]
            if isinstance(node.operation, Flatten) and self.nodes[node.inputs[0]].size != (1, 1):
                return i
            if not node.operation.is_layer:
                waiting.extend(node.inputs)
        return None

    @property
    def where(self) -> str:
        """Dotted name of the submodule whose forward is running."""
        return self.path[-1] if self.path else ""

    def layer(self, weight: Tensor, bias: Tensor | None) -> Scales:
        """Return the scales of the layer that owns this weight.

        Raises:
            UnsupportedLayer: the weight is not a parameter of the module, or an earlier layer has used it.
        """
        name = self.names.get(id(weight))
        if name is None:
            raise self.refusal("a weight", "it is computed from others, so that it is not a free Gaussian parameter")
        if name in self.used:
            why = f"its weight `{name}` was used before at `{self.used[name]}`; shared weights correlate the layers"
            raise self.refusal("a layer", why)
        self.used[name] = self.where
        w_std, b_std = self.parametrisation.of(name.rpartition(".")[0])
        b_std = 0.0 if bias is None else b_std
        # The layer contributes Σ_W ∂z/∂W ∂z'/∂W + ∂z/∂b ∂z'/∂b to Θ. Where W and b themselves are the parameters, that
        # is fan_in K + 1; in the NTK parametrisation z = (w_std / sqrt(fan_in)) W h + b_std b, it is w_std² K + b_std².
        if self.parametrisation.kind == "standard":
            return Scales(w_std, b_std, float(weight[0].numel()), float(bias is not None))
        return Scales(w_std, b_std, w_std**2, b_std**2)

    def constant(self, parameter: Tensor | None, default: float) -> float | None:
        """Return the value that all entries of a parameter or buffer of the user's module share.

        Without a parameter that is `default`; where the entries differ, or the tensor is not the module's, it is None.
        """
        if parameter is None:
            return default
        value = self.values.get(self.names.get(id(parameter), ""))
        if value is None:
            return None
        entries = value.detach().flatten()
        return float(entries[0]) if bool((entries == entries[0]).all()) else None

    def refusal(self, what: str, why: str) -> UnsupportedLayer:
        """Return the error for something without a rule: its place, its name, the reason, the path to it, a way out."""
        owner = self.module.get_submodule(self.where) if self.where else self.module
        label = f"`{self.where}` ({type(owner).__name__})" if self.where else f"the forward of {type(owner).__name__}"
        paths = [node.path for node in self.nodes if node.path]
        trail = " -> ".join(["input", *dict.fromkeys(paths), self.where or what])
        return UnsupportedLayer(
            f"no infinite-width rule for {label}: {what}: {why}\n  path: {trail}\n"
            "  or: nl.empirical_kernel(module), on the command line `--kernel empirical`, takes the network as it is, at "
            "its own width."
        )

    @contextmanager
    def hooked(self, module: nn.Module) -> Iterator[None]:
        """Keep `path` up to date with the submodule that is running, for as long as the context lasts."""

        def leave(child: nn.Module, args: Any, out: Any) -> None:
            self.path.pop()

        hooks = []
        for name, child in module.named_modules():

            def enter(child: nn.Module, args: Any, name: str = name) -> None:
                self.path.append(name)

            hooks.append(child.register_forward_pre_hook(enter))
            hooks.append(child.register_forward_hook(leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _roots(operation: Operation, index: int, input_roots: list[frozenset[int] | None]) -> frozenset[int] | None:
    """Return the layers that the output of a new node is linear in, from those of its inputs."""
    if operation.is_layer:
        return frozenset({index})
    if not input_roots or not operation.is_linear or None in input_roots:
        return None
    return frozenset().union(*(roots for roots in input_roots if roots is not None))


def _call(handler: Handler, name: str, tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Record a call, unless its arguments are not among those that the handler has a rule for."""
    try:
        inspect.signature(handler).bind(tracer, *args, **kwargs)
    except TypeError as error:
        raise tracer.refusal(name, f"it has no infinite-width rule with these arguments ({error})") from error
    return handler(tracer, *args, **kwargs)


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _name(func: Any) -> str:
    """Return the name of a torch function for messages; that of an attribute tells which attribute is read."""
    name = getattr(func, "__name__", str(func))
    return name if name != "__get__" else str(func)


def _is_inplace(name: str) -> bool:
    """Whether a function changes its first argument, by torch's spelling `add_` or by Python's `__iadd__`."""
    return name.startswith("__i") if name.startswith("__") else name.endswith("_")
