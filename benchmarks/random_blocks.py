"""Random networks of many kinds of layers and functions of torch, each drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.utils.parametrizations as parametrizations
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

D = 6
"""Features of every block's input and output; blocks that need a shape of their own take 6 as 2 x 3 or as tokens."""


class Call(nn.Module):
    """A function of the features, with parameters by name."""

    def __init__(self, function: Callable[..., Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(0.5 * torch.randn(shape) + (0.3 if len(shape) < 2 else 0.0)))

    def forward(self, h: Tensor) -> Tensor:
        """Return the function of the features (n, 6) and the parameters."""
        result: Tensor = self.function(h, **dict(self.named_parameters()))
        return result


class Around(nn.Module):
    """A layer of torch for another shape of its input."""

    def __init__(
        self, layer: nn.Module, shape: tuple[int, ...], take: Callable[[object], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.layer, self.shape, self.take = layer, shape, take

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        out = self.layer(h.unflatten(1, self.shape))
        out = self.take(out) if self.take is not None else out
        return fit(out.flatten(1))


class Attention(nn.Module):
    """Multi-head attention over two tokens of three features."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        t = h.view(-1, 2, 3)
        return self.attention(t, t, t, need_weights=False)[0].flatten(1)


class Checkpointed(nn.Module):
    """Layers whose inner results are computed again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D)), reentrant

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        result: Tensor = checkpoint(self.inner, h, use_reentrant=self.reentrant)
        return result


class Shared(nn.Module):
    """One layer that is called twice, and its weight once more, transposed."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.layer, self.transposed = nn.Linear(D, D), transposed

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        h = self.layer(torch.tanh(self.layer(h)))
        return F.linear(h, self.layer.weight.T) if self.transposed else h


class Unused(nn.Module):
    """A layer that is not called, one that is called for nothing, and one whose result is detached."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.wasted, self.detached = nn.Linear(D, 3), nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        self.wasted(h)
        return h + self.detached(h).detach()


class Frozen(nn.Module):
    """A layer that is run without a graph, although its weight is used elsewhere with one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, D, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        with torch.no_grad():
            still = self.layer(h)
        return torch.tanh(F.linear(h, self.layer.weight)) + still


class Referred(nn.Module):
    """A parameter that the forward reaches by a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.4 * torch.randn(D, D))
        self.references = [self.weight]

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        return h @ self.references[0]


class Sorted(nn.Module):
    """A layer that runs on the inputs in an order of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, D)

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        order = h[:, 0].argsort(stable=True)
        return self.layer(h[order])[order.argsort()]


class Experts(nn.Module):
    """Two layers, each for the inputs with one sign of the first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        positive = h[:, 0] > 0
        out = torch.zeros_like(h)
        out[positive] = self.first(h[positive])
        out[~positive] = self.second(h[~positive])
        return out


