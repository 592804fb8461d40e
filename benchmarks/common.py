"""What the benchmarks share: drawn images, networks by name, medians, memory, and the process of the peer library.

"The peer" is neural-tangents 0.6.5, which computes the same kernels in JAX. It needs older versions of its dependencies,
so it lives in a virtual environment of its own (runs/peer, installed at first use) and runs in a process of its own.
"""

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).parents[1]
PEER_FOLDER = ROOT / "runs" / "peer"


def images(n: int, *shape: int, eight_bit: bool = False) -> torch.Tensor:
    """Draw n images with pixels in [0, 1]; the same ones for the same n.

    With `eight_bit` the pixels are whole numbers over 255, as those of files are.
    """
    drawn = torch.rand(n, *shape, generator=torch.Generator().manual_seed(n))
    return (drawn * 255).round() / 255 if eight_bit else drawn


class Erf(nn.Module):
    """The error function as a layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it to every number."""
        return torch.erf(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "erf": Erf, "gelu": nn.GELU, "silu": nn.SiLU}


def network(name: str, d: int | None, activation: str = "relu") -> nn.Module:
    """Build a network by name: "fc3" for three hidden layers on d inputs, or a convolutional one (d is None).

    The widths are small, because the infinite-width kernel depends on the operations alone. `peer.network` and
    `peer_empirical` build the twins of these networks in the peer's own language.
    """
    act = ACTIVATIONS[activation]
    if d is not None:
        depth = int(name[2:])
        hidden = [m for i in range(depth) for m in (nn.Linear(d if i == 0 else 8, 8), act())]
        return nn.Sequential(*hidden, nn.Linear(8, 1))
    # c: a 3x3 convolution with an activation; p: 2x2 average pooling.
    plan = {"conv5": "ccccc", "gap4": "cccc", "myrtle5": "ccpcpcp"}[name]
    layers: list[nn.Module] = []
    channels = 3
    for kind in plan:
        layers += [nn.Conv2d(channels, 8, 3, padding=1), act()] if kind == "c" else [nn.AvgPool2d(2)]
        channels = 8
    if name == "conv5":
        head = [nn.Flatten(), nn.Linear(8192, 1)]
    else:
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)]
    return nn.Sequential(*layers, *head)


def medians(*works: Callable[[], object], runs: int = 7) -> list[float]:
    """Return the median seconds of each work.

    The works take turns, so that a busy machine slows all of them alike; the first round warms up and is not counted.
    """
    times: list[list[float]] = [[] for _ in works]
    for turn in range(runs + 1):
        for work, seconds in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if turn > 0:
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def cpu() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def megabytes(field: str, process: int | str = "self") -> float:
    """Return one memory figure of a process on Linux, in megabytes.

    "VmRSS" is what the process holds now; "VmHWM" is the most it has held since `reset_peak` or since its start.
    """
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    line = next(text for text in status if text.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6  # the file counts in kibibytes


def reset_peak() -> None:
    """Start the peak of this process (VmHWM) anew, on Linux."""
    Path("/proc/self/clear_refs").write_text("5")


def peer_python() -> Path:
    """Return the Python of the peer's environment, which is installed at first use."""
    python = PEER_FOLDER / "bin" / "python"
    if not python.exists():
        print("installing the peer into", PEER_FOLDER, "once", flush=True)
        subprocess.run([sys.executable, "-m", "venv", PEER_FOLDER], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        dependencies = ["numpy==1.26.4", "scipy==1.12.0", "frozendict", "ml_dtypes==0.3.2", "opt_einsum"]
        subprocess.run([*pip, *dependencies], check=True)
        # --no-deps, because the peer asks for TensorFlow, which the kernels do not need.
        subprocess.run([*pip, "--no-deps", "jax==0.4.25", "jaxlib==0.4.25", "neural-tangents==0.6.5"], check=True)
    return python


def start_peer() -> subprocess.Popen:
    """Start the peer's process, which reads a work as a line of JSON and answers with another (see `peer.py`)."""
    script = Path(__file__).with_name("peer.py")
    return subprocess.Popen([peer_python(), script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
