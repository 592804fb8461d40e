"""Time kernels and gradients of neural-tangents: the peer's side of the comparisons.

It is run by the peer's own Python (`benchmarks.common.start_peer`), so it imports nothing of this project. It reads one
work per line of JSON from standard input and answers each with a line of JSON: seconds, pairs, and peak memory in GB.
"""

import json
import resource
import sys
import time
import types

# The package wants TensorFlow only for its experimental part, which is replaced with an empty module.
sys.modules["neural_tangents.experimental"] = types.ModuleType("experimental")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402

RUNS = 3


def conv():
    return stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=0.1)


def dense(b_std: float = 0.1):
    return stax.Dense(1, 2**0.5, b_std)


def pool():
    return stax.AvgPool((2, 2), (2, 2))


def silu():
    # The peer has no closed form: a quadrature with 25 nodes in each of two variables.
    return stax.ElementwiseNumerical(jax.nn.silu, deg=25)


ACTIVATIONS = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu, "silu": silu}


def network(name: str, b_std: float, activation: str = "relu"):
    """Build the twin of `benchmarks.common.network` in the peer's language."""
    act = ACTIVATIONS[activation]
    if name.startswith("fc"):
        return stax.serial(*[f for _ in range(int(name[2:])) for f in (dense(b_std), act())], dense(b_std))
    if name == "myrtle5":
        body = []
        for kind in "ccpcpcp":
            body += [conv(), act()] if kind == "c" else [pool()]
        return stax.serial(*body, stax.GlobalAvgPool(), dense())
    depth, tail = (5, stax.Flatten()) if name == "conv5" else (4, stax.GlobalAvgPool())
    return stax.serial(*[f for _ in range(depth) for f in (conv(), act())], tail, dense())


def median(work, runs: int) -> float:
    """Return the median seconds of a few runs, after one that compiles."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main() -> None:
    """Answer every line of standard input."""
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        work = json.loads(line)
        built = network(work["network"], work.get("b_std", 0.1), work.get("activation", "relu"))
        kernel = jax.jit(built[2], static_argnames="get")
        n1, n2 = work["n1"], work["n2"]
        shape = (work["d"],) if work.get("d") else (32, 32, 3)
        x = rng.random((n1, *shape), dtype=np.float32)
        z = None if n2 is None else rng.random((n2, *shape), dtype=np.float32)
        # JAX returns before the work is done; block_until_ready makes the clock wait for it.
        if work["gradient"]:
            w = rng.random((n1, n2), dtype=np.float32)
            gradient = jax.jit(jax.grad(lambda x, k=kernel, z=z, w=w: (k(x, z, get="ntk") * w).sum()))
            seconds = median(lambda x=x, g=gradient: g(x).block_until_ready(), RUNS)
        else:
            seconds = median(lambda k=kernel, x=x, z=z: k(x, z, get="ntk").block_until_ready(), RUNS)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "pairs": n1 * (n2 or n1), "peak_gb": peak}), flush=True)


if __name__ == "__main__":
    main()
