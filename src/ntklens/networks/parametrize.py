"""The finite network whose infinite-width limit the analytic kernel describes."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from ntklens.kernels.parametrisation import LAYERS, Parametrisation, Scaled, Values


def ntk_parametrize(
    module: nn.Module,
    w_std: Values = 2**0.5,
    b_std: Values = 0.1,
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
        w_std: one value, one a layer by its dotted name, or a sequence in the order of the module's layers.
        b_std: likewise; 0 leaves the layer without a working bias.
        generator: source of the draws; a fresh one with seed 0 by default.

    Raises:
        InputError: a mapping or sequence has no value for a layer.
        UnsupportedLayer: a layer has parameters of another kind.

    Example:
        >>> finite = ntk_parametrize(nn.Linear(4, 3), w_std=1.0)
        >>> raw = finite.parametrizations.weight.original
        >>> torch.equal(finite.weight, raw / 2)
        True
    """
    scales = Parametrisation.of_module(module, w_std, b_std).scales(module)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    network = copy.deepcopy(module)
    for name, layer in list(network.named_modules()):
        for key, parameter in list(layer.named_parameters(recurse=False)):
            if not isinstance(layer, LAYERS):
                parameter.requires_grad_(False)
                continue
            draw = torch.randn(parameter.shape, generator=generator, device=generator.device, dtype=parameter.dtype)
            with torch.no_grad():
                parameter.copy_(draw)
            scale = scales[f"{name}.{key}" if name else key]
            parametrize.register_parametrization(layer, key, Scaled(scale), unsafe=True)
    return network
