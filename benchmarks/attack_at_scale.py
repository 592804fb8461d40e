"""Measure a kernel machine on a whole data set: time and memory of predictions and attacks beside bare products.

Run it with `python -m benchmarks.attack_at_scale FOLDER [mnist] [float32] [IMAGES] [ATTACKED] [machine=FILE]` (minutes).
FOLDER has the files of Fashion-MNIST, or of MNIST, or a folder of that name with them. IMAGES test images are predicted and
attacked by one step (10,000 by default), the first ATTACKED of them by ten steps (500 by default); in float64 unless
`float32` is given.

The machine is FC-3 on 60,000 training images with ten columns of drawn coefficients, since neither time nor memory depends
on their values; or the one in FILE, whose accuracy is told too. Each line has the seconds, their ratio to the bare matrix
products of the same number of pairs (one for values; two for a gradient beside them), measured in the same process, the
images per second, and the megabytes at the peak beside the machine.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import ntklens as nl
from benchmarks.common import cpu, megabytes, network, reset_peak


def fitted(data: nl.Dataset, dtype: torch.dtype, file: str | None) -> nl.KernelMachine:
    """Return a machine on all training images, from a file or with drawn coefficients, that is ready to predict."""
    if file is not None:
        machine = nl.KernelMachine.load(file)
    else:
        machine = nl.KernelMachine(nl.analytic_kernel(torch.nn.Sequential(torch.nn.Flatten(), network("fc3", 784))))
        x = data.train.x
        machine.train_inputs = x
        machine.coefficients = torch.randn(len(x), 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    machine.arithmetic = dtype
    machine.outputs(data.test.x[:2])  # compiles the engine and brings the inputs into the arithmetic
    nl.fgsm(machine, data.test.x[:2], data.test.y[:2], 0.03)
    return machine


def seconds_per_product(data: nl.Dataset, dtype: torch.dtype) -> float:
    """Return the seconds that torch takes per pair of images for their inner product."""
    x, z = data.test.x[:1000].flatten(1).to(dtype), data.train.x[:10_000].flatten(1).to(dtype)
    x @ z.T
    start = time.perf_counter()
    x @ z.T
    x @ z.T
    return (time.perf_counter() - start) / (2 * len(x) * len(z))


def main() -> None:
    """Print one line per work."""
    dtype = torch.float32 if "float32" in sys.argv else torch.float64
    file = next((argument[8:] for argument in sys.argv if argument.startswith("machine=")), None)
    plain = [argument for argument in sys.argv[1:] if not argument.startswith(("float", "machine="))]
    name = "mnist" if "mnist" in plain else "fashion-mnist"
    folder, *numbers = [argument for argument in plain if argument != name]
    images, attacked = [*map(int, numbers), *(10_000, 500)[len(numbers) :]]
    data = nl.load_dataset(name, data_dir=folder)
    n = len(data.train.x)
    rate = 2e-9 * 784 / seconds_per_product(data, dtype)
    print(f"{cpu()}, {torch.get_num_threads()} threads; {dtype}, bare products {rate:.0f} GFlop/s, n = {n}", flush=True)
    machine = fitted(data, dtype, file)

    def report(name: str, work: Callable[[Tensor, Tensor], Tensor], count: int, passes: int, products: int) -> None:
        x, y = data.test.x[:count], data.test.y[:count]
        # A busy machine slows the products too, so they are measured before the work and after it.
        bare = seconds_per_product(data, dtype)
        before = megabytes("VmRSS")
        reset_peak()
        start = time.perf_counter()
        result = work(x, y)
        seconds = time.perf_counter() - start
        added = megabytes("VmHWM") - before
        bare = (bare + seconds_per_product(data, dtype)) / 2
        ratio = seconds / (len(x) * n * passes * products * bare)
        times = f"{seconds:8.1f} s   {ratio:5.2f} times {products} products"
        right = ""
        if file is not None:
            predicted = machine.predict(result) if result.ndim == 4 else result
            right = f"   right on {100 * float((predicted == y).double().mean()):.2f} %"
        print(f"{len(x):6} {name:26}{times}   {len(x) / seconds:7.1f} per s   {added:6.0f} MB{right}", flush=True)

    def stepwise(x: Tensor, y: Tensor, **options: int) -> Tensor:
        return nl.pgd(machine, x, y, 0.03, steps=10, **options)

    report("predictions", lambda x, _: machine.predict(x), images, 1, 1)
    report("by PGD-10", stepwise, attacked, 10, 2)
    report("by PGD-10, 256 at a time", partial(stepwise, batch_size=256), attacked, 10, 2)
    report("by FGSM", lambda x, y: nl.fgsm(machine, x, y, 0.03), images, 1, 2)


if __name__ == "__main__":
    main()
