"""The copy of the network that a kernel holds: modes, precisions, threads, and the weights of its moment."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import ntklens as nl
from kernels.empirical.zoo import Residual, images


def test_training_mode_is_refused_where_it_matters():
    with pytest.raises(nl.InputError, match=r"Call model\.eval\(\) first"):
        nl.empirical_kernel(Residual())
    with pytest.raises(nl.InputError, match="training mode"):
        nl.empirical_kernel(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))


def test_precisions_do_not_wear_each_other_out(net):
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1e-9)
    kernel, x, z = nl.empirical_kernel(net), images(4), images(3, seed=1)
    exact = kernel(x, z)
    single = kernel(x.float(), z)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.equal(kernel(x, z), exact)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_does_not_depend_on_the_callers_gradient_mode(net, mode):
    kernel, x, z, w = nl.empirical_kernel(net), images(3), images(2, seed=1), images(3, seed=2).flatten(1)[:, :2]
    k, g = kernel(x, z), kernel.gradient(x, z, w)
    with mode():
        torch.testing.assert_close(kernel(x.clone(), z), k)
        torch.testing.assert_close(kernel.gradient(x.clone(), z, w.clone()), g)
    assert not k.requires_grad
    assert not g.requires_grad


def test_the_kernel_keeps_the_weights_of_its_moment_and_alters_nothing(net):
    x = images(3)
    before = {name: v.clone() for name, v in net.state_dict().items()}
    kernel = nl.empirical_kernel(net)
    k = kernel(x)
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    assert torch.equal(kernel(x), k)


def test_threads_do_not_meet(net):
    kernel, batches = nl.empirical_kernel(net), [images(3, seed=i) for i in range(12)]
    alone = [kernel(b) for b in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(kernel, batches))
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b)
