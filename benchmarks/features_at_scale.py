"""Seconds for all features under PGD on each of them: `python -m benchmarks.features_at_scale [n] [images] [float32]`.

T-shirts against shirts of the full Fashion-MNIST (in `$NTKLENS_DATA` or the cache), one hidden layer, PGD-10 at ε = 8/255:
4,000 training images, so as many features, and 1,000 test images by default.
"""

import sys
import time

import torch

import ntklens as nl
from benchmarks.__main__ import cpu
from ntklens.features import Threat
from ntklens.networks import build


def main() -> None:
    """One line a part."""
    n, images = (int(v) for v in (*sys.argv[1:3], *("4000", "1000")[len(sys.argv[1:3]) :]))
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
        made = features.outcomes(data.test.x, data.test.y, threat)
        seconds = time.perf_counter() - start
        share = float(made.attacked.double().mean())
        print(
            f"{name:18} {seconds:8.1f} s   right on {100 * share:.2f} % of pairs of a feature and an image", flush=True
        )


if __name__ == "__main__":
    main()
