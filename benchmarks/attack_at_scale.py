"""Measure a kernel machine on the whole of Fashion-MNIST: time and memory of predictions and attacks beside bare products.

Run it with `python -m benchmarks.attack_at_scale FOLDER [float32] [IMAGES] [ATTACKED]` (minutes). FOLDER has the data
set's four files, or a folder `fashion-mnist` with them. IMAGES test images are predicted and attacked by one step (10,000
by default), the first ATTACKED of them by ten steps (500 by default); in float64 unless `float32` is given.

The machine is FC-3 on 60,000 training images with ten columns of drawn coefficients, since neither time nor memory depends
on their values. Each line has the seconds, their ratio to the bare matrix products of the same number of pairs (one for
values; two for a gradient beside them), measured in the same process, and the megabytes at the peak beside the machine.
"""

import sys
import time
from collections.abc import Callable

import torch

import ntklens as nl
from benchmarks.common import cpu, megabytes, network, reset_peak


def fitted(data: nl.Dataset, dtype: torch.dtype) -> nl.KernelMachine:
    """Return a machine on all training images whose coefficients are drawn, and that is ready to predict."""
    machine = nl.KernelMachine(nl.analytic_kernel(torch.nn.Sequential(torch.nn.Flatten(), network("fc3", 784))))
    machine.arithmetic = dtype
    x = data.train.x
    machine.train_inputs = x
    machine.coefficients = torch.randn(len(x), 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    machine.outputs(data.test.x[:2])  # compiles the engine and brings the inputs into the arithmetic
    nl.fgsm(machine, data.test.x[:2], data.test.y[:2], 0.03)
    return machine


def seconds_per_product(data: nl.Dataset, dtype: torch.dtype) -> float:
    """Return the seconds that torch takes per pair of images for their inner product."""
    x, z = data.test.x[:1000].flatten(1).to(dtype), data.train.x[:10_000].flatten(1).to(dtype)
    x @ z.T
    start = time.perf_counter()
    for _ in range(3):
        x @ z.T
    return (time.perf_counter() - start) / (3 * len(x) * len(z))


def report(name: str, work: Callable[[], object], pairs: int, products: int, per_product: float) -> None:
    """Run a work, and print its time beside that of bare products, and its memory."""
    before = megabytes("VmRSS")
    reset_peak()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    bare = seconds / (pairs * products * per_product)
    added = megabytes("VmHWM") - before
    print(f"{name:36}{seconds:9.1f} s   {bare:6.2f} times {products} products   {added:7.0f} MB", flush=True)


def main() -> None:
    """Print one line per work."""
    dtype = torch.float32 if "float32" in sys.argv else torch.float64
    folder, *numbers = [argument for argument in sys.argv[1:] if argument not in ("float32", "float64")]
    images, attacked = [*map(int, numbers), *(10_000, 500)[len(numbers) :]]
    data = nl.load_dataset("fashion-mnist", data_dir=folder)
    x, y, n = data.test.x[:images], data.test.y[:images], len(data.train.x)
    per_product = seconds_per_product(data, dtype)
    rate = 2e-9 * 784 / per_product
    machine = fitted(data, dtype)
    print(f"{cpu()}, {torch.get_num_threads()} threads; {dtype}, bare products {rate:.0f} GFlop/s, n = {n}", flush=True)
    some, classes = x[:attacked], y[:attacked]
    report(f"{len(x):6} predictions", lambda: machine.predict(x), len(x) * n, 1, per_product)
    report(f"{len(some):6} by PGD-10", lambda: nl.pgd(machine, some, classes, 0.03), 10 * len(some) * n, 2, per_product)
    report(
        f"{len(some):6} by PGD-10, 256 at a time",
        lambda: nl.pgd(machine, some, classes, 0.03, batch_size=256),
        10 * len(some) * n,
        2,
        per_product,
    )
    report(f"{len(x):6} by FGSM", lambda: nl.fgsm(machine, x, y, 0.03), len(x) * n, 2, per_product)


if __name__ == "__main__":
    main()
