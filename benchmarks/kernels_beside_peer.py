"""Measure analytic kernels and gradients beside neural-tangents and beside bare matrix products.

Run it with `python -m benchmarks` or `make bench` (several minutes, plus the peer's installation).

Both sides take float32 images, w_std = √2, b_std = 0.1, as many threads as torch has, one after the other in one run. Each
figure is a median. "bare" is the time of the matrix products that no dense kernel can avoid: one full `X @ X.T`, or the
gradient's two. "beside it" is the peak memory that the work adds beyond its own result (`benchmarks.memory`).

The printed table stands in docs/results.md, as measured on 2026-11-23 on an AMD EPYC with AVX-512, two threads, at commit
4d4b2fe: for example 23.8 ns per pair against 61.6 ns for FC-3 (n = 4000, d = 3072), and 1.9 ms against 292 ms for Myrtle-5.
"""

import json
import subprocess
import sys

import torch

import ntklens as nl
from benchmarks.common import cpu, images, medians, network, start_peer

DENSE = {"n1": 4000, "n2": None, "gradient": False}
CONVOLUTION = {"network": "conv5", "n1": 24, "n2": 24}
POOLING = {"n1": 2, "n2": 2, "ours": (4, 64)}
WORKS = (
    {"name": "FC-3, n = 4000, d = 3072", "network": "fc3", "d": 3072, **DENSE},
    {"name": "FC-10, n = 4000, d = 784", "network": "fc10", "d": 784, **DENSE},
    {"name": "FC-10 without biases", "network": "fc10", "d": 784, "b_std": 0.0, **DENSE},
    {
        "name": "FC-3 gradient, 256 x 4000, d = 3072",
        "network": "fc3",
        "n1": 256,
        "n2": 4000,
        "d": 3072,
        "gradient": True,
    },
    {"name": "5 conv, flatten, 32x32x3", "ours": (256, 1024), "gradient": False, **CONVOLUTION},
    {"name": "5 conv, flatten, gradient", "ours": (128, 1024), "gradient": True, **CONVOLUTION},
    {"name": "4 conv, global pooling, 32x32x3", "network": "gap4", "gradient": False, **POOLING},
    {"name": "4 conv, global pooling, gradient", "network": "gap4", "gradient": True, **POOLING},
    {"name": "Myrtle-5, 32x32x3", "network": "myrtle5", "gradient": False, **POOLING},
)
"""The works. `ours` is the number of images on our side where the peer's time per pair allows it only a few.

A work with n2 = None is a symmetric matrix. The dicts travel to the peer as JSON.
"""


def measure_ours(work: dict) -> tuple[float, float, float | None]:
    """Return our seconds, our seconds per pair, and the seconds of the bare products (None for convolutions)."""
    n1, n2 = work.get("ours", (work["n1"], work["n2"]))
    shape = (work["d"],) if "d" in work else (3, 32, 32)
    kernel = nl.analytic_kernel(network(work["network"], work.get("d")), b_std=work.get("b_std", 0.1))
    x, z = images(n1, *shape), None if n2 is None else images(n2, *shape)
    if work["gradient"]:
        weights = torch.rand(n1, n2, generator=torch.Generator().manual_seed(0))
        works = [lambda: kernel.gradient(x, z, weights), lambda: (x @ z.T, weights @ z)]
    else:
        works = [lambda: kernel(x, z), lambda: x @ x.T]
    pairs = n1 * (n2 or n1)
    if "d" not in work:
        (seconds,) = medians(works[0])
        return seconds, seconds / pairs, None
    seconds, bare = medians(*works)
    return seconds, seconds / pairs, bare


def measure_memory(number: int) -> dict[str, float]:
    """Return the megabytes of a work and of its result, measured in a fresh process so that no other work counts."""
    command = [sys.executable, "-m", "benchmarks.memory", str(number)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def with_unit(seconds: float) -> str:
    """Format a time with the unit that suits its size."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def main() -> None:
    """Print one line per work: both sides per pair, their ratio, the bare products, and memory."""
    peer = start_peer()
    print(f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32; times are per pair")
    heads = f"{'ours':>12}{'peer':>12}{'peer/ours':>11}{'bare':>10}{'ours/bare':>11}{'result':>10}{'beside it':>11}"
    print(f"{'work':38}{heads}")
    for number, work in enumerate(WORKS):
        peer.stdin.write(json.dumps(work) + "\n")
        peer.stdin.flush()
        theirs = json.loads(peer.stdout.readline())
        seconds, per_pair, bare = measure_ours(work)
        peer_per_pair = theirs["seconds"] / theirs["pairs"]
        times = f"{with_unit(per_pair):>12}{with_unit(peer_per_pair):>12}{peer_per_pair / per_pair:11.1f}"
        limit = f"{bare:9.3f}s{seconds / bare:11.2f}" if bare else " " * 21
        memory = measure_memory(number)
        beside = max(0.0, memory["added"] - memory["result"])
        print(f"{work['name']:38}{times}{limit}{memory['result']:7.1f} MB{beside:8.0f} MB", flush=True)
    peer.stdin.close()
    print(f"peak memory of the peer's process: {theirs['peak_gb']:.2f} GB")


if __name__ == "__main__":
    main()
