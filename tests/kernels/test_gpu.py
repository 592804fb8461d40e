"""The same calls on a CUDA device, where the torch recursion runs in blocks of pairs."""

import pytest
import torch
from torch import nn

import ntklens as nl

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]

NETWORKS = {
    "dense": (nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)), (64,)),
    "convolutional": (
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1),
        ),
        (1, 8, 8),
    ),
}  # fmt: skip


def images(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


@pytest.fixture(params=NETWORKS)
def given(request):
    module, shape = NETWORKS[request.param]
    return nl.analytic_kernel(module), images(12, shape), images(9, shape)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_kernels_and_gradients_are_those_of_the_processor(given, dtype, bound):
    kernel, x, z = given
    w = torch.randn(12, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    there = [t.to("cuda", dtype) for t in (x, z, w)]
    for kind in ("nngp", "ntk"):
        pairs = [
            (kernel(x, z, kind=kind), kernel(*there[:2], kind=kind)),
            (kernel(x, kind=kind), kernel(there[0], kind=kind)),
            (kernel.gradient(x, z, w, kind=kind), kernel.gradient(*there, kind=kind)),
        ]
        for here, made in pairs:
            assert made.device.type == "cuda"
            assert float((made.cpu() - here).abs().max() / here.abs().max()) < bound


def test_a_machine_is_fitted_and_attacked_where_its_data_are(given):
    kernel, x, z = given
    y, labels = torch.tensor([0, 1] * 6), torch.ones(9, dtype=torch.long)
    made = []
    for device in ("cpu", "cuda"):
        machine = nl.KernelMachine(kernel, nl.Ridge(1e-3)).fit(x.to(device), y.to(device))
        adversarial = nl.fgsm(machine, z.to(device), labels.to(device), eps=0.03)
        made.append(torch.cat([machine(z.to(device)).flatten(), adversarial.flatten()]).cpu())
    torch.testing.assert_close(made[0], made[1], rtol=1e-8, atol=1e-10)
