"""From a torch module to a graph of covariance operations, by running the module's own `forward` on tensors without values.

The forward runs once on meta tensors of a subclass that records each torch function applied to it. Any Python in it
therefore works: nested modules, functional calls, views computed from shapes, loops over layers. A function that is not
in the tables is refused with its name, its place and an alternative; none is skipped or guessed.
"""

from __future__ import annotations

import torch
from torch import nn

from ntklens.errors import InputError, UnsupportedLayer
from ntklens.files import first_line
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules.graph import Graph, Node
from ntklens.kernels.rules.operations import Flatten, Input
from ntklens.kernels.tracing import activations, layers
from ntklens.kernels.tracing.tracer import BATCH, Traced, Tracer, tensors
from ntklens.modules import copied, single_output, unwrapped

HANDLERS = layers.HANDLERS | activations.HANDLERS
"""Torch function -> how a call of it is recorded."""


class ShapeMismatch(InputError):
    """The module's own forward fails on inputs of this shape."""


def trace(module: nn.Module, shape: tuple[int, ...], parametrisation: Parametrisation) -> Graph:
    """Trace a module for inputs of this shape, which is given without the batch axis.

    Raises:
        UnsupportedLayer: something in the forward has no infinite-width rule.
        ShapeMismatch: the module does not accept inputs of this shape.
    """
    # A copy is traced, so that the user's module keeps its device, its mode and its hooks.
    module = unwrapped(module)
    twin = copied(module)
    values = {name: tensor.detach() for name, tensor in tensors(twin).items()}
    twin = twin.to("meta").eval()
    tracer = Tracer(twin, values, parametrisation, handlers=HANDLERS, refusals=layers.REFUSALS)
    x = tracer.add(Input(), [], (BATCH, *shape))
    try:
        with tracer.hooked(twin):
            out = single_output(twin(x))
    except (UnsupportedLayer, InputError):
        raise
    except Exception as error:
        # These come from the forward itself, such as a convolution of an image with too few channels; a library of the
        # user's may raise anything, as einops does.
        if _runs(module, shape):
            raise UnsupportedLayer(
                f"{type(module).__name__} cannot be traced without values, although it runs on images: "
                f"{first_line(error)}\n"
                "  or: ntklens.empirical_kernel(module) takes the network as it is, at its own width."
            ) from error
        raise ShapeMismatch(
            f"{type(module).__name__} does not accept inputs of shape (n, {', '.join(map(str, shape))}): "
            f"{first_line(error).rstrip('.')}; check the channels and the size of the inputs against its layers."
        ) from error
    if not isinstance(out, Traced):
        raise UnsupportedLayer(
            f"the forward of {type(module).__name__} returns {type(out).__name__}; one tensor of outputs is expected."
        )
    return _finish(tracer, out)


def _runs(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Return whether the module's forward runs on two inputs of this shape."""
    tensor = next((t for t in module.state_dict().values() if t.is_floating_point()), torch.zeros(()))
    if tensor.device.type == "meta":
        return False
    with torch.no_grad():
        try:
            copied(module).eval()(torch.zeros(2, *shape, dtype=tensor.dtype, device=tensor.device))
        except Exception:  # a user's module may raise anything
            return False
    return True


def _finish(tracer: Tracer, out: Traced) -> Graph:
    """Check the output, drop the nodes that it does not depend on, and simplify the input."""
    out.check_is_current("the output")
    if tracer.roots[out.node] is None:
        raise tracer.refusal(
            "the output",
            "it is no longer Gaussian; end the network in a Linear or Conv2d layer, without softmax.",
        )
    if tracer.nodes[out.node].size != (1, 1):
        raise tracer.refusal("the output", "it still has positions; pool or flatten it, then add a Linear layer.")
    needed = {0, out.node}  # the data is always the first node
    for i in range(out.node, -1, -1):
        if i in needed:
            needed |= set(tracer.nodes[i].inputs)
    order = sorted(needed)
    index = {old: new for new, old in enumerate(order)}
    nodes = [tracer.nodes[i] for i in order]
    nodes = [Node(n.operation, tuple(index[j] for j in n.inputs), n.path, n.shape) for n in nodes]
    return Graph(tuple(_join_axes(nodes)))


def _join_axes(nodes: list[Node]) -> list[Node]:
    """Make the input flat where the network has no positions.

    That is so where the input has a single axis, and where its only reader flattens it; the flattening is then dropped.
    """
    data, *others = nodes
    if len(data.shape) == 1:
        return [Node(Input(flat=True), (), "", data.shape), *others]
    readers = [i for i, node in enumerate(nodes) if 0 in node.inputs]
    if len(readers) != 1 or not isinstance(nodes[readers[0]].operation, Flatten):
        return nodes
    flatten = readers[0]
    flat = Node(Input(flat=True), (), "", nodes[flatten].shape)
    remaining = [node for i, node in enumerate(nodes) if i not in (0, flatten)]
    # Readers of the flattening now read the input, and the nodes after it move up by one place.
    return [flat] + [
        Node(n.operation, tuple(0 if j == flatten else j - (j > flatten) for j in n.inputs), n.path, n.shape)
        for n in remaining
    ]
