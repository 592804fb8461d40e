"""Adversarial images a second from a kernel machine on 10,000 training images: `python -m benchmarks.attack_throughput`.

Ours is `fgsm` on the machine from start to end, outputs and gradient, on float32 images with the machine's own float64
inside. The peer's is the gradient of the kernel sum alone, by its own autograd in float32; for convolutions at fewer
training images, in proportion, as 10,000 of them take it minutes an image.
"""

import json
import statistics
import time

import torch

import ntklens as nl
from benchmarks.__main__ import cpu, images, network, peer

N = 10_000
WORKS = (
    {"name": "FC-3, d = 3072", "network": "fc3", "n1": 64, "n2": N, "d": 3072, "gradient": True, "images": 256},
    {"name": "5 conv, flatten, 32x32x3", "network": "conv5", "n1": 4, "n2": 250, "gradient": True, "images": 32},
)


def machine_of(work: dict) -> nl.KernelMachine:
    """A machine with drawn coefficients: the time of an attack does not depend on them."""
    shape = (work["d"],) if "d" in work else (3, 32, 32)
    machine = nl.KernelMachine(nl.analytic_kernel(network(work["network"], work.get("d"))))
    machine.train_inputs = images(N, *shape)
    machine.coefficients = torch.randn(N, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return machine


def main() -> None:
    """One line a network."""
    other = peer()
    print(f"{cpu()}, {torch.get_num_threads()} threads; images a second, one step, n = {N}, ten classes")
    for work in WORKS:
        machine = machine_of(work)
        x = images(work["images"], *machine.train_inputs.shape[1:])
        y = torch.zeros(len(x), dtype=torch.long)
        nl.fgsm(machine, x[:4], y[:4], 0.03)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            nl.fgsm(machine, x, y, 0.03)
            times.append(time.perf_counter() - start)
        ours = len(x) / statistics.median(times)
        other.stdin.write(json.dumps(work) + "\n")
        other.stdin.flush()
        found = json.loads(other.stdout.readline())
        theirs = found["pairs"] / found["seconds"] / N
        print(
            f"{work['name']:28}ours {ours:9.2f}   peer's gradient {theirs:9.3f}   ratio {ours / theirs:7.1f}",
            flush=True,
        )
    other.stdin.close()


if __name__ == "__main__":
    main()
