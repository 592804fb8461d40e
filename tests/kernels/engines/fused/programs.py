"""Networks whose programs contain, together, every instruction."""

import torch
from torch import nn

from ntklens.kernels import analytic_kernel
from ntklens.kernels.rules.graph import Graph


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = (
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Linear(4, 1),
        )

    def forward(self, x):
        x = self.first(x)
        return self.out((x + 0.5 * self.second(x.relu())).mean((2, 3)))


class Erf(nn.Module):
    def forward(self, x):
        return torch.erf(x)


def conv(channels: int, **options) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, 3, **options)


MODULES = {
    "flattened": (lambda: [conv(2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)], (2, 6, 6)),
    "strided": (lambda: [conv(2, stride=2), nn.LeakyReLU(), nn.Flatten(), nn.Linear(4 * 4, 1)], (2, 6, 6)),
    "pooled": (
        lambda: [conv(2), nn.ReLU(), nn.AvgPool2d(2), conv(4, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)],
        (2, 6, 6),
    ),
    "pooled without the padding": (
        lambda: [conv(2), nn.ReLU(), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Flatten(), nn.Linear(16, 1)],
        (2, 6, 6),
    ),
    "residual": (lambda: [Residual()], (2, 4, 4)),
    "smooth": (
        lambda: [conv(2, padding=1), nn.GELU(), conv(4, padding=1), Erf(), nn.Flatten(), nn.Linear(4 * 36, 1)],
        (2, 6, 6),
    ),
    "series": (lambda: [conv(2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 1)], (2, 6, 6)),
    "corner": (lambda: [conv(2, padding=1), nn.ELU(), nn.Flatten(), nn.Linear(4 * 36, 1)], (2, 6, 6)),
    "kinks": (
        lambda: [conv(2, padding=1), nn.ReLU6(), conv(4, padding=1), nn.Hardtanh(), nn.Flatten(), nn.Linear(4 * 36, 1)],
        (2, 6, 6),
    ),
    "hardswish": (lambda: [conv(2, padding=1), nn.Hardswish(), nn.Flatten(), nn.Linear(4 * 36, 1)], (2, 6, 6)),
    "dense": (lambda: [nn.Linear(9, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 1)], (9,)),
}


def graph(name: str) -> Graph:
    layers, shape = MODULES[name]
    return analytic_kernel(nn.Sequential(*layers()), b_std=0.1).graph(shape)


def pooled_graph() -> Graph:
    """A chain of layers before a global pooling: the program of each offset is one of its own."""
    layers = [conv(2, padding=1), nn.ReLU(), conv(4, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    return analytic_kernel(net, b_std=0.1).graph((2, 6, 6))


def deep_graph() -> Graph:
    """A network without biases, which is a series in the angle."""
    hidden = [layer for i in range(4) for layer in (nn.Linear(9 if i == 0 else 4, 4), nn.ReLU())]
    return analytic_kernel(nn.Sequential(*hidden, nn.Linear(4, 1)), b_std=0.0).graph((9,))