class Scaled(nn.Conv1d):
    """A convolution that scales its weight in a method that torch's forward calls."""

    def _conv_forward(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(h, 2 * weight, bias)


class Words(nn.Module):
    """An embedding that is looked up by the signs of the features."""

    def __init__(self, cls: type[nn.Module] = nn.Embedding) -> None:
        super().__init__()
        self.words = cls(3, 3, padding_idx=0) if cls is nn.Embedding else cls(3, 3)

    def forward(self, h: Tensor) -> Tensor:
        """Return features (n, 6)."""
        tokens = (h[:, :2].sign() + 1).long()
        words = self.words(tokens)
        return h + words.flatten(1).repeat(1, 2)[:, :D]


def fit(h: Tensor) -> Tensor:
    """Cut or repeat features to 6."""
    return h.repeat(1, -(-D // h.shape[1]))[:, :D]


def matrix(w: Tensor) -> Tensor:
    """Return an invertible matrix from any square one."""
    return w + 4 * torch.eye(len(w)).to(w)


def written(h: Tensor, w: Tensor) -> Tensor:
    """Write in place, by several functions."""
    out = (h @ w).clone()
    out.mul_(h).add_(1)
    out[:, ::2] = torch.sin(out[:, ::2])
    return F.relu_(out)


def gathered(h: Tensor, w: Tensor) -> Tensor:
    """Gather and scatter along the features."""
    index = torch.tensor([1, 0, 3, 3, 5, 2], device=h.device).expand(len(h), -1)
    return torch.zeros_like(h).scatter_add(1, index, h * w) + (h * w).gather(1, index)


def recurrent(cls: type[nn.Module], **options: object) -> Callable[[], nn.Module]:
    """Return a maker of a recurrent layer over two steps."""
    return lambda: Around(cls(3, 4, batch_first=True, **options), (2, 3), lambda out: out[0])


def normal(layer: nn.Module) -> nn.Module:
    """Draw the statistics of a normalisation layer, and its parameters."""
    with torch.no_grad():
        for name, t in [*layer.named_buffers(), *layer.named_parameters()]:
            if t.is_floating_point():
                t.copy_(torch.rand_like(t) + (0.5 if "var" in name else -0.2))
    return layer


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(D, D),
    "bilinear": lambda: Call(lambda h, w: F.bilinear(h, h, w), w=(D, D, D)),
    "conv1d": lambda: Around(nn.Conv1d(2, 3, 2, padding=1), (2, 3)),
    "conv2d": lambda: Around(nn.Conv2d(1, 3, 2, padding=1), (1, 2, 3)),
    "grouped conv": lambda: Around(nn.Conv1d(2, 4, 2, groups=2), (2, 3)),
    "scaled conv": lambda: Around(Scaled(2, 3, 2), (2, 3)),
    "conv3d": lambda: Around(nn.Conv3d(1, 2, (1, 2, 2)), (1, 1, 2, 3)),
    "transposed conv1d": lambda: Around(nn.ConvTranspose1d(2, 2, 2), (2, 3)),
    "transposed conv2d": lambda: Around(nn.ConvTranspose2d(1, 2, 2, stride=2), (1, 2, 3)),
    "prelu": lambda: nn.PReLU(),
    "prelu of channels": lambda: Around(nn.PReLU(2), (2, 3)),
    "prelu of features": lambda: nn.PReLU(D),
    "layer norm": lambda: normal(nn.LayerNorm(D)),
    "layer norm of two axes": lambda: Around(normal(nn.LayerNorm((2, 3))), (2, 3)),
    "rms norm": lambda: normal(nn.RMSNorm(D, eps=1e-3)),
    "group norm": lambda: Around(normal(nn.GroupNorm(2, 2)), (2, 3)),
    "instance norm": lambda: Around(normal(nn.InstanceNorm1d(2, affine=True)), (2, 3)),
    "instance norm with statistics": lambda: Around(
        normal(nn.InstanceNorm1d(2, affine=True, track_running_stats=True)), (2, 3)
    ),
    "batch norm": lambda: normal(nn.BatchNorm1d(D)),
    "batch norm of channels": lambda: Around(normal(nn.BatchNorm2d(1)), (1, 2, 3)),
    "local response norm": lambda: Around(nn.LocalResponseNorm(2, 0.5), (2, 3)),
    "normalize": lambda: Call(lambda h, w: w * F.normalize(h), w=(D,)),
    "attention": Attention,
    "encoder layer": lambda: Around(nn.TransformerEncoderLayer(3, 1, 4, batch_first=True), (2, 3)),
    "pre-norm encoder layer": lambda: Around(
        nn.TransformerEncoderLayer(3, 1, 4, batch_first=True, norm_first=True, activation="gelu"), (2, 3)
    ),
    "scaled dot product": lambda: Call(
        lambda h, w: F.scaled_dot_product_attention(h.view(-1, 2, 3) @ w, h.view(-1, 2, 3), h.view(-1, 2, 3)).flatten(
            1
        ),
        w=(3, 3),
    ),
    "rnn": recurrent(nn.RNN),
    "lstm": recurrent(nn.LSTM),
    "lstm of two layers": recurrent(nn.LSTM, num_layers=2, bidirectional=True),
    "gru": recurrent(nn.GRU),
    "gru cell": lambda: nn.GRUCell(D, D),
    "embedding": Words,
    "embedding bag": lambda: Call(
        lambda h, w: h + F.embedding_bag((h[:, :2].sign() + 1).long(), w, mode="mean"), w=(3, D)
    ),
    "einsum": lambda: Call(lambda h, w: torch.einsum("nab,abc->nc", h.view(-1, 2, 3), w), w=(2, 3, D)),
    "solve": lambda: Call(lambda h, w: torch.linalg.solve(matrix(w), h.T).T, w=(D, D)),
    "solve from the right": lambda: Call(lambda h, w: torch.linalg.solve(matrix(w), h, left=False), w=(D, D)),
    "solve for each input": lambda: Call(
        lambda h, w: torch.linalg.solve(matrix(w) + 0.1 * h[:, :, None] * h[:, None], h), w=(D, D)
    ),
    "triangular solve": lambda: Call(
        lambda h, w: torch.linalg.solve_triangular(matrix(w), h.T, upper=True).T, w=(D, D)
    ),
    "inverse": lambda: Call(lambda h, w: h @ torch.linalg.inv(matrix(w)), w=(D, D)),
    "determinant": lambda: Call(lambda h, w: h * torch.linalg.slogdet(matrix(w))[1], w=(D, D)),
    "cholesky": lambda: Call(lambda h, w: h @ torch.linalg.cholesky(w @ w.T + torch.eye(D).to(w)), w=(D, D)),
    "cholesky solve": lambda: Call(
        lambda h, w: torch.cholesky_solve(h.T, torch.linalg.cholesky(w @ w.T + torch.eye(D).to(w))).T, w=(D, D)
    ),
    "qr": lambda: Call(lambda h, w: h @ torch.linalg.qr(matrix(w))[0], w=(D, D)),
    "eigenvalues": lambda: Call(lambda h, w: h * torch.linalg.eigvalsh(w + w.T), w=(D, D)),
    "matrix exponential": lambda: Call(lambda h, w: h @ torch.linalg.matrix_exp(w), w=(D, D)),
    "least squares": lambda: Call(lambda h, w: (torch.linalg.pinv(matrix(w)) @ h.T).T, w=(D, D)),
    "indexing": lambda: Call(lambda h, w: h[:, [0, 0, 3, 5, 2, 2]] * w[[1, 1, 0, 2, 5, 4]], w=(D,)),
    "gather and scatter": lambda: Call(gathered, w=(D,)),
    "index add": lambda: Call(
        lambda h, w: torch.zeros_like(h).index_add(1, torch.tensor([0, 1, 1, 2, 5, 5], device=h.device), h * w), w=(D,)
    ),
    "in place": lambda: Call(written, w=(D, D)),
    "cumulative": lambda: Call(lambda h, w: (h * w).cumsum(1) + torch.tanh(h * w).cumprod(1), w=(D,)),
    "sorted features": lambda: Call(lambda h, w: (h * w).sort(1)[0] + h.topk(1)[0], w=(D,)),
    "where": lambda: Call(lambda h, w: torch.where(h > 0, h * w, w.square()), w=(D,)),
    "log-sum-exp": lambda: Call(lambda h, w: (h[:, :, None] * w).logsumexp(1), w=(D, D)),
    "distances": lambda: Call(lambda h, w: torch.cdist(h[:, None], w)[:, 0], w=(D, D)),
    "cosine": lambda: Call(lambda h, w: F.cosine_similarity(h[:, None], w[None], dim=2), w=(D, D)),
    "fourier": lambda: Call(lambda h, w: torch.fft.irfft(torch.fft.rfft(h * w) ** 2, n=D), w=(D,)),
    "padding": lambda: Call(lambda h, w: F.pad((h * w)[:, None], (1, 1), mode="reflect")[:, 0, 1:-1], w=(D,)),
    "interpolation": lambda: Call(
        lambda h, w: F.interpolate((h * w).view(-1, 1, 2, 3), size=(3, 2), mode="bilinear").flatten(1), w=(D,)
    ),
    "pooling": lambda: Call(lambda h, w: fit(F.max_pool1d((h * w)[:, None], 2).flatten(1)), w=(D,)),
    "unfold": lambda: Call(lambda h, w: F.unfold(h.view(-1, 1, 2, 3), 2).sum(2).repeat(1, 2)[:, :D] * w, w=(D,)),
    "custom gate": lambda: Call(lambda h, w, b: h * torch.sigmoid(h @ w + b), w=(D, D), b=(D,)),
    "scale": lambda: Call(lambda h, w: h / (1 + w.square()), w=()),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(D, D)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(D, D)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(D, D)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(D, D)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(D, D)),
    "cayley": lambda: parametrizations.orthogonal(nn.Linear(D, D), orthogonal_map="cayley"),
    "checkpoint": lambda: Checkpointed(False),
    "reentrant checkpoint": lambda: Checkpointed(True),
    "shared": lambda: Shared(False),
    "tied": lambda: Shared(True),
    "unused": Unused,
    "run without a graph": Frozen,
    "own reference": Referred,
    "sorted inputs": Sorted,
    "experts": Experts,
}
ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.Tanh,
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.GELU,
    nn.SiLU,
    nn.Softplus,
    nn.ELU,
    nn.Identity,
    nn.Mish,
)


def draw(seed: int, blocks: int = 3) -> tuple[list[str], nn.Module, Tensor]:
    """Draw the names of the blocks, the network (float64, eval mode, up to seven outputs) and one batch of inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kinds = list(BLOCKS)
        # the first block takes every kind in turn, the others are drawn
        names = [kinds[seed % len(kinds)]]
        names += [kinds[int(torch.randint(len(kinds), ()))] for _ in range(int(torch.randint(1, blocks, ())))]
        names = [names[i] for i in torch.randperm(len(names)).tolist()]
        layers: list[nn.Module] = []
        for name in names:
            layers += [BLOCKS[name](), ACTIVATIONS[int(torch.randint(len(ACTIVATIONS), ()))]()]
        outputs = int(torch.randint(2, 6, ()))
        net = nn.Sequential(*layers, nn.Linear(D, outputs)).double().eval()
        # as many images as outputs, one more, or a few
        n = (outputs, outputs + 1, 4)[int(torch.randint(3, ()))]
        return names, net, torch.randn(n, D, dtype=torch.float64)
