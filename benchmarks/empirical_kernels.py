"""Measure empirical kernels beside torch.func and beside neural-tangents: seconds and peak memory, on Linux.

Run it with `python -m benchmarks.empirical_kernels`, or a part of it, for example with
`--network mlp --sides ours,torch.func --runs 1`; all of it takes about half an hour on two cores.

float32, as many threads as torch has. Figures are medians of works taken in turns: each side waits while another works,
so that a busy machine slows all alike. "peak" is the most memory that a process held above what it held before the work.

- mlp: 784-1024-1024-10 with ReLU, 64 inputs, full (64, 64, 10, 10);
- cnn: 32x32x3; 3x3 convolutions with padding 1 and ReLU to 32, 32, 64, 64, 128, 128 channels, 2x2 average pooling after
  every second one, a dense head of 10; 100 inputs, full (100, 100, 10, 10);
- resnet18: 32x32x3, a stem of one 3x3 convolution, stages of 64, 128, 256, 512 channels, BatchNorm in eval mode, global
  average pooling, a dense head of 10; 100 inputs, trace;
- vit, vit-torch: a vision transformer on 32x32x3 with patches of 4x4, a class token, position embeddings, width 192, four
  blocks of three heads, GELU, a dense head of 10; with attention written out around F.scaled_dot_product_attention, or by
  nn.MultiheadAttention; 64 inputs, full (64, 64, 10, 10). With `--trace` their traces.

Before the first run our kernel is compared in float64 with torch.func on two inputs. The peer has no part in the
transformers.

The peer takes the same networks, written with its own functions (`peer_empirical.py`), in its own environment, by each of
its three implementations, compiled. A side that takes over two minutes or 16 GB is left out.

Measured on 2026-11-25 on an AMD EPYC, two threads, at or before commit 2e486cb; the table stands in docs/results.md. For
example mlp: 0.026 s ours, 12.6, 2.6 and 0.035 s the peer's three, 9.6 s torch.func.
"""

import argparse
import copy
import json
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import ntklens as nl
from benchmarks.common import cpu, megabytes, peer_python, reset_peak

NAMES = ("mlp", "cnn", "resnet18", "vit", "vit-torch")
INPUTS = {"mlp": 64, "cnn": 100, "resnet18": 100, "vit": 64, "vit-torch": 64}
LONGEST_SECONDS = 120
LARGEST_MEGABYTES = 16_000
"""A side that goes beyond either of the two is left out."""
MEMORY_LIMIT = 4 << 30
"""Bytes that our side may use beside its result."""


class Residual(nn.Module):
    """A block of two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.short = nn.Identity()
        if stride > 1:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same side length, or of half of it with stride 2."""
        return torch.relu(self.body(x) + self.short(x))


class Attention(nn.Module):
    """Self-attention of three heads, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """Return features of the same shape, (n, tokens, width)."""
        n, t, width = h.shape
        q, k, v = self.qkv(h).view(n, t, 3, 3, width // 3).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, width))


class Encoder(nn.Module):
    """A pre-norm block of a vision transformer, with attention written out or torch's."""

    def __init__(self, width: int, *, own: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.own = own
        self.attention = Attention(width) if own else nn.MultiheadAttention(width, 3, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        """Return features of the same shape, (n, tokens, width)."""
        a = self.norm1(h)
        h = h + (self.attention(a) if self.own else self.attention(a, a, a, need_weights=False)[0])
        return h + self.mlp(self.norm2(h))


class VisionTransformer(nn.Module):
    """Patches of 4x4, a class token, position embeddings, and four blocks."""

    def __init__(self, *, own: bool, width: int = 192) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 65, width))
        self.blocks = nn.Sequential(*(Encoder(width, own=own) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, 10)."""
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1) + self.places
        return self.head(self.norm(self.blocks(h))[:, 0])


def network(name: str) -> nn.Module:
    """Build one of the networks, with weights drawn from a fixed seed."""
    torch.manual_seed(0)
    if name.startswith("vit"):
        return VisionTransformer(own=name == "vit").eval()
    if name == "mlp":
        layers = [nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)]
        return nn.Sequential(*layers).eval()
    if name == "cnn":
        layers = []
        for i, (inputs, outputs) in enumerate(zip((3, 32, 32, 64, 64, 128), (32, 32, 64, 64, 128, 128), strict=True)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.AvgPool2d(2)] if i % 2 else []
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10)).eval()
    # Channels in, channels out and the stride of each residual block: two blocks per stage.
    plan = [
        (64, 64, 1),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
        (256, 512, 2),
        (512, 512, 1),
    ]
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    body = [Residual(*sizes) for sizes in plan]
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)).eval()


def images(name: str) -> Tensor:
    """Draw the inputs of one of the networks."""
    shape = (784,) if name == "mlp" else (3, 32, 32)
    return torch.rand(INPUTS[name], *shape, generator=torch.Generator().manual_seed(0))


def contraction(net: nn.Module, x: Tensor, *, full: bool) -> Tensor:
    """Compute the kernel by torch.func: Jacobians of all inputs, contracted parameter by parameter."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def f(p: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(net, p, (image[None],))[0]

    # One Jacobian per parameter, (n images, outputs, size of the parameter).
    jacobians = [j.flatten(2) for j in vmap(jacrev(f), (None, 0))(parameters, x).values()]
    product = "naf,mbf->nmab" if full else "naf,maf->nm"
    return sum(torch.einsum(product, j, j) for j in jacobians)


def vector_products(net: nn.Module, x: Tensor) -> Tensor:
    """Compute the full kernel by products of Jacobians with vectors, J(x) (J(x')ᵀ e_b), as torch's tutorial does."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def f(p: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(net, p, (image[None],))[0]

    def pair(a: Tensor, b: Tensor) -> Tensor:
        _, back = vjp(lambda p: f(p, b), parameters)
        unit = torch.eye(10, dtype=x.dtype)
        return vmap(lambda e: jvp(lambda p: f(p, a), (parameters,), back(e))[1], out_dims=1)(unit)

    with sdpa_kernel(SDPBackend.MATH):  # torch's other ways of attention have no forward mode
        return vmap(vmap(pair, (None, 0)), (0, None))(x, x)


def check(net: nn.Module, x: Tensor, *, full: bool) -> None:
    """Compare our kernel with torch.func's in float64."""
    twin, x = copy.deepcopy(net).double(), x.double()
    expected = contraction(twin, x, full=full) / (1 if full else 10)
    ours = nl.empirical_kernel(twin, "full" if full else "trace")(x)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def serve(side: str, name: str, *, trace: bool) -> None:
    """Compute the kernel once for every line of standard input, and answer with seconds and megabytes."""
    net = network(name)
    x = images(name)
    full = name != "resnet18" and not trace
    kernel = nl.empirical_kernel(net, "full" if full else "trace", memory_limit=MEMORY_LIMIT)
    work = {
        "ours": lambda: kernel(x),
        "torch.func": lambda: contraction(net, x, full=full),
        "ntk-vps": lambda: vector_products(net, x),
    }[side]
    if side == "ours":
        check(net, x[:2], full=full)
    for _ in sys.stdin:
        reset_peak()
        before = megabytes("VmRSS")
        start = time.perf_counter()
        k = work()
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "peak": megabytes("VmHWM") - before, "norm": float(k.norm())}
        print(json.dumps(answer), flush=True)


