"""Measure how long it takes to score all features clean, and under PGD on each of them.

Run it with `python -m benchmarks.features_at_scale [N] [IMAGES] [float32]`: N training images, which give N features
(4,000 by default), and IMAGES test images (1,000 by default). It takes T-shirts against shirts of the full Fashion-MNIST
(in `$NTKLENS_DATA` or the cache), one hidden layer, PGD-10 at ε = 8/255, and float64 unless `float32` is given.

Measured on 2026-11-25 at or before commit 34ef523, float64, two threads (processor not noted): PGD on all 4,000 features at
1,000 images, two million attacks of 4,000 kernel values per step, took 726 and 749 s in two runs.

On 2026-11-27, at 6fdaeeb, 40 of the images took 21.2 s in float64 and 10.3 s in float32 on two cores of an AMD EPYC (Zen
4), which is 1.59 and 1.70 times their bare matrix products; before commit 9a9a880, 20 of them took 2.04 and 2.55 times
theirs.
"""

import sys
import time

import torch

import ntklens as nl
from benchmarks.common import cpu
from ntklens.features import Threat
from ntklens.networks import build


def main() -> None:
    """Print the seconds of each part."""
    numbers = [int(argument) for argument in sys.argv[1:] if argument != "float32"]
    n = numbers[0] if numbers else 4000
    images = numbers[1] if len(numbers) > 1 else 1000
    dtype = torch.float32 if "float32" in sys.argv else torch.float64
    data = nl.load_dataset("fashion-mnist", classes=[0, 6], train=n, test=images)
    print(f"{cpu()}, {torch.get_num_threads()} threads; n = {n}, {images} images, {dtype}", flush=True)
    start = time.perf_counter()
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 1)), arithmetic=dtype)
    machine.fit(data.train.x, data.train.y)
    features = nl.eigenfeatures(machine)
    print(f"kernel, spectrum   {time.perf_counter() - start:8.1f} s", flush=True)
    for name, threat in (("usefulness", None), ("PGD-10", Threat(8 / 255, steps=10))):
        start = time.perf_counter()
        outcomes = features.outcomes(data.test.x, data.test.y, threat)
        seconds = time.perf_counter() - start
        share = 100 * float(outcomes.attacked.double().mean())
        print(f"{name:18} {seconds:8.1f} s   right on {share:.2f} % of (feature, image) pairs", flush=True)


if __name__ == "__main__":
    main()
