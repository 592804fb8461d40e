"""Measure our side of one row: the process that `python -m benchmarks` starts again and again.

It reads the row as a line of JSON from standard input, with the number of threads, and answers with one line:

    seconds, pairs      the median time of the work, and its pairs of images
    bare                the median time of the matrix products that no dense kernel can avoid: one full `X @ X.T`, or the
                        gradient's two; null for convolutions
    large               for some rows, the median time per pair of a larger call; else null
    added, result       megabytes at the peak beside the inputs, and those of the result
    source              the folder of the code that was measured

All works of a row take turns in it. The memory is that of one call, after a small one that compiles and loads the engine.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ntklens as nl
from benchmarks.common import images, megabytes, network, reset_peak

SECONDS = 3.0
"""After so many seconds no further turn is begun."""
TURNS = 7
"""Most turns."""
FEW = (2, 8)
"""Images of a small call, on which a network that no fast engine runs is measured."""
MOST_SECONDS = 2.0
"""Longest small call of other networks."""


def call(kernel: Any, work: dict[str, Any], n1: int, n2: int | None) -> Callable[[], torch.Tensor]:
    """Return the work on so many images."""
    shape = (work["d"],) if work["d"] else (3, 32, 32)
    x, z = (None if n is None else images(n, *shape, eight_bit=work["eight_bit"]) for n in (n1, n2))
    if not work["gradient"]:
        return lambda: kernel(x, z)
    weights = torch.rand(n1, n2, generator=torch.Generator().manual_seed(0))
    return lambda: kernel.gradient(x, z, weights)


def bare_products(work: dict[str, Any], n1: int, n2: int | None) -> Callable[[], object]:
    """Return the matrix products of a dense work."""
    x = images(n1, work["d"])
    if not work["gradient"]:
        return lambda: x @ x.T
    z, weights = images(n2, work["d"]), torch.rand(n1, n2)
    return lambda: (x @ z.T, weights @ z)


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[], object]], seconds: float = SECONDS) -> dict[str, float]:
    """Return the median seconds of works that have been called before and now take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    begun = time.perf_counter()
    for turn in range(TURNS):
        if turn and time.perf_counter() - begun > seconds:
            break
        for name, work in works.items():
            times[name].append(seconds_of(work))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(work: dict[str, Any]) -> dict[str, Any]:
    """Return what the process answers."""
    n1, n2 = work["ours"] or (work["n1"], work["n2"])
    kernel = nl.analytic_kernel(network(work["network"], work["d"], work["activation"]), b_std=work["b_std"])
    call(kernel, work, 2, 2 if work["gradient"] else None)()
    large = work["large"]
    # Networks that no fast engine runs would take minutes or hours on all images; times are told per pair.
    if not work["d"] and n1 * n2 > math.prod(FEW) and seconds_of(call(kernel, work, *FEW)) > MOST_SECONDS:
        (n1, n2), large = FEW, None
    works = {"work": call(kernel, work, n1, n2)}
    reset_peak()
    before = megabytes("VmRSS")
    result = works["work"]()
    added, size = megabytes("VmHWM") - before, result.numel() * result.element_size() / 1e6
    del result
    if work["d"]:
        works["bare"] = bare_products(work, n1, n2)
        works["bare"]()
    if large:
        works["large"] = call(kernel, work, *large)
    times = in_turns(works)
    of_time = {"seconds": times["work"], "pairs": n1 * (n2 or n1), "bare": times.get("bare")}
    of_time["large"] = times["large"] / math.prod(large) if large else None
    return of_time | {"added": added, "result": size, "source": str(Path(nl.__file__).parents[1])}


def main() -> None:
    """Answer one line of standard input."""
    work = json.loads(sys.stdin.readline())
    torch.set_num_threads(work["threads"])
    print(json.dumps(measure(work)), flush=True)


if __name__ == "__main__":
    main()
