"""The gradient in the first inputs against differences of the kernel."""

import pytest
import torch

import ntklens as nl
from kernels.empirical.zoo import ZOO, images, inputs_of

DTYPE = torch.float64


def test_gradient_is_the_slope(case, brute):
    net, x, z, *_ = brute
    kernel, w, h = nl.empirical_kernel(net, memory_limit=20_000), inputs_of(ZOO["mlp"], 4, 5, DTYPE)[:, :3], 1e-5
    if case.tokens:
        with pytest.raises(nl.InputError, match="inputs of floating point for a gradient"):
            kernel.gradient(x, z, w)
        return
    direction = inputs_of(case, 4, 6, DTYPE)
    ahead, behind = ((kernel(x + s * direction, z) * w).sum() for s in (h, -h))
    slope = (kernel.gradient(x, z, w) * direction).sum()
    assert abs(float(slope - (ahead - behind) / (2 * h))) < 1e-5 * float(1 + slope.abs())


@pytest.mark.parametrize("outputs", ["trace", "pseudo"])
def test_gradient_against_finite_differences(net, outputs):
    kernel, x, z = nl.empirical_kernel(net, outputs, memory_limit=20_000), images(3), images(4, seed=1)
    w, direction = images(3, seed=2).flatten(1)[:, :4] - 0.5, images(3, seed=3) - 0.5
    h = 1e-6
    ahead, behind = ((kernel(x + s * direction, z) * w).sum() for s in (h, -h))
    slope = (kernel.gradient(x, z, w) * direction).sum()
    torch.testing.assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)
