"""Small networks of many kinds: every operation, odd sizes, several ways to write a forward."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Forward(nn.Module):
    """A module from named layers and a forward written as a function."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def conv(inputs: int, kernel=3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, 6, kernel, **({"padding": "same"} | options))


def dense(function, depth: int = 1) -> nn.Module:
    """`depth` hidden layers with this activation, a module or a function."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in list(self.children())[:depth]:
            x = function(layer(x))
        return self.out(x)

    hidden = {f"h{i}": nn.Linear(16 if i == 0 else 8, 8) for i in range(depth)}
    return Forward(forward, **hidden, out=nn.Linear(8, 1))


def _resnet(self, x: Tensor) -> Tensor:
    x = self.stem(x)
    return self.out(F.relu(x + self.b(F.relu(self.a(F.relu(x))))).mean((2, 3)))


def _projection(self, x: Tensor) -> Tensor:
    x = F.relu(self.stem(x))
    return self.out(F.relu(self.skip(x) + self.b(F.relu(self.a(x)))).flatten(1))


def twenty() -> nn.Module:
    hidden = [layer for _ in range(19) for layer in (nn.Linear(8, 8), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 8), nn.ReLU(), *hidden, nn.Linear(8, 1))


def pooled(*middle: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(conv(1), nn.ReLU(), *middle, conv(6), nn.ReLU(), nn.Flatten(), nn.Linear(features, 1))


PEER = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 1)),
    "fc20": twenty,
    "circular": lambda: nn.Sequential(
        conv(1, padding_mode="circular"),
        nn.ReLU(),
        conv(6, padding_mode="circular"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(210, 1),
    ),
    "circular_gap": lambda: nn.Sequential(
        conv(2, padding_mode="circular"),
        nn.ReLU(),
        conv(6, padding_mode="circular"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 1),
    ),
    "valid_nonsquare": lambda: nn.Sequential(
        conv(3, (3, 1), padding="valid"),
        nn.ReLU(),
        conv(6, (2, 3), padding="valid"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 1),
    ),
    "avgpool_overlap": lambda: pooled(nn.AvgPool2d(3, 2), features=54),
    "avgpool_pad_excl": lambda: pooled(nn.AvgPool2d(3, 1, 1, count_include_pad=False), features=216),
    "avgpool_pad_incl": lambda: pooled(nn.AvgPool2d(3, 1, 1), features=216),
    "resnet_pool": lambda: Forward(_resnet, stem=conv(3), a=conv(6), b=conv(6), out=nn.Linear(6, 1)),
    "flatten_midway": lambda: nn.Sequential(
        conv(1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
    ),
    "layernorm_conv": lambda: nn.Sequential(
        conv(2),
        nn.LayerNorm((6, 5, 5), eps=1e-12, elementwise_affine=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(150, 1),
    ),
    "sin": lambda: dense(torch.sin),
    "cos2": lambda: dense(torch.cos, 2),
    "abs": lambda: dense(torch.abs),
    "square": lambda: dense(lambda u: u**2, 2),
    "cube": lambda: dense(lambda u: u**3),
    "erf_conv_gap": lambda: Forward(
        lambda s, x: s.out(torch.erf(s.b(torch.erf(s.a(x)))).mean((2, 3))), a=conv(1), b=conv(6), out=nn.Linear(6, 1)
    ),
    "gelu_conv": lambda: nn.Sequential(conv(1), nn.GELU(), conv(6), nn.GELU(), nn.Flatten(), nn.Linear(150, 1)),
}
"""Networks for which golden/peer has the peer's values."""


@cache
def _peer_file() -> dict[str, Tensor]:
    with np.load(Path(__file__).parents[1] / "golden" / "peer" / "networks.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def peer_values(name: str) -> dict[str, Tensor]:
    """Inputs x1 and x2, weights w, and the peer's nngp, ntk and gradient of one network of `PEER`."""
    return {key: _peer_file()[f"{name}/{key}"] for key in ("x1", "x2", "w", "nngp", "ntk", "grad")}


DRAWN = {
    "stride 2, padded, pooled": (
        (1, 6, 6),
        lambda: nn.Sequential(
            conv(1, stride=2, padding=1),
            nn.ReLU(),
            conv(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 1),
        ),
    ),
    "projected shortcut": (
        (1, 6, 6),
        lambda: Forward(
            _projection,
            stem=conv(1),
            a=conv(6, stride=2, padding=1),
            b=conv(6),
            skip=conv(6, 1, stride=2, padding=0),
            out=nn.Linear(54, 1),
        ),
    ),
    "sequences": (
        (2, 9),
        lambda: nn.Sequential(
            nn.Conv1d(2, 6, 3, padding="same"),
            nn.ReLU(),
            nn.AvgPool1d(3, 2),
            nn.Conv1d(6, 6, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(18, 1),
        ),
    ),
    "dilated": ((1, 7, 6), lambda: pooled(conv(6, dilation=2), nn.ReLU(), features=252)),
    "even kernel": ((1, 6, 5), lambda: pooled(conv(6, 4), nn.ReLU(), features=180)),
    "groups": ((1, 5, 5), lambda: pooled(conv(6, groups=2), nn.ReLU(), features=150)),
    "upsampled, flattened": (
        (1, 4, 3),
        lambda: nn.Sequential(
            conv(1), nn.ReLU(), nn.Upsample(scale_factor=2), conv(6), nn.ReLU(), nn.Flatten(), nn.Linear(288, 1)
        ),
    ),
    "upsampled by 3 x 2, pooled": (
        (1, 3, 4),
        lambda: nn.Sequential(
            conv(1),
            nn.ReLU(),
            nn.Upsample(scale_factor=(3, 2)),
            conv(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 1),
        ),
    ),
    "zero pad by hand": (
        (1, 4, 4),
        lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), conv(1), nn.ReLU(), nn.Flatten(), nn.Linear(210, 1)),
    ),
    "erf": ((1, 4, 4), lambda: dense(torch.erf, 3)),
    "GELU": ((1, 4, 4), lambda: dense(F.gelu, 3)),
    "GELU, LayerNorm and ReLU": (
        (1, 5, 5),
        lambda: nn.Sequential(
            conv(1),
            nn.GELU(),
            conv(6),
            nn.LayerNorm((6, 5, 5), elementwise_affine=False),
            nn.ReLU(),
            nn.AvgPool2d(2),
            conv(6),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 1),
        ),
    ),
    "constants": ((1, 4, 4), lambda: dense(lambda u: -F.relu(0.5 * u) / 2)),
    "prelu": ((1, 4, 4), lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.PReLU(), nn.Linear(8, 1))),
}
"""Networks for which the peer has no rule, held to draws of finite networks: (shape of an input, network)."""
