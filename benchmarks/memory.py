"""Peak memory of one work beside its inputs: `python -m benchmarks.memory NUMBER`, on Linux, in a process of its own."""

import json
import sys
from pathlib import Path

import torch

import ntklens as nl
from benchmarks.__main__ import WORKS, images, network

SELF = Path("/proc/self")


def megabytes(line: str) -> float:
    """One figure of this process: VmRSS is what it holds now, VmHWM the most it held since `forget`."""
    found = next(text for text in (SELF / "status").read_text().splitlines() if text.startswith(line))
    return int(found.split()[1]) * 1024 / 1e6


def forget() -> None:
    """Start the count of VmHWM anew."""
    (SELF / "clear_refs").write_text("5")


def main(number: int) -> None:
    """Print the megabytes that the work adds, and those of its result, as JSON."""
    work = WORKS[number]
    n1, n2 = work.get("ours", (work["n1"], work["n2"]))
    shape = (work["d"],) if "d" in work else (3, 32, 32)
    kernel = nl.analytic_kernel(network(work["network"], work.get("d")), b_std=work.get("b_std", 0.1))
    x, z = images(n1, *shape), None if n2 is None else images(n2, *shape)
    weights = torch.ones(n1, n2 or n1)
    kernel.gradient(x[:2], x[:2], weights[:2, :2]) if work["gradient"] else kernel(x[:2], x[:2])  # loads the code
    forget()
    before = megabytes("VmRSS")
    result = kernel.gradient(x, z, weights) if work["gradient"] else kernel(x, z)
    added = megabytes("VmHWM") - before
    print(json.dumps({"added": added, "result": result.numel() * result.element_size() / 1e6}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
