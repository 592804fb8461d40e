import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "golden"
NAMES = sorted(p.stem for p in FOLDER.glob("*.npz"))
WIDTH = 7


class Erf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(x)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x


def _conv(channels: int, kernel_size=3, stride=1, padding="same", bias=True) -> nn.Module:
    mode = "circular" if padding == "circular" else "zeros"
    padding = "same" if padding == "circular" else padding
    return nn.Conv2d(channels, WIDTH, kernel_size, stride, padding, bias=bias, padding_mode=mode)


def _layers(arch: list, channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for name, *args in arch:
        if name == "Conv2d":
            layers.append(_conv(channels, **(args[0] if args else {})))
            channels = WIDTH
        elif name == "Linear":
            layers.append(nn.LazyLinear(WIDTH, bias=args[0] if args else True))
        elif name == "Residual":
            layers.append(Residual(nn.Sequential(*_layers(args[0], channels))))
        elif name == "LayerNorm":
            layers.append(nn.LayerNorm(WIDTH, eps=1e-12, elementwise_affine=False))
        else:
            kinds = {"AdaptiveAvgPool2d(1)": lambda: nn.AdaptiveAvgPool2d(1), "Erf": Erf}
            layers.append(kinds[name]() if name in kinds else getattr(nn, name)(*args))
    return layers


@dataclass
class Golden:
    net: nn.Module
    w_std: float
    b_std: float
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])


def load_golden(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = {k: file[k] for k in file.files}
    net = nn.Sequential(*_layers(json.loads(str(arrays["arch"])), arrays["x1"].shape[1]))
    with torch.random.fork_rng():
        net(torch.zeros(1, *arrays["x1"].shape[1:]))
    return Golden(net, float(arrays["w_std"]), float(arrays["b_std"]), arrays)


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)
