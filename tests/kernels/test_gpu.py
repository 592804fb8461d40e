"""Calls on a CUDA device, where the torch recursion runs in blocks of pairs, give what the processor gives."""

import pytest
import torch
from torch import nn

import ntklens as nl
from cli.process import ntklens

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


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    )


@pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")  # torch's own, at the first backward of a process
def test_empirical_kernels_are_those_of_the_processor():
    network, x, z = convolutional().double().eval(), images(6, (1, 8, 8)), images(4, (1, 8, 8))
    for outputs in ("trace", "full"):
        here = nl.empirical_kernel(network.cpu(), outputs)(x, z)
        there = nl.empirical_kernel(network.cuda(), outputs)(x.cuda(), z.cuda())
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "square"])
def test_networks_are_attacked_where_they_are(attack):
    network, x = convolutional().eval(), images(6, (1, 8, 8)).float().cuda()
    network.cuda()
    labels = network(x).argmax(1)
    more = {"generator": torch.Generator().manual_seed(0)} if attack == "square" else {}
    adversarial = getattr(nl, attack)(network, x, labels, eps=0.05, **more)
    assert adversarial.device.type == "cuda"
    assert float((adversarial - x).abs().max()) <= 0.05 + 1e-6


def test_features_are_those_of_the_processor(given):
    kernel, x, z = given
    y, labels = torch.tensor([0, 1] * 6), torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0])
    made = []
    for device in ("cpu", "cuda"):
        machine = nl.KernelMachine(kernel, nl.Ridge(1e-3)).fit(x.to(device), y.to(device))
        features = nl.eigenfeatures(machine, 4)
        there = z.to(device), labels.to(device)
        made.append([*features.usefulness(*there).values, *features.robustness(*there, 0.03).values])
    assert made[0] == made[1]


def test_a_tracker_follows_a_network_on_the_device(tmp_path):
    network, x, y = convolutional().cuda(), images(12, (1, 8, 8)).float().cuda(), torch.tensor([0, 1, 2] * 4).cuda()
    tracker = nl.KernelTracker(x, y, folder=tmp_path)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for epoch in range(4):
        tracker.record(network, epoch)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    assert [row["epoch"] for row in tracker.rows()] == [0, 1, 2, 3]
    assert nl.KernelTracker(x, y).restore(tmp_path).epochs == tracker.epochs


@pytest.mark.parametrize("kind", ["attack", "transfer", "features", "dynamics"])
def test_commands_run_on_the_device(kind, tmp_path):
    small = ["--data", "fashion-mnist-mini", "--train", "60", "--test", "40", "--device", "cuda"]
    classes = [] if kind == "dynamics" else ["--classes", "2,4"]
    more = {
        "attack": [],
        "transfer": ["--victims", "fc1", "--seeds", "1", "--epochs", "1"],
        "features": ["--compare", "fc3"],
        "dynamics": ["--epochs", "2", "--seeds", "1"],
    }[kind]
    process = ntklens(kind, *small, *classes, *more, "--out", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "report.html").is_file()
