"""Empirical kernels beside torch.func and the peer: `python -m benchmarks.empirical_kernels`, on Linux.

float32, as many threads as torch has; medians of works taken in turns, each side waiting while the other works, so that
a busy machine slows both. "peak" is the most memory that a process held above what it held before the work.

- mlp: 784-1024-1024-10 with ReLU, 64 inputs, full (64, 64, 10, 10);
- cnn: 32x32x3; 3x3 convolutions with padding 1 and ReLU to 32, 32, 64, 64, 128, 128 channels, 2x2 average pooling after
  every second, a dense head of 10; 100 inputs, full (100, 100, 10, 10);
- resnet18: 32x32x3, stem of one 3x3 convolution, stages of 64, 128, 256, 512 channels, BatchNorm in eval mode, global
  average pooling, a dense head of 10; 100 inputs, trace.

The peer, neural-tangents, takes the same networks written with its own functions, in its own environment (see
`benchmarks.__main__`), by each of its three implementations, compiled; one that takes over two minutes or 16 GB is left
out.
"""

import argparse
import json
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import ntklens as nl
from benchmarks.__main__ import cpu, peer_python

NAMES = ("mlp", "cnn", "resnet18")
INPUTS = {"mlp": 64, "cnn": 100, "resnet18": 100}
LONGEST, LARGEST = 120, 16_000
"""Seconds and megabytes after which a side is left out."""
MEMORY = 4 << 30


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

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
        """Features of the same or half the side."""
        return torch.relu(self.body(x) + self.short(x))


def network(name: str) -> nn.Module:
    """One of the three networks, drawn from a seed."""
    torch.manual_seed(0)
    if name == "mlp":
        return nn.Sequential(
            nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
        ).eval()
    if name == "cnn":
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip((3, 32, 32, 64, 64, 128), (32, 32, 64, 64, 128, 128), strict=True)):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), *([nn.AvgPool2d(2)] if i % 2 else [])]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10)).eval()
    plan = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    body = [Residual(*sizes) for sizes in [*plan, (512, 512, 1)]]
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)).eval()


def images(name: str) -> Tensor:
    shape = (784,) if name == "mlp" else (3, 32, 32)
    return torch.rand(INPUTS[name], *shape, generator=torch.Generator().manual_seed(0))


def contraction(net: nn.Module, x: Tensor, *, full: bool) -> Tensor:
    """The kernel by torch.func: Jacobians of all inputs, parameter by parameter contracted."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def f(p: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(net, p, (one[None],))[0]

    blocks = [j.flatten(2) for j in vmap(jacrev(f), (None, 0))(parameters, x).values()]
    return sum(torch.einsum("naf,mbf->nmab" if full else "naf,maf->nm", j, j) for j in blocks)


def megabytes(line: str, process: int | str = "self") -> float:
    found = next(text for text in Path(f"/proc/{process}/status").read_text().splitlines() if text.startswith(line))
    return int(found.split()[1]) * 1024 / 1e6


def serve(side: str, name: str) -> None:
    """Work once for every line that comes, and answer with seconds and megabytes."""
    net, x, full = network(name), images(name), name != "resnet18"
    kernel = nl.empirical_kernel(net, "full" if full else "trace", memory_limit=MEMORY)
    work = {"ours": lambda: kernel(x), "torch.func": lambda: contraction(net, x, full=full)}[side]
    for _ in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")
        before, start = megabytes("VmRSS"), time.perf_counter()
        k = work()
        seconds = time.perf_counter() - start
        print(
            json.dumps({"seconds": seconds, "peak": megabytes("VmHWM") - before, "norm": float(k.norm())}), flush=True
        )


class Side:
    """A process that works when it is asked."""

    def __init__(self, label: str, command: list[str]) -> None:
        self.label, self.times, self.peak, self.norm = label, [], 0.0, float("nan")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, *, count: bool) -> bool:
        """One run; False where the process has died."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        end = time.monotonic() + LONGEST
        while not select.select([self.process.stdout], [], [], 0.5)[0]:
            held = megabytes("VmRSS", self.process.pid)
            if time.monotonic() > end or held > LARGEST:
                self.process.kill()
                return False
        line = self.process.stdout.readline()
        if not line:
            return False
        answer = json.loads(line)
        self.peak, self.norm = max(self.peak, answer["peak"]), answer["norm"]
        if count:
            self.times.append(answer["seconds"])
        return True

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.times)

    def stop(self) -> None:
        """Let the process end."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait()


def compare(name: str, sides: list[str], runs: int) -> None:
    """A table of one network."""
    ours = [sys.executable, "-m", "benchmarks.empirical_kernels", "--network", name, "--side"]
    theirs = [str(peer_python()), str(Path(__file__).with_name("peer_empirical.py")), name]
    running = [Side(s, [*ours, s] if s in ("ours", "torch.func") else [*theirs, s]) for s in sides]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NAMES, action="append", help="one or several; all by default")
    parser.add_argument("--runs", type=int, default=5, help="after one to warm up")
    parser.add_argument("--sides", default="ours,torch.func,1,2,3", help="1, 2, 3: the peer's implementations")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        serve(chosen.side, chosen.network[0])
        return
    print(f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32")
    print(f"{'network':10}{'side':24}{'median':>12}{'over ours':>11}{'peak':>12}")
    for name in chosen.network or NAMES:
        compare(name, chosen.sides.split(","), chosen.runs)


if __name__ == "__main__":
    main()
