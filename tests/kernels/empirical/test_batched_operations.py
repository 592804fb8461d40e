"""Batched backward passes: each trusted operation against single passes, at sizes that coincide."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.kernels.empirical.batched_operations import BATCHED, operations

DTYPE = torch.float64
W = torch.randn(3, 3, dtype=DTYPE, generator=torch.Generator().manual_seed(5))


def norm(h: Tensor) -> Tensor:
    return F.batch_norm(h, torch.ones(3, dtype=DTYPE), 2 * torch.ones(3, dtype=DTYPE), torch.linspace(1, 2, 3).to(h))


CASES = {
    "Add Flip Mul": lambda h: h * h.flip(2).clone() + h,
    "Addmm View": lambda h: F.linear(h.reshape(-1, 3), W, W[0]).view(h.shape),
    "Mm": lambda h: h.reshape(-1, 3) @ W,
    "Alias": lambda h: h[:, :] * h,
    "AvgPool2D": lambda h: F.avg_pool2d(h, 2, 1),
    "Bmm Select": lambda h: torch.bmm(h[:, 0], h[:, 1]),
    "Convolution": lambda h: F.conv2d(h, W[:, :, None, None] * torch.ones(1, 1, 2, 2, dtype=DTYPE)),
    "grouped Convolution": lambda h: F.conv2d(h, W[:, :1, None, None], groups=3, stride=2),
    "Div Pow Sqrt": lambda h: h / (h.pow(2).sum(1, keepdim=True) + 1).sqrt(),
    "Elu": F.elu,
    "Expand Unsqueeze": lambda h: h[:, :, None].expand(-1, -1, 3, -1, -1),
    "Gelu": F.gelu,
    "Gelu tanh": lambda h: F.gelu(h, approximate="tanh"),
    "MaxPool2DWithIndices": lambda h: F.max_pool2d(h, 2, 1),
    "Mean": lambda h: h.mean((2, 3)),
    "Mean of all": lambda h: h.mean(1),
    "NativeBatchNorm": norm,
    "NativeLayerNorm": lambda h: F.layer_norm(h, (3,), W[0], W[1]),
    "NativeLayerNorm of two axes": lambda h: F.layer_norm(h, (3, 3), W, W),
    "Neg Sub": lambda h: -h - 2 * h.square(),
    "Permute": lambda h: h.permute(0, 3, 1, 2) * h,
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Silu": F.silu,
    "Softmax": lambda h: h.softmax(1) * h,
    "Exp Slice Squeeze": lambda h: h[:, :1].squeeze(1).exp(),
    "Sum": lambda h: h.sum(3).square(),
    "Tanh": torch.tanh,
    "Transpose": lambda h: h.transpose(1, 2) * h,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("n", "outputs"), [(3, 3), (2, 3), (3, 2), (1, 3)])
def test_a_batched_pass_is_the_single_passes(name, n, outputs):
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(n, 3, 3, 3, dtype=DTYPE, generator=generator).requires_grad_()
    z = CASES[name](h + 0.5).reshape(n, -1)
    f = z @ torch.randn(z.shape[1], outputs, dtype=DTYPE, generator=generator)
    units = torch.eye(outputs, dtype=DTYPE)[:, None].expand(outputs, n, outputs).contiguous()
    batched = torch.autograd.grad(f, h, units, retain_graph=True, is_grads_batched=True)[0]
    for unit, gradient in zip(units, batched, strict=True):
        torch.testing.assert_close(gradient, torch.autograd.grad(f, h, unit, retain_graph=True)[0])


def test_every_trusted_operation_has_a_case():
    seen: set[str] = set()
    for case in CASES.values():
        seen |= operations(case(torch.rand(3, 3, 3, 3, dtype=DTYPE, requires_grad=True) * 1))
    assert seen >= BATCHED


def test_common_networks_are_batched_without_a_comparison():
    """The kernel itself takes a slice of the outputs; a comparison would cost half of a dense network's time."""
    dense = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    images = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten()),
        nn.Linear(4, 3),
    ).eval()
    for net, x in ((dense, torch.rand(2, 4)), (images, torch.rand(2, 1, 4, 4))):
        net.requires_grad_(False)  # as in the kernel's own passes
        assert operations(net(x.requires_grad_())[:, slice(None)]) <= BATCHED
