"""Gradient flow at ten times on many images: Krylov spaces of tiles beside the whole spectrum.

Run it with `python -m benchmarks.early_stopping_at_scale FOLDER N [whole]` (minutes to an hour): the folder with the files
of Fashion-MNIST, and how many training images. FC-3 in float64, ten classes, times from 0.1 / λ_1 to 10 / λ_n on a
logarithmic grid. Without `whole`, the spectrum is left out, and the errors are those that the method estimates.

It prints the seconds of both, tiles and factors or the eigendecomposition included, and for each time the relative error of
the coefficients.
"""

import sys
import time

import torch

import ntklens as nl
from benchmarks.common import cpu, megabytes, network, reset_peak


def main() -> None:
    """Print one line per time."""
    folder, count, *rest = sys.argv[1:]
    data, n = nl.load_dataset("fashion-mnist", data_dir=folder), int(count)
    x, y = data.train.x[:n], data.train.y[:n]
    kernel = nl.analytic_kernel(torch.nn.Sequential(torch.nn.Flatten(), network("fc3", 784)))
    kernel(x[:10].double())  # compiles the engine
    print(f"{cpu()}, {torch.get_num_threads()} threads; Fashion-MNIST, n = {n}", flush=True)
    before = megabytes("VmRSS")
    reset_peak()
    start = time.perf_counter()
    machine = nl.KernelMachine(kernel).fit(x, y, home=nl.MemoryHome())
    first, last = 0.1 / machine.factorisation.largest, 10 / machine.factorisation.smallest
    print(f"the machine at t = ∞ and the ends of the spectrum: {time.perf_counter() - start:.1f} s", flush=True)
    times = torch.logspace(torch.tensor(first).log10(), torch.tensor(last).log10(), 10, dtype=torch.float64).tolist()
    start, found = time.perf_counter(), []
    for t in times:
        begun = time.perf_counter()
        early = machine.refilter(nl.GradientFlow(t))
        found.append(early.coefficients)
        print(f"t = {t:9.3g}: {time.perf_counter() - begun:6.1f} s; {early.solution}", flush=True)
    seconds = time.perf_counter() - start
    print(f"ten times: {seconds:.1f} s, {megabytes('VmHWM') - before:.0f} MB", flush=True)
    if "whole" not in rest:
        return
    targets = machine.targets
    del machine, early
    reset_peak()
    start = time.perf_counter()
    spectrum = nl.linalg.Factorisation(kernel(x.double())).spectrum
    exact = time.perf_counter() - start
    print(f"eigh: {exact:.1f} s, {megabytes('VmHWM') - before:.0f} MB; ratio {exact / seconds:.2f}", flush=True)
    v, projected = spectrum.eigenvectors, spectrum.eigenvectors.T @ targets
    for t, a in zip(times, found, strict=True):
        b = v @ (nl.GradientFlow(t)(spectrum.eigenvalues)[:, None] * projected)
        print(f"t = {t:9.3g}: relative error {float((a - b).norm() / b.norm()):.1e}", flush=True)


if __name__ == "__main__":
    main()
