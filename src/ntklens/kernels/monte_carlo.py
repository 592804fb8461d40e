"""A check of the analytic kernel by Monte Carlo: empirical kernels of finite networks with drawn weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.kernels.empirical import EmpiricalKernel
from ntklens.kernels.parametrisation import LAYERS, Parametrisation
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import Normalise, Scale
from ntklens.modules import copied


@dataclass(frozen=True)
class Draws:
    """Empirical kernels of independently drawn networks.

    Attributes:
        kernels: one matrix per network, (draws, n1, n2).
    """

    kernels: Float[Tensor, "draws n1 n2"]

    def __repr__(self) -> str:
        draws, n1, n2 = self.kernels.shape
        return f"Draws({draws} kernels, {n1} x {n2})"

    @property
    def mean(self) -> Float[Tensor, "n1 n2"]:
        """The mean over the draws."""
        return self.kernels.mean(0)

    @property
    def standard_error(self) -> Float[Tensor, "n1 n2"]:
        """The standard error of the mean."""
        error: Tensor = self.kernels.std(0) / len(self.kernels) ** 0.5
        return error


def widened(module: nn.Module, graph: Graph, width: int) -> nn.Module:
    """Return a copy of the network in which every hidden layer has `width` units or channels.

    The weights of the layers that change are zero; `draw` fills them.

    Args:
        module: the network.
        graph: its traced graph, for inputs of any shape that the network accepts.
        width: units or channels of each hidden layer.
    """
    layers = [_nearest_layers(graph, i) for i in range(len(graph.nodes))]
    output_layers = layers[-1]
    wide = copied(module)
    for i, node in enumerate(graph.nodes):
        if not node.operation.is_layer and not isinstance(node.operation, (Normalise, Scale)):
            continue
        (source,) = node.inputs
        channels = graph.nodes[source].shape[0]
        inputs = channels
        if layers[source]:
            # A flattening makes several features of each channel. Their number per channel stays, whatever the width.
            factor = channels // graph.nodes[min(layers[source])].shape[0]
            inputs = factor * width
        layer = wide.get_submodule(node.path)
        if isinstance(layer, nn.LayerNorm):
            layer.normalized_shape = (inputs, *layer.normalized_shape[1:])
            _repeat(layer, inputs)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            _repeat(layer, inputs)
        elif isinstance(layer, LAYERS):
            outputs = int(layer.weight.shape[0]) if i in output_layers else width
            _resize(layer, inputs, outputs)
    return wide


def _nearest_layers(graph: Graph, index: int) -> set[int]:
    """Return the layers whose outputs reach a node without passing another layer; none for the data."""
    node = graph.nodes[index]
    if node.operation.is_layer:
        return {index}
    return set().union(*(_nearest_layers(graph, i) for i in node.inputs)) if node.inputs else set()


def _resize(layer: nn.Module, inputs: int, outputs: int) -> None:
    """Give a Linear or Conv layer this many inputs and outputs."""
    weight, bias = layer.get_parameter("weight"), layer._parameters.get("bias")
    groups = int(getattr(layer, "groups", 1))
    layer.weight = nn.Parameter(weight.new_zeros(outputs, inputs // groups, *weight.shape[2:]))
    if bias is not None:
        layer.bias = nn.Parameter(bias.new_zeros(outputs))
    names = ("in_features", "out_features") if isinstance(layer, nn.Linear) else ("in_channels", "out_channels")
    setattr(layer, names[0], inputs)
    setattr(layer, names[1], outputs)


def _repeat(norm: nn.Module, channels: int) -> None:
    """Give a normalisation this many channels, each with the gain, shift and statistics that its first channel has."""
    # A traced normalisation has equal values in all channels; others are refused.
    for key, value in {**norm._parameters, **norm._buffers}.items():
        if value is not None and value.ndim:  # not the count of batches, which is one number
            repeated = value.detach()[:1].expand(channels, *value.shape[1:]).clone()
            setattr(norm, key, nn.Parameter(repeated) if key in norm._parameters else repeated)


def draw(module: nn.Module, parametrisation: Parametrisation, generator: torch.Generator) -> None:
    """Draw the weights of all layers from N(0, w_std² / fan_in) and the biases from N(0, b_std²), in place.

    Parameters of other layers are held fixed: they require no gradient afterwards.
    """
    module.requires_grad_(False)
    for name, layer in module.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        for key, parameter in layer.named_parameters(recurse=False):
            scale = parametrisation.weight_scale(name, layer) if key == "weight" else parametrisation.bias_scale(name)
            parameter.copy_(
                scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
            )
            parameter.requires_grad_(True)


def monte_carlo(
    module: nn.Module,
    graph: Graph,
    parametrisation: Parametrisation,
    x1: Tensor,
    x2: Tensor | None,
    *,
    width: int,
    draws: int,
    generator: torch.Generator,
) -> Draws:
    """Compute the empirical kernels (outputs="trace") of freshly drawn networks.

    Args:
        module: the network; a copy of it is widened and drawn.
        graph: its traced graph.
        parametrisation: standard deviations of the weights and biases.
        x1: (n1, ...) inputs.
        x2: (n2, ...) inputs, or None for x1 with itself.
        width: units or channels of each hidden layer.
        draws: number of networks.
        generator: source of the weights.

    Raises:
        InputError: the width or the number of draws is too small, or the forward has a width written into it.
    """
    if width < 1 or draws < 2:
        raise InputError(f"expected a width of at least 1 and at least 2 draws; got {width} and {draws}.")
    wide = widened(module, graph, width).to(x1.dtype).eval()
    scaling = parametrisation if parametrisation.kind == "ntk" else None
    kernels = []
    for _ in range(draws):
        draw(wide, parametrisation, generator)
        try:
            kernels.append(EmpiricalKernel(wide, "trace", scaling)(x1, x2))
        except (RuntimeError, InputError) as error:  # torch's own error, or the empirical kernel's sentence about it
            raise InputError(
                f"the network does not run with {width} units per layer ({first_line(error)}): a width is written "
                "into its forward; use x.flatten(1) instead of a fixed view."
            ) from error
    return Draws(torch.stack(kernels))
