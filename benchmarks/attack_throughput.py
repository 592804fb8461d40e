"""Adversarial images a second from a kernel machine on 10,000 training images: `python -m benchmarks.attack_throughput`.

Ours is `fgsm` on the machine from start to end, outputs and gradient, on float32 images, with the machine's arithmetic in
float64, its default, and in float32. The peer's is the gradient of the kernel sum alone, by its own autograd in float32;
for convolutions at fewer training images, in proportion, as 10,000 of them take it seconds an image.
"""

import json

import torch

import ntklens as nl
from benchmarks.__main__ import cpu, images, medians, network, peer

N = 10_000
WORKS = (
    {"name": "FC-3, d = 3072", "network": "fc3", "n1": 64, "n2": N, "d": 3072, "gradient": True, "images": 256},
    {"name": "5 conv, flatten, 32x32x3", "network": "conv5", "n1": 4, "n2": 250, "gradient": True, "images": 32},
)


def rate(work: dict, arithmetic: torch.dtype) -> float:
    """Images a second; the coefficients are drawn, as the time of an attack does not depend on them."""
    shape = (work["d"],) if "d" in work else (3, 32, 32)
    kernel = nl.analytic_kernel(network(work["network"], work.get("d")))
    machine = nl.KernelMachine(kernel, arithmetic=arithmetic)
    machine.train_inputs = images(N, *shape)
    machine.coefficients = torch.randn(N, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = images(work["images"], *shape)
    y = torch.zeros(len(x), dtype=torch.long)
    return len(x) / medians(lambda: nl.fgsm(machine, x, y, 0.03), runs=3)[0]


def main() -> None:
    """One line a network."""
    other = peer()
    print(f"{cpu()}, {torch.get_num_threads()} threads; images a second, one step, n = {N}, ten classes")
    for work in WORKS:
        double, single = (rate(work, arithmetic) for arithmetic in (torch.float64, torch.float32))
        other.stdin.write(json.dumps(work) + "\n")
        other.stdin.flush()
        found = json.loads(other.stdout.readline())
        theirs = found["pairs"] / found["seconds"] / N
        ours = f"float64 {double:8.2f}, float32 {single:8.2f}"
        ratios = f"{double / theirs:7.1f}{single / theirs:7.1f}"
        print(f"{work['name']:28}{ours}   peer's gradient {theirs:9.3f}   over it {ratios}", flush=True)
    other.stdin.close()


if __name__ == "__main__":
    main()
