"""Measure the peak memory of one work of `benchmarks.kernels_beside_peer`, beside its inputs, on Linux.

Run it with `python -m benchmarks.memory NUMBER`, where NUMBER counts the works from 0. It prints one line of JSON: the
megabytes that the work adds, and those of its result. The table of `python -m benchmarks` starts it once per work, in a
process of its own, because a peak is a property of a whole process. Figures: docs/results.md, commit 4d4b2fe.
"""

import json
import sys

import torch

import ntklens as nl
from benchmarks.common import images, megabytes, network, reset_peak
from benchmarks.kernels_beside_peer import WORKS


def main(number: int) -> None:
    """Print the megabytes that the work adds, and those of its result."""
    work = WORKS[number]
    n1, n2 = work.get("ours", (work["n1"], work["n2"]))
    shape = (work["d"],) if "d" in work else (3, 32, 32)
    kernel = nl.analytic_kernel(network(work["network"], work.get("d")), b_std=work.get("b_std", 0.1))
    x, z = images(n1, *shape), None if n2 is None else images(n2, *shape)
    weights = torch.ones(n1, n2 or n1)
    # A small call first: it compiles and loads the engine, which the peak below must not count.
    kernel.gradient(x[:2], x[:2], weights[:2, :2]) if work["gradient"] else kernel(x[:2], x[:2])
    reset_peak()
    before = megabytes("VmRSS")
    result = kernel.gradient(x, z, weights) if work["gradient"] else kernel(x, z)
    added = megabytes("VmHWM") - before
    print(json.dumps({"added": added, "result": result.numel() * result.element_size() / 1e6}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
