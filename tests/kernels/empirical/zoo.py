"""Networks with every class of layer that the empirical kernel structures, and some that it does not; kernels by hand."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    plain: tuple[str, ...] = ()
    """Parameters that get plain Jacobians."""
    tokens: int = 0


class Block(nn.Module):
    """A residual block with a strided shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.short = nn.Conv2d(2, 4, 1, 2, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(3)])
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norms[1](self.second(torch.relu_(self.norms[0](self.first(x)))))
        return self.head(F.relu(h + self.norms[2](self.short(x))).mean((2, 3)))


class Recurrent(nn.Module):
    """One layer, one norm and one convolution that are called several times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.step = nn.Conv1d(2, 2, 3, padding=1), nn.LayerNorm(8), nn.Linear(8, 8)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.conv(x)) + self.norm(torch.tanh(self.step(x)))
        return self.head(x.flatten(1))


class Tied(nn.Module):
    """An autoencoder whose decoder has the encoder's weight, as the same parameter and once transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3, bias=False)
        self.decode.weight = self.encode.weight
        self.back = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.decode(torch.tanh(self.encode(x))))
        return self.head(h + self.back * F.linear(h, self.head.weight).sum(1, keepdim=True))


class Temperature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.temperature = nn.Linear(6, 3), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.body(x)) / self.temperature


class Words(nn.Module):
    """Tokens, attention over them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(7, 4, padding_idx=0), nn.Parameter(torch.zeros(5, 4))
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.words(tokens) + self.places
        return self.head((h + self.attention(h, h, h, need_weights=False)[0]).mean(1))


class Transformer(nn.Module):
    """A pre-norm block written out, whose layers all have rules."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(7, 6), nn.Embedding(5, 6)
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)
        self.norms = nn.ModuleList([nn.LayerNorm(6), nn.RMSNorm(6, eps=1e-5)])
        self.mlp = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.words(tokens) + self.places(torch.arange(5, device=tokens.device).expand(tokens.shape))
        q, k, v = self.qkv(self.norms[0](h)).chunk(3, -1)
        h = h + self.out(F.scaled_dot_product_attention(q, k, v))
        return self.head((h + self.mlp(self.norms[1](h))).mean(1))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(30, 3))


