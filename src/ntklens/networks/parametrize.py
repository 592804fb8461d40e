"""The finite network whose infinite-width limit the analytic kernel describes."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ntklens.errors import UnsupportedLayer
from ntklens.kernels.parametrisation import LAYERS, Parametrisation


class _Times(nn.Module):
    """A standard normal parameter times its standard deviation in the forward."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def ntk_parametrize(
    module: nn.Module,
    w_std: float | Mapping[str, float] = 2**0.5,
    b_std: float | Mapping[str, float] = 0.1,
    *,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A copy of the network in the NTK parameterisation, freshly drawn.

    Every Linear and convolution computes (w_std / sqrt(fan_in)) W h + b_std b with W and b drawn from N(0, 1) and
    trained as such; the tangent kernel of this network converges with its width to `analytic_kernel` of the module
    with the same w_std and b_std. The scales stand in the forward (as `torch.nn.utils.parametrize` does), so state_dict,
    functional_call, deepcopy and optimisers work as ever. The affine parameters of normalisation layers are frozen where
    they are.

    Args:
        module: the user's network; it is not altered.
        w_std: one value, or one a layer by its dotted name.
        b_std: likewise; 0 leaves the layer without a working bias.
        generator: source of the draws; a fresh one with seed 0 by default.

    Raises:
        UnsupportedLayer: a layer has parameters of another kind.
    """
    parametrisation = Parametrisation(w_std, b_std)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    network = copy.deepcopy(module)
    for name, layer in list(network.named_modules()):
        own = dict(layer.named_parameters(recurse=False))
        if isinstance(layer, LAYERS):
            scales = {"weight": parametrisation.weight_scale(name, layer), "bias": parametrisation.bias_scale(name)}
            for key, parameter in own.items():
                with torch.no_grad():
                    draw = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                    parameter.copy_(draw.to(parameter.device))
                parametrize.register_parametrization(layer, key, _Times(scales[key]), unsafe=True)
        elif isinstance(layer, (nn.LayerNorm, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
            for parameter in own.values():
                parameter.requires_grad_(False)
        elif own:
            raise UnsupportedLayer(
                f"no NTK parameterisation for `{name}` ({type(layer).__name__}): Linear and Conv layers have one; "
                "linearize(module) and empirical_kernel(module) take the network as it is."
            )
    return network
