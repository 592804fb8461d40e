"""Layer-wise tangents against plain Jacobians, and the networks that are left to the latter."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ntklens as nl
from ntklens.kernels.empirical.observe import observe
from ntklens.networks import build

DTYPE = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


class Tied(nn.Module):
    """An autoencoder whose decoder uses the encoder's weight, and a head used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.mix, self.head = nn.Linear(12, 5), nn.Linear(12, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.linear(torch.tanh(self.encode(x)), self.encode.weight.T)
        return self.head(torch.tanh(self.mix(h))) + self.head(h)


class Sequences(nn.Module):
    """A dense layer along a sequence and one on a constant, before one on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.along, self.constant, self.late = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.query = nn.Parameter(torch.ones(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.along(x.unflatten(1, (3, 4)))) * self.constant(self.query)
        return self.late(h.sum(1))


class Wasteful(nn.Module):
    """A layer that runs a second time for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        self.first(h)
        return self.last(h)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (2, 2, 3)),
        nn.Conv2d(2, 4, 2, padding=1, groups=2, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 3, (1, 2), padding="same", dilation=(1, 2), padding_mode="circular"),
        nn.Tanh(),
        nn.Flatten(2),
        nn.Conv1d(3, 2, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.LazyLinear(2),
    )


NETS = {  # maker, and the layers whose tangents factor
    "mlp": (lambda: nn.Sequential(nn.Linear(12, 7), nn.ReLU(inplace=True), nn.Linear(7, 2)), ["0", "2"]),
    "convolutions": (convolutions, ["1", "3", "6", "8"]),
    "no bias": (lambda: nn.Linear(12, 2, bias=False), [""]),
    "parametrised": (lambda: nl.ntk_parametrize(build("fc1", (12,), 2, width=8), 1.3, 0.2), ["1", "3"]),
    "norm": (lambda: nn.Sequential(nn.Linear(12, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)), ["0", "1", "3"]),
    "tied": (Tied, ["encode.bias", "mix", "head"]),
    "sequences": (Sequences, ["along", "late"]),
    "wasteful": (Wasteful, ["last"]),
    "own forward": (lambda: nn.Sequential(Doubled(12, 4), nn.Tanh(), nn.Linear(4, 2)), ["2"]),
}


@pytest.fixture(params=NETS)
def case(request) -> tuple[nn.Module, list[str]]:
    make, layers = NETS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make()
        net(torch.zeros(2, 12))
    net = net.to(DTYPE).eval()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=DTYPE))
    return net, layers


def inputs(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


@pytest.mark.parametrize("outputs", ["trace", "full", "pseudo"])
@pytest.mark.parametrize("memory", [1 << 30, 2_000])
def test_layerwise_is_the_plain_kernel(case, outputs, memory):
    net, _ = case
    fast = nl.empirical_kernel(net, outputs, memory_limit=memory)
    plain = nl.empirical_kernel(net, outputs, layerwise=False)
    x, z = inputs(5), inputs(4, seed=1)
    torch.testing.assert_close(fast(x, z), plain(x, z), **CLOSE)
    torch.testing.assert_close(fast(x), plain(x), **CLOSE)


@pytest.mark.parametrize("outputs", ["trace", "pseudo"])
def test_layerwise_gradient_is_the_plain_one(case, outputs):
    net, _ = case
    x, z, w = inputs(5), inputs(4, seed=1), inputs(5, seed=2)[:, :4]
    fast = nl.empirical_kernel(net, outputs, memory_limit=2_000).gradient(x, z, w)
    torch.testing.assert_close(fast, nl.empirical_kernel(net, outputs, layerwise=False).gradient(x, z, w), **CLOSE)


def test_which_layers_are_understood(case):
    net, layers = case
    scales = dict.fromkeys(dict(net.named_parameters()), 1.0)
    plan = observe(net.requires_grad_(False), scales, inputs(1), layerwise=True)
    assert list(plan.layers) == layers


@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "2.weight"])
def test_frozen_parameters_do_not_count(frozen):
    net = nn.Sequential(nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 2)).to(DTYPE)
    net.get_parameter(frozen).requires_grad_(False)
    x = inputs(4)
    torch.testing.assert_close(nl.empirical_kernel(net)(x), nl.empirical_kernel(net, layerwise=False)(x), **CLOSE)


class Overwriting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        f = self.layer(h)
        h.zero_()
        return f


def test_a_network_that_torch_cannot_train_gets_no_silent_kernel():
    with pytest.raises(RuntimeError, match="inplace operation"):
        nl.empirical_kernel(Overwriting().to(DTYPE))(inputs(3))


def test_a_layer_with_a_users_hook_is_left_alone():
    net = nn.Sequential(nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 2)).to(DTYPE)
    net[0].register_forward_hook(lambda layer, args, output: 3 * output)
    x = inputs(4)
    torch.testing.assert_close(nl.empirical_kernel(net)(x), nl.empirical_kernel(net, layerwise=False)(x), **CLOSE)


def test_jacobians_of_a_wide_network_are_not_formed():
    """A thousand hidden units, ten outputs, 64 inputs: Jacobians would take five gigabytes and minutes."""
    net = nn.Sequential(nn.Linear(12, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10))
    kernel = nl.empirical_kernel(net.to(DTYPE), "full", memory_limit=1 << 26)
    x = inputs(64)
    assert kernel(x).shape == (64, 64, 10, 10)
    assert kernel._plan(x).rest == {}
    assert kernel._plan(x).entries(10) < 50_000


def test_the_kernel_of_a_linearisation_stays_where_it_was_taken():
    """Its layers run on the weights of the start, not on the moving ones: their tangents are left to Jacobians."""
    net = nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2)).to(DTYPE)
    lin, x = nl.linearize(net), inputs(4)
    with torch.no_grad():
        for p in lin.parameters():
            p.add_(1.0)
    torch.testing.assert_close(nl.empirical_kernel(lin)(x), nl.empirical_kernel(net)(x), **CLOSE)