class Vision(nn.Module):
    """A vision transformer with a class token, positions of which a slice is used, and a scale of each branch."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(2, 6, 2, 2), nn.Parameter(torch.ones(1, 1, 6))
        self.places, self.gamma = nn.Parameter(torch.ones(1, 7, 6)), nn.Parameter(torch.ones(6))
        self.norms = nn.ModuleList([nn.LayerNorm(6) for _ in range(3)])
        self.attention = None if own else nn.MultiheadAttention(6, 3, batch_first=True)
        self.qkv, self.out = (nn.Linear(6, 18), nn.Linear(6, 6)) if own else (None, None)
        self.mlp, self.head = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6)), nn.Linear(6, 3)

    def attend(self, h: Tensor) -> Tensor:
        if self.attention is not None:
            return self.attention(h, h, h)[0]
        q, k, v = self.qkv(h).view(len(h), -1, 3, 3, 2).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(h.shape))

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).mT
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1)
        h = h + self.places[:, : h.shape[1]]
        h = h + self.gamma * self.attend(self.norms[0](h))
        h = h + self.mlp(self.norms[1](h))
        return self.head(self.norms[2](h)[:, 0])


def net(*layers: nn.Module, head: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers, nn.Flatten(), nn.Linear(head, 3))


def volume() -> nn.Module:
    conv = nn.Conv3d(2, 2, (2, 3, 1), stride=(1, 2, 1), padding=(0, 1, 0), dilation=(1, 1, 2))
    return nn.Sequential(conv, nn.BatchNorm3d(2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.relu(x + self.norm(self.b(torch.relu(x))))
        return self.out(x.mean((2, 3)))


IMAGE_NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(50, 7), nn.Tanh(), nn.Linear(7, 3)),
    "strided": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
    "residual": Residual,
}
"""Small networks for `images`."""


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 2, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ZOO = {
    "mlp": Case(lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.GELU(), nn.Linear(9, 3)), (6,)),
    "strided": Case(net(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Tanh(), head=36), (2, 5, 6)),
    "grouped": Case(net(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.Conv2d(6, 6, 2, groups=6), head=24), (4, 5, 5)),
    "dilated": Case(
        net(nn.Conv2d(2, 3, 3, dilation=2, padding=2, padding_mode="reflect"), nn.SiLU(), head=75), (2, 5, 5)
    ),
    "same": Case(net(nn.Conv2d(2, 3, (2, 4), padding="same", padding_mode="circular"), nn.Tanh(), head=60), (2, 4, 5)),
    "sequence": Case(net(nn.Conv1d(2, 3, 4, stride=3, padding=2), nn.Tanh(), nn.BatchNorm1d(3), head=9), (2, 8)),
    "volume": Case(volume, (2, 3, 5, 6)),
    "residual": Case(Block, (2, 6, 5)),
    "layer norm": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(inplace=True), nn.Linear(8, 3)), (6,)
    ),
    "group norm": Case(net(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.MaxPool2d(2), head=4), (2, 5, 5)),
    "positions": Case(net(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2), nn.LayerNorm((3, 2)), head=6), (3, 4)),
    "recurrent": Case(Recurrent, (2, 8)),
    "tied": Case(Tied, (6,), ("head.weight",)),
    "temperature": Case(Temperature, (6,)),
    "words": Case(Words, (5,), tokens=7),
    "transformer": Case(Transformer, (5,), tokens=7),
    "encoder": Case(encoder, (5, 6)),
    "vision": Case(lambda: Vision(own=True), (2, 4, 6)),
    "vision with torch's attention": Case(lambda: Vision(own=False), (2, 4, 6)),
}


def network_of(case: Case, dtype: torch.dtype) -> nn.Module:
    """Return the network of a case in eval mode, with parameters and statistics drawn from a seed."""
    network, generator = copy.deepcopy(case.make()).to(dtype).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, t in [*network.named_parameters(), *network.named_buffers()]:
            if t.is_floating_point():
                drawn = torch.rand(t.shape, generator=generator, dtype=torch.float64)
                t.copy_(drawn + 0.5 if "var" in name or t.ndim == 0 else 1.2 * drawn - 0.5)
    return network


def inputs_of(case: Case, n: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if case.tokens:
        return torch.randint(0, case.tokens, (n, *case.shape), generator=generator)
    return torch.randn(n, *case.shape, generator=generator, dtype=dtype)


def jacobians_by_hand(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return Jacobians (n, O, P) by the name of a parameter, from one gradient at a time."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    rows = [
        [torch.autograd.grad(f, parameters, retain_graph=True, materialize_grads=True) for f in net(one[None])[0]]
        for one in x
    ]
    return {
        name: torch.stack([torch.stack([grads[i].flatten() for grads in row]) for row in rows])
        for i, name in enumerate(names)
    }


class ByHand(NamedTuple):
    net: nn.Module
    x: Tensor
    z: Tensor
    full: Tensor
    """The full kernel of x and z."""
    blocks: dict[str, Tensor]
    """Kernels of single parameters."""


def kernel_by_hand(case: Case, dtype: torch.dtype) -> ByHand:
    """Return a case's network, two batches, and the kernel between them."""
    net = network_of(case, dtype)
    x, z = inputs_of(case, 4, 0, dtype), inputs_of(case, 3, 1, dtype)
    a, b = jacobians_by_hand(net, x), jacobians_by_hand(net, z)
    blocks = {name: torch.einsum("nap,mbp->nmab", a[name], b[name]) for name in a}
    return ByHand(net, x, z, sum(blocks.values()), blocks)


def reduced(full: Tensor, outputs: str) -> Tensor:
    """Return the kernel for "full", "trace" or "pseudo" outputs, from the full one."""
    o = full.shape[2]
    return {"full": full, "trace": torch.einsum("nmaa->nm", full) / o, "pseudo": full.sum((2, 3)) / o}[outputs]


def error(result: Tensor, truth: Tensor) -> float:
    """Return the largest error over the largest entry."""
    return float((result - truth).abs().max() / truth.abs().max())
