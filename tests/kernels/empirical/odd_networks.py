"""Networks that use their layers in odd ways: shared, repeated, on something else than the batch, or for nothing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ntklens as nl
from ntklens.networks import build, seeded_network

DTYPE = torch.float64


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


ODD = {
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
"""How to build each, and the layers or parameters whose tangents are structured."""


def odd_network(name: str) -> nn.Module:
    def build_and_run() -> nn.Module:
        net = ODD[name][0]()
        net(torch.zeros(2, 12))  # fixes the sizes of lazy layers
        return net

    net = seeded_network(build_and_run, 0).to(DTYPE).eval()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=DTYPE))
    return net


def inputs(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)