class Side:
    """One implementation in a process of its own, which works when it is asked, and what it has measured."""

    def __init__(self, label: str, command: list[str]) -> None:
        self.label = label
        self.times: list[float] = []
        self.peak = 0.0
        self.norm = float("nan")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, *, count: bool) -> bool:
        """Let the side work once; return False where it was ended or has ended itself."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        end = time.monotonic() + LONGEST_SECONDS
        # Look at the clock and at the memory twice per second until the answer is there.
        while not select.select([self.process.stdout], [], [], 0.5)[0]:
            too_large = megabytes("VmRSS", self.process.pid) > LARGEST_MEGABYTES
            if time.monotonic() > end or too_large:
                self.process.kill()
                return False
        line = self.process.stdout.readline()
        if not line:
            return False
        answer = json.loads(line)
        self.peak = max(self.peak, answer["peak"])
        self.norm = answer["norm"]
        if count:
            self.times.append(answer["seconds"])
        return True

    @property
    def seconds(self) -> float:
        """Median of the counted runs."""
        return statistics.median(self.times)

    def stop(self) -> None:
        """Let the process end."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait()


def compare(name: str, sides: list[str], runs: int, *, trace: bool) -> None:
    """Print one line per side for one network; the first side is what the others are compared with."""
    options = ["--network", name, *(["--trace"] if trace else [])]
    ours = [sys.executable, "-m", "benchmarks.empirical_kernels", *options, "--side"]
    if name.startswith("vit"):
        sides = [side for side in sides if not side.isdigit()]
    peer = [str(Path(__file__).with_name("peer_empirical.py")), name]
    running = [Side(s, [str(peer_python()), *peer, s] if s.isdigit() else [*ours, s]) for s in sides]
    for turn in range(runs + 1):
        for side in list(running):
            if not side.turn(count=turn > 0):
                print(f"{name:10}{side.label:24} left out: over two minutes or 16 GB", flush=True)
                running.remove(side)
                side.stop()
    for side in running:
        ratio = side.seconds / running[0].seconds
        figures = f"{side.seconds:10.3f} s{ratio:9.2f} x{side.peak:9.0f} MB    |K| = {side.norm:.5g}"
        print(f"{name:10}{side.label:24}{figures}", flush=True)
        side.stop()


def main() -> None:
    """Compare the chosen networks, or serve as one of the sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NAMES, action="append", help="may be repeated; all by default")
    parser.add_argument("--runs", type=int, default=5, help="counted runs, after one that warms up")
    parser.add_argument(
        "--sides",
        default="ours,torch.func,1,2,3",
        help="comma-separated; 1, 2, 3 are the implementations of the peer, ntk-vps is torch's products with vectors",
    )
    parser.add_argument("--trace", action="store_true", help="take traces instead of full kernels; not for the peer")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        serve(chosen.side, chosen.network[0], trace=chosen.trace)
        return
    print(f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32")
    print(f"{'network':10}{'side':24}{'median':>12}{'over ours':>11}{'peak':>12}")
    for name in chosen.network or NAMES:
        compare(name, chosen.sides.split(","), chosen.runs, trace=chosen.trace)


if __name__ == "__main__":
    main()
