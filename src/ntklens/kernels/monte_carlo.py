"""The analytic kernel checked by drawing: empirical kernels of wide networks, and how they scatter."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.empirical import EmpiricalKernel
from ntklens.kernels.parametrisation import LAYERS, Parametrisation
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import Normalise, Scale


@dataclass(frozen=True)
class Draws:
    """Empirical kernels of independently drawn networks.

    Attributes:
        kernels: one matrix a draw, (draws, n1, n2).
    """

    kernels: Float[Tensor, "draws n1 n2"]

    @property
    def mean(self) -> Float[Tensor, "n1 n2"]:
        """Mean over the draws."""
        return self.kernels.mean(0)

    @property
    def standard_error(self) -> Float[Tensor, "n1 n2"]:
        """Standard error of the mean."""
        error: Tensor = self.kernels.std(0) / len(self.kernels) ** 0.5
        return error


def widened(module: nn.Module, graph: Graph, width: int) -> nn.Module:
    """A copy of the network with `width` hidden units or channels in every layer.

    Raises:
        InputError: the forward has a width written into it.
    """
    roots = [_roots(graph, i) for i in range(len(graph.nodes))]
    last = roots[-1]
    wide = copy.deepcopy(module)
    for i, node in enumerate(graph.nodes):
        if not node.operation.is_layer and not isinstance(node.operation, (Normalise, Scale)):
            continue
        (source,) = node.inputs
        before = sorted(roots[source])
        factor = graph.nodes[source].shape[0] // graph.nodes[before[0]].shape[0] if before else 0
        inputs = factor * width if before else graph.nodes[source].shape[0]
        layer = wide.get_submodule(node.path)
        if isinstance(layer, nn.LayerNorm):
            layer.normalized_shape = (inputs, *layer.normalized_shape[1:])
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            _repeat(layer, inputs)
        elif isinstance(layer, LAYERS):
            outputs = int(layer.weight.shape[0]) if i in last else width
            _resize(layer, inputs, outputs)
    return wide


def _roots(graph: Graph, index: int) -> set[int]:
    """The layers whose outputs reach a node without passing another layer; none for the data."""
    node = graph.nodes[index]
    if node.operation.is_layer:
        return {index}
    return set().union(*(_roots(graph, i) for i in node.inputs)) if node.inputs else set()


def _resize(layer: nn.Module, inputs: int, outputs: int) -> None:
    weight, bias = layer.get_parameter("weight"), layer._parameters.get("bias")
    groups = int(getattr(layer, "groups", 1))
    layer.weight = nn.Parameter(weight.new_zeros(outputs, inputs // groups, *weight.shape[2:]))
    if bias is not None:
        layer.bias = nn.Parameter(bias.new_zeros(outputs))
    names = ("in_features", "out_features") if isinstance(layer, nn.Linear) else ("in_channels", "out_channels")
    setattr(layer, names[0], inputs)
    setattr(layer, names[1], outputs)


def _repeat(norm: nn.Module, channels: int) -> None:
    """Batch norm for more channels, with the one value that the statistics of all of them have."""
    for key, value in {**norm._parameters, **norm._buffers}.items():
        if value is not None and value.ndim == 1:
            wide = value.detach()[:1].expand(channels).clone()
            setattr(norm, key, nn.Parameter(wide) if key in norm._parameters else wide)


def draw(module: nn.Module, parametrisation: Parametrisation, generator: torch.Generator) -> None:
    """Fill the layers of a network from N(0, w_std² / fan_in) and N(0, b_std²); other parameters are held fixed."""
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
    """Empirical kernels (trace over outputs) of `draws` networks of a width."""
    if width < 1 or draws < 2:
        raise InputError(f"a width from 1 and draws from 2 on were expected; {width} and {draws} came.")
    wide = widened(module, graph, width).to(x1.dtype).eval()
    scaling = parametrisation if parametrisation.kind == "ntk" else None
    kernels = []
    for _ in range(draws):
        draw(wide, parametrisation, generator)
        try:
            kernels.append(EmpiricalKernel(wide, "trace", scaling)(x1, x2))
        except RuntimeError as error:
            raise InputError(
                f"the network does not run with {width} units a layer ({str(error).splitlines()[0]}): a width is written "
                "into its forward; use x.flatten(1) in the place of a fixed view."
            ) from error
    return Draws(torch.stack(kernels))
