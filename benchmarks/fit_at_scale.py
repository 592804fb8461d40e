"""Fit kernel machines on whole data sets: seconds, memory beside the packed matrix, rate beside bare products, accuracy.

Run it with `python -m benchmarks.fit_at_scale DATASET FOLDER N [ridge=R,...] [store=FOLDER] [limit=BYTES]
[cluster=WORKERS] [network=conv5] [save=FOLDER]` (minutes to hours): fashion-mnist or mnist, the folder with its files, and
how many training images. FC-3 in float64, ten classes. A ridge such as 1e-4l is a multiple of λ_1. `save` keeps each
machine there.

Each ridge has a line with the seconds of the tiles and of the factor, the rate of the factor beside that of products of
tiles in the same process, the residual |ΘA - Y| / |Y|, and the accuracy on the test images with its 95 % interval. The
peak is that of the whole process, and beside what it held before the fit, over the packed matrix 8 n (n + 1) / 2.
"""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import torch

import ntklens as nl
from benchmarks.common import cpu, megabytes, network, reset_peak
from ntklens.linalg.tiles import ClusterHome, Home, MemoryHome, StoreHome
from ntklens.linalg.tiles.blas import fastest, limited_threads
from ntklens.linalg.tiles.memory.packed import PackedMatrix
from ntklens.statistics import proportion


def home_of(options: dict[str, str], stack: ExitStack) -> Home:
    """Return where the tiles are to be kept."""
    limit = int(float(options.get("limit", 1 << 30)))
    if "store" in options:
        return StoreHome(options["store"], memory_limit=limit)
    if "cluster" in options:
        return stack.enter_context(ClusterHome(workers=int(options["cluster"])))
    return MemoryHome(options.get("precision", "auto"))


def rate_of_products(threads: int) -> float:
    """Measure the floating-point operations per second of products of tiles, by the library that factors them."""
    library, side = fastest(torch.float64, threads), 1024
    a, b, c = (torch.ones(side, side, dtype=torch.float64) for _ in range(3))
    with limited_threads(threads):
        library.subtract(c, a, b)
        start = time.perf_counter()
        for _ in range(40):
            library.subtract(c, a, b)
        return 80 * side**3 / (time.perf_counter() - start)


def main() -> None:
    """Print one line per ridge."""
    name, folder, count, *rest = sys.argv[1:]
    options = dict(argument.split("=", 1) for argument in rest)
    data, n = nl.load_dataset(name, data_dir=folder), int(count)
    x, y = data.train.x[:n], data.train.y[:n]
    net = torch.nn.Sequential(torch.nn.Flatten(), network("fc3", 784))
    if options.get("network") == "conv5":
        convolutions = [torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU()]
        for _ in range(4):
            convolutions += [torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU()]
        net = torch.nn.Sequential(*convolutions, torch.nn.Flatten(), torch.nn.Linear(6272, 1))
    kernel = nl.analytic_kernel(net)
    kernel(x[:10].double())  # compiles the engine
    threads = torch.get_num_threads()
    library = fastest(torch.float64, threads)
    gemm = rate_of_products(threads)
    packed = 8 * n * (n + 1) / 2
    print(f"{cpu()}, {threads} threads, {library.name} {gemm / 1e9:.0f} GFlop/s in products of tiles; {name}, n = {n}")
    with ExitStack() as stack:
        home = home_of(options, stack)
        machine = nl.KernelMachine(kernel)
        before = megabytes("VmRSS")
        reset_peak()
        for ridge in options.get("ridge", "0,1e-4l").split(","):
            start = time.perf_counter()
            if ridge.endswith("l"):
                largest = machine.factorisation.largest
                print(f"λ_1 = {largest:.6g} in {time.perf_counter() - start:.1f} s", flush=True)
                start = time.perf_counter()
                rho = float(ridge[:-1]) * largest
            else:
                rho = float(ridge)
            if machine.is_fitted:
                machine = machine.refilter(nl.Ridge(rho))
            else:
                machine = nl.KernelMachine(kernel, nl.Ridge(rho)).fit(x, y, home=home)
            seconds = time.perf_counter() - start
            peak = megabytes("VmHWM")
            tiled = getattr(machine.factorisation, "tiled", None)
            parts = ""
            if isinstance(tiled, PackedMatrix):
                # A busy machine slows the products too, so they are measured before the work and after it.
                gemm = (gemm + rate_of_products(threads)) / 2
                rate = tiled.layout.n**3 / 3 / tiled.factor_seconds
                parts = (
                    f" (tiles {tiled.write_seconds:.1f} s, factor {tiled.factor_seconds:.1f} s, {rate / 1e9:.0f} GFlop/s, "
                    f"{100 * rate / gemm:.0f} % of products)"
                )
            print(
                f"ridge {rho:g}: {seconds:.1f} s{parts}; peak {peak:.0f} MB, {peak - before:.0f} MB beside {before:.0f}, "
                f"{(peak - before) * 1e6 / packed:.3f} packed matrices; {machine.solution}",
                flush=True,
            )
            start = time.perf_counter()
            right = int((machine.predict(data.test.x) == data.test.y).sum())
            estimate = proportion(right, len(data.test.y))
            print(
                f"    test accuracy {100 * estimate.value:.2f} % [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}] on "
                f"{len(data.test.y)} images in {time.perf_counter() - start:.1f} s",
                flush=True,
            )
            if "save" in options:
                Path(options["save"]).mkdir(parents=True, exist_ok=True)
                machine.save(Path(options["save"]) / f"{name}-{n}-{ridge}.safetensors")


if __name__ == "__main__":
    main()
