"""Measure adversarial images per second from a kernel machine on 10,000 training images.

Run it with `python -m benchmarks.attack_throughput` (minutes; it starts the peer, see `benchmarks.common`).

Ours is `fgsm` on the machine from start to end, outputs and gradient, on float32 images, with the machine's arithmetic in
float64, its default, and in float32; in float32 both on images of 8 bits, as files hold them, and on others, as they are
after a first step. The peer's is the gradient of the kernel sum alone, by its own autograd in float32.
For convolutions the peer gets fewer training images and its rate is scaled in proportion, because 10,000 of them take it
seconds per image. The figures stand in docs/results.md.
"""

import json

import torch

import ntklens as nl
from benchmarks.common import cpu, images, medians, network, start_peer

N = 10_000
WORKS = (
    {"name": "FC-3, d = 3072", "network": "fc3", "n1": 64, "n2": N, "d": 3072, "gradient": True, "images": 256},
    {"name": "5 conv, flatten, 32x32x3", "network": "conv5", "n1": 4, "n2": 250, "gradient": True, "images": 32},
)
"""`n1` and `n2` are the peer's numbers of images and of training images, `images` is our number of attacked ones."""


def images_per_second(work: dict, arithmetic: torch.dtype, *, eight_bit: bool = False) -> float:
    """Return how many images per second our machine attacks.

    The coefficients are drawn and not fitted, because the time of an attack does not depend on their values.
    """
    shape = (work["d"],) if "d" in work else (3, 32, 32)
    kernel = nl.analytic_kernel(network(work["network"], work.get("d")))
    machine = nl.KernelMachine(kernel, arithmetic=arithmetic)
    machine.train_inputs = images(N, *shape, eight_bit=eight_bit)
    machine.coefficients = torch.randn(N, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = images(work["images"], *shape, eight_bit=eight_bit)
    y = torch.zeros(len(x), dtype=torch.long)
    return len(x) / medians(lambda: nl.fgsm(machine, x, y, 0.03), runs=3)[0]


def main() -> None:
    """Print one line per network."""
    peer = start_peer()
    print(f"{cpu()}, {torch.get_num_threads()} threads; images per second, one step, n = {N}, ten classes")
    for work in WORKS:
        double = images_per_second(work, torch.float64)
        single = images_per_second(work, torch.float32)
        of_files = images_per_second(work, torch.float32, eight_bit=True)
        peer.stdin.write(json.dumps(work) + "\n")
        peer.stdin.flush()
        answer = json.loads(peer.stdout.readline())
        theirs = answer["pairs"] / answer["seconds"] / N
        ours = f"float64 {double:8.2f}, float32 {single:8.2f}, of 8 bits {of_files:8.2f}"
        ratios = "".join(f"{speed / theirs:8.2f}" for speed in (double, single, of_files))
        print(f"{work['name']:28}{ours}   peer's gradient {theirs:9.3f}   over it {ratios}", flush=True)
    peer.stdin.close()


if __name__ == "__main__":
    main()
