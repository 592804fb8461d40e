"""From a torch module to a graph of covariance operations, by running its own `forward` on tensors without values.

The forward runs once on meta tensors of a subclass that records each torch function applied to it, so that any Python
in it works: nested modules, functional calls, views computed from shapes, loops over layers. Whatever is not in the
list of understood functions is refused with its name, where it stands and what to do; nothing is skipped or guessed.
"""

from __future__ import annotations

import copy

from torch import nn

from ntklens.errors import InputError, UnsupportedLayer
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules.graph import Graph, Node
from ntklens.kernels.rules.operations import Flatten, Input
from ntklens.kernels.tracing import activations, layers  # noqa: F401 - they fill the tracer's table
from ntklens.kernels.tracing.tracer import Traced, Tracer, tensors


class ShapeMismatch(InputError):
    """The module's own forward failed on inputs of this shape."""


def trace(module: nn.Module, shape: tuple[int, ...], parametrisation: Parametrisation) -> Graph:
    """The graph of a module for inputs of this shape (without the batch axis).

    Raises:
        UnsupportedLayer: something in the forward has no infinite-width rule.
        ShapeMismatch: the module does not accept inputs of this shape.
    """
    if any(nn.parameter.is_lazy(p) for p in module.parameters()):
        raise InputError("the module has lazy layers without a size yet; run it once on a batch of inputs first.")
    twin = copy.deepcopy(module).to("meta").eval()
    tracer = Tracer(twin, tensors(module), parametrisation)
    start = tracer.add(Input(), [], (2, *shape))
    try:
        with tracer.hooked(twin):
            out = twin(start)
    except (UnsupportedLayer, InputError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ShapeMismatch(
            f"{type(module).__name__} does not accept inputs of shape (n, {', '.join(map(str, shape))}): {first}; "
            "check the images' channels and size against its first layer."
        ) from error
    if not isinstance(out, Traced):
        raise UnsupportedLayer(
            f"the forward of {type(module).__name__} returns {type(out).__name__}; one tensor of outputs is expected."
        )
    return _finish(tracer, out)


def _finish(tracer: Tracer, out: Traced) -> Graph:
    """Check the output, drop what it does not read, and join the input's axes when nothing keeps positions apart."""
    if tracer.roots[out.node] is None:
        raise tracer.refusal(
            "the output",
            "it is no longer Gaussian; end the network in a Linear or Conv2d layer, without softmax.",
        )
    if tracer.nodes[out.node].size != (1, 1):
        raise tracer.refusal("the output", "it still has positions; pool or flatten it, then add a Linear layer.")
    keep = {out.node}
    for i in range(out.node, -1, -1):
        if i in keep:
            keep |= set(tracer.nodes[i].inputs)
    keep.add(0)
    order = sorted(keep)
    index = {old: new for new, old in enumerate(order)}
    nodes = [tracer.nodes[i] for i in order]
    nodes = [Node(n.operation, tuple(index[j] for j in n.inputs), n.path, n.shape) for n in nodes]
    return Graph(tuple(_join_axes(nodes)))


def _join_axes(nodes: list[Node]) -> list[Node]:
    """Input, then Flatten as its only reader: one flat input."""
    readers = [i for i, n in enumerate(nodes) if 0 in n.inputs]
    flat = len(nodes[0].shape) == 1
    if not flat and len(readers) == 1 and isinstance(nodes[readers[0]].operation, Flatten):
        (gone,) = readers
        nodes[0] = Node(Input(flat=True), (), "", nodes[gone].shape)
        rest = [n for i, n in enumerate(nodes) if i not in (0, gone)]
        return [nodes[0]] + [
            Node(n.operation, tuple(0 if j == gone else j - (j > gone) for j in n.inputs), n.path, n.shape)
            for n in rest
        ]
    if flat:
        nodes[0] = Node(Input(flat=True), (), "", nodes[0].shape)
    return nodes
