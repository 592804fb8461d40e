"""Measure kernels, gradients and attacks on a CUDA device beside the same calls on the processor.

Run it with `python -m benchmarks.gpu` on a machine with a CUDA device (one to two minutes). On the processor kernels run in
the fused engine, on the device in the torch recursion. "bare" is one `X @ X.T` on the device in the same precision, with
TensorFloat-32 off, which no dense kernel can avoid. Each figure is a median of calls that end with a synchronisation.

On an NVIDIA H200 with torch 2.11.0 beside 16 threads of its machine's Intel Xeon (2026-11-27, commit 74f934f; milliseconds
per call, processor and device): FC-3 with n = 4000 and d = 3072 in float32 179 and 49, in float64 229 and 44 (bare 2.2
and 1.8); FC-10 with n = 4000 and d = 784 152 and 163, 167 and 132; the gradient of FC-3 for 256 x 4000 83 and 27, 102 and
33; 5 convolutions for 64 x 256 images 92 and 31, 101 and 30. The row of global pooling did not end within the minute
left. So the recursion on the device is 20 to 300 times above the bare product: an engine that fuses it is still to be
written.
"""

import torch

import ntklens as nl
from benchmarks.common import cpu, images, medians, network

WORKS = (
    # name, network, inputs, images of both sides (None: symmetric), gradient
    ("FC-3, n = 4000, d = 3072", "fc3", 3072, 4000, None, False),
    ("FC-10, n = 4000, d = 784", "fc10", 784, 4000, None, False),
    ("FC-3 gradient, 256 x 4000, d = 3072", "fc3", 3072, 256, 4000, True),
    ("5 conv, flatten, 64 x 256, 32x32x3", "conv5", None, 64, 256, False),
    ("4 conv, global pooling, 4 x 16", "gap4", None, 4, 16, False),
)


def synchronised(work):
    """Return the work with a wait for the device at its end."""

    def timed():
        work()
        torch.cuda.synchronize()

    return timed


def calls(name: str, d: int | None, n1: int, n2: int | None, gradient: bool, device: str, dtype: torch.dtype):
    """Return the call of one work on a device."""
    kernel = nl.analytic_kernel(network(name, d), b_std=0.1)
    shape = (3, 32, 32) if d is None else (d,)
    x = images(n1, *shape).to(device, dtype)
    z = None if n2 is None else images(n2, *shape).to(device, dtype)
    if not gradient:
        return lambda: kernel(x, z)
    weights = torch.rand(n1, n2, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return lambda: kernel.gradient(x, z, weights)


def main() -> None:
    """Print one line per work and precision: seconds on the processor, on the device, their ratio, and the bare product."""
    torch.backends.cuda.matmul.allow_tf32 = False
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {cpu()}, {torch.get_num_threads()} threads")
    print(f"{'work':40}{'precision':>10}{'processor':>12}{'device':>12}{'ratio':>9}{'bare':>12}")
    for name, net, d, n1, n2, gradient in WORKS:
        for dtype in (torch.float32, torch.float64):
            here = calls(net, d, n1, n2, gradient, "cpu", dtype)
            there = synchronised(calls(net, d, n1, n2, gradient, "cuda", dtype))
            slow, fast = medians(here, runs=3)[0], medians(there, runs=3)[0]
            bare = ""
            if d is not None and not gradient:
                x = images(n1, d).to("cuda", dtype)
                bare = f"{medians(synchronised(lambda x=x: x @ x.T))[0] * 1e3:9.2f} ms"
            precision = str(dtype).removeprefix("torch.")
            print(
                f"{name:40}{precision:>10}{slow * 1e3:9.1f} ms{fast * 1e3:9.2f} ms{slow / fast:9.1f}{bare:>12}",
                flush=True,
            )


if __name__ == "__main__":
    main()
