"""Compute empirical kernels with neural-tangents: the peer's side of `benchmarks.empirical_kernels`.

It is run by the peer's own Python as `peer_empirical.py NETWORK IMPLEMENTATION`, so it imports nothing of this project. It
computes the kernel once for every line of standard input and answers with a line of JSON: seconds, peak megabytes, norm.

Weights are drawn by torch's rule but from another generator: norms of the kernels agree roughly, not to the digit.
"""

import json
import sys
import time
import types
from pathlib import Path

# The package wants TensorFlow only for its experimental part, which is replaced with an empty module.
sys.modules["neural_tangents.experimental"] = types.ModuleType("experimental")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import neural_tangents as nt  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

SELF = Path("/proc/self")
RNG = np.random.default_rng(0)
INPUTS = {"mlp": 64, "cnn": 100, "resnet18": 100}


def drawn(*shape: int, fan_in: int):
    """Draw weights as torch does: uniform within ± fan_in^-1/2."""
    bound = fan_in**-0.5
    return RNG.uniform(-bound, bound, shape).astype(np.float32)


def affine(a: int, b: int):
    return {"w": drawn(a, b, fan_in=a), "b": drawn(b, fan_in=a)}


def conv(a: int, b: int, size: int, bias: bool = False):
    fan_in = a * size * size
    parameters = {"w": drawn(size, size, a, b, fan_in=fan_in)}
    return parameters | ({"b": drawn(b, fan_in=fan_in)} if bias else {})


def convolve(p, x, stride: int = 1):
    pad = [(p["w"].shape[0] // 2,) * 2] * 2
    y = lax.conv_general_dilated(x, p["w"], (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p["b"] if "b" in p else y


def normalise(p, x):
    """Apply BatchNorm in eval mode at mean 0 and variance 1."""
    return x * (1 + 1e-5) ** -0.5 * p["gain"] + p["shift"]


def gains(channels: int):
    return {"gain": np.ones(channels, np.float32), "shift": np.zeros(channels, np.float32)}


def average(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def mlp():
    parameters = [affine(784, 1024), affine(1024, 1024), affine(1024, 10)]

    def f(p, x):
        for layer in p[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return x @ p[-1]["w"] + p[-1]["b"]

    return f, parameters


def cnn():
    sizes = list(zip((3, 32, 32, 64, 64, 128), (32, 32, 64, 64, 128, 128), strict=True))
    parameters = [conv(a, b, 3, bias=True) for a, b in sizes] + [affine(2048, 10)]

    def f(p, x):
        for i, layer in enumerate(p[:-1]):
            x = jax.nn.relu(convolve(layer, x))
            x = average(x) if i % 2 else x
        return x.reshape(len(x), -1) @ p[-1]["w"] + p[-1]["b"]

    return f, parameters


def resnet18():
    plan = [
        (64, 64, 1),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
        (256, 512, 2),
        (512, 512, 1),
    ]

    def block(a, b, stride):
        short = {"c": conv(a, b, 1), "n": gains(b)} if stride > 1 else {}
        return {"c1": conv(a, b, 3), "n1": gains(b), "c2": conv(b, b, 3), "n2": gains(b), "short": short}

    parameters = {"stem": conv(3, 64, 3), "n": gains(64), "body": [block(*s) for s in plan], "head": affine(512, 10)}

    def f(p, x):
        x = jax.nn.relu(normalise(p["n"], convolve(p["stem"], x)))
        for q, (_, _, stride) in zip(p["body"], plan, strict=True):
            h = jax.nn.relu(normalise(q["n1"], convolve(q["c1"], x, stride)))
            h = normalise(q["n2"], convolve(q["c2"], h))
            short = normalise(q["short"]["n"], convolve(q["short"]["c"], x, stride)) if q["short"] else x
            x = jax.nn.relu(h + short)
        return x.mean((1, 2)) @ p["head"]["w"] + p["head"]["b"]

    return f, parameters


def megabytes(field: str) -> float:
    """Return one memory figure of this process in megabytes, as `benchmarks.common.megabytes` does."""
    line = next(text for text in (SELF / "status").read_text().splitlines() if text.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def main(name: str, implementation: int) -> None:
    """Answer every line of standard input."""
    f, parameters = {"mlp": mlp, "cnn": cnn, "resnet18": resnet18}[name]()
    full = name != "resnet18"
    kernel = nt.empirical_ntk_fn(
        f,
        trace_axes=() if full else (-1,),
        vmap_axes=0,
        implementation=nt.NtkImplementation(implementation),
    )
    kernel = jax.jit(kernel, static_argnums=1)
    parameters = jax.tree_util.tree_map(jnp.asarray, parameters)
    shape = (784,) if name == "mlp" else (32, 32, 3)
    x = jnp.asarray(RNG.random((INPUTS[name], *shape), dtype=np.float32))
    for _ in sys.stdin:
        (SELF / "clear_refs").write_text("5")
        before = megabytes("VmRSS")
        start = time.perf_counter()
        k = kernel(x, None, parameters).block_until_ready()
        seconds = time.perf_counter() - start
        norm = float(jnp.linalg.norm(k))
        print(json.dumps({"seconds": seconds, "peak": megabytes("VmHWM") - before, "norm": norm}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
