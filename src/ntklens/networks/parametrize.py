"""Finite networks in the NTK parametrisation, whose infinite-width limit the analytic kernel describes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from ntklens.arguments import check_generator
from ntklens.kernels.parametrisation import LAYERS, Parametrisation, Scaled, Values
from ntklens.modules import copied


def ntk_parametrize(
    module: nn.Module,
    w_std: Values = 2**0.5,
    b_std: Values = 0.1,
    *,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return a copy of a network in the NTK parametrisation, with newly drawn weights.

    Every Linear and convolution computes (w_std / sqrt(fan_in)) W h + b_std b, where W and b are drawn from N(0, 1) and
    are what is trained. With growing width, the tangent kernel of this network converges to `analytic_kernel` of the module
    with the same w_std and b_std. The scales are applied in the forward pass (by `torch.nn.utils.parametrize`), so
    state_dict, functional_call, deepcopy and optimisers work as usual. The gains and shifts of normalisation layers keep
    their values and are frozen.

    Args:
        module: the network; it is not altered.
        w_std: standard deviation of the weights before the 1/sqrt(fan_in): one value, one per layer by its dotted name, or
            a sequence in the order of the module's layers.
        b_std: standard deviation of the biases, likewise; 0 leaves a layer without an effective bias.
        generator: source of the draws; by default a new one with seed 0.

    Raises:
        InputError: a mapping or sequence has no value for a layer.
        UnsupportedLayer: a layer has parameters of another kind.

    Example:
        >>> finite = ntk_parametrize(nn.Linear(4, 3), w_std=1.0)
        >>> raw = finite.parametrizations.weight.original
        >>> torch.equal(finite.weight, raw / 2)
        True
    """
    check_generator(generator, optional=True)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    network = copied(module)
    scales = Parametrisation.of_module(network, w_std, b_std).scales(network)
    for name, layer in list(network.named_modules()):
        for key, parameter in list(layer.named_parameters(recurse=False)):
            if not isinstance(layer, LAYERS):
                parameter.requires_grad_(False)
                continue
            draw = torch.randn(parameter.shape, generator=generator, device=generator.device, dtype=parameter.dtype)
            with torch.no_grad():
                parameter.copy_(draw)
            # `unsafe` skips a check of shape and dtype, which `Scaled` keeps.
            scale = scales[f"{name}.{key}" if name else key]
            parametrize.register_parametrization(layer, key, Scaled(scale), unsafe=True)
    return network
