"""Our kernels beside the peer's and beside bare limits: `python -m benchmarks`, with `--figure` for the scaling curves.

The peer, neural-tangents, is installed into an environment of its own beside the run folders. Both sides take float32
images, w_std = √2, b_std = 0.1 and as many threads as torch has, one after the other in one run; figures are medians.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import ntklens as nl

ROOT = Path(__file__).parents[1]
PEER = ROOT / "runs" / "peer"
RUNS = 7

WORKS = (
    {"name": "FC-3, n = 4000, d = 3072", "network": "fc3", "n1": 4000, "n2": None, "d": 3072, "gradient": False},
    {"name": "FC-10, n = 4000, d = 784", "network": "fc10", "n1": 4000, "n2": None, "d": 784, "gradient": False},
    {
        "name": "FC-10 without biases",
        "network": "fc10",
        "n1": 4000,
        "n2": None,
        "d": 784,
        "gradient": False,
        "b_std": 0.0,
    },
    {
        "name": "FC-3 gradient, 256 x 4000, d = 3072",
        "network": "fc3",
        "n1": 256,
        "n2": 4000,
        "d": 3072,
        "gradient": True,
    },
    {
        "name": "5 conv, flatten, 32x32x3",
        "network": "conv5",
        "n1": 24,
        "n2": 24,
        "ours": (256, 1024),
        "gradient": False,
    },
    {
        "name": "5 conv, flatten, gradient",
        "network": "conv5",
        "n1": 24,
        "n2": 24,
        "ours": (128, 1024),
        "gradient": True,
    },
    {
        "name": "4 conv, global pooling, 32x32x3",
        "network": "gap4",
        "n1": 2,
        "n2": 2,
        "ours": (4, 64),
        "gradient": False,
    },
    {
        "name": "4 conv, global pooling, gradient",
        "network": "gap4",
        "n1": 2,
        "n2": 2,
        "ours": (4, 64),
        "gradient": True,
    },
    {"name": "Myrtle-5, 32x32x3", "network": "myrtle5", "n1": 2, "n2": 2, "ours": (4, 64), "gradient": False},
)
"""What is timed; `ours` is the size on our side where the peer's time a pair forbids it more than a few."""


def network(name: str, d: int | None) -> nn.Module:
    """The same network in torch."""
    if d is not None:
        depth = int(name[2:])
        hidden = [m for i in range(depth) for m in (nn.Linear(d if i == 0 else 8, 8), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(8, 1))
    plan = {"conv5": "ccccc", "gap4": "cccc", "myrtle5": "ccpcpcp"}[name]
    layers, inputs = [], 3
    for kind in plan:
        layers += [nn.Conv2d(inputs, 8, 3, padding=1), nn.ReLU()] if kind == "c" else [nn.AvgPool2d(2)]
        inputs = 8
    tail = (
        [nn.Flatten(), nn.Linear(8192, 1)]
        if name == "conv5"
        else [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)]
    )
    return nn.Sequential(*layers, *tail)


def medians(*works: Callable[[], object], runs: int = RUNS) -> list[float]:
    """Median seconds of each of a few works, taken in turns, after one round to warm up."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(runs + 1):
        for work, kept in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if turn:
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def images(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(n))


def ours(work: dict) -> tuple[float, float, float | None]:
    """Seconds and nanoseconds a pair of ours, and seconds of the bare products where there is such a limit."""
    n1, n2 = work.get("ours", (work["n1"], work["n2"]))
    shape = (work["d"],) if "d" in work else (3, 32, 32)
    kernel = nl.analytic_kernel(network(work["network"], work.get("d")), b_std=work.get("b_std", 0.1))
    x, z = images(n1, *shape), None if n2 is None else images(n2, *shape)
    if work["gradient"]:
        w = torch.rand(n1, n2, generator=torch.Generator().manual_seed(0))
        works = [lambda: kernel.gradient(x, z, w), lambda: (x @ z.T, w @ z)]
    else:
        works = [lambda: kernel(x, z), lambda: x @ x.T]
    seconds, bare = [*medians(*works[: 2 if "d" in work else 1]), None][:2]
    return seconds, seconds / (n1 * (n2 or n1)), bare


def peer_python() -> Path:
    """The Python of the peer's environment; installed at first use."""
    python = PEER / "bin" / "python"
    if not python.exists():
        print("installing the peer into", PEER, "once", flush=True)
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*pip, "numpy==1.26.4", "scipy==1.12.0", "frozendict", "ml_dtypes==0.3.2", "opt_einsum"], check=True
        )
        subprocess.run([*pip, "--no-deps", "jax==0.4.25", "jaxlib==0.4.25", "neural-tangents==0.6.5"], check=True)
    return python


def peer() -> subprocess.Popen:
    """The peer, waiting for works."""
    script = Path(__file__).with_name("peer.py")
    return subprocess.Popen([peer_python(), script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def table() -> None:
    """One line a work: both sides a pair, the ratio, and the bare limit."""
    other = peer()
    print(f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32")
    print(
        f"{'work':38}{'ours':>12}{'peer':>12}{'peer/ours':>11}{'bare':>10}{'ours/bare':>11}{'result':>10}{'beside it':>11}"
    )
    for number, work in enumerate(WORKS):
        other.stdin.write(json.dumps(work) + "\n")
        other.stdin.flush()
        theirs = json.loads(other.stdout.readline())
        seconds, each, bare = ours(work)
        each_peer = theirs["seconds"] / theirs["pairs"]
        limit = f"{bare:9.3f}s{seconds / bare:11.2f}" if bare else " " * 21
        ratio = f"{amount(each):>12}{amount(each_peer):>12}{each_peer / each:11.1f}"
        child = [sys.executable, "-m", "benchmarks.memory", str(number)]
        memory = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        beside = max(0.0, memory["added"] - memory["result"])
        print(f"{work['name']:38}{ratio}{limit}{memory['result']:7.1f} MB{beside:8.0f} MB", flush=True)
    other.stdin.close()
    print(f"peak memory of the peer's process: {theirs['peak_gb']:.2f} GB")


def amount(seconds: float) -> str:
    """A time a pair with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def cpu() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Run the table, or draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", action="store_true", help="draw time over n, depth, image side and threads")
    if parser.parse_args().figure:
        from benchmarks import scaling

        scaling.draw()
    else:
        table()


if __name__ == "__main__":
    main()
