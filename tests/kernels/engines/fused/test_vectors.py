"""Vectors in compiled code: each operation beside NumPy's, and that the processor's vector instructions are used."""

import platform

import numpy as np
import pytest
from numba import njit

from ntklens.kernels.engines.fused import vectors
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import (
    at,
    convert,
    full,
    load,
    maximum,
    minimum,
    pointer,
    select,
    sqrt,
    store,
    total,
)


@njit
def arithmetic(out, a, b):
    o, v, w = pointer(out), load(pointer(a), 0), load(pointer(b), 0)
    store(o, 0 * LANES, 2.0 * v + w / v)
    store(o, 1 * LANES, sqrt(v) - vectors.absolute(w))
    store(o, 2 * LANES, select(v < w, v, full(v, 0.5)))
    store(at(o, 3 * LANES), 0, minimum(v, w))
    store(at(o, 2 * LANES), 2 * LANES, maximum(v, w))
    store(o, 5 * LANES, select(v > 0.5, w, v))


@njit
def narrowed(out, a):
    store(pointer(out), 0, convert(load(pointer(a), 0), load(pointer(out), 0)))


@njit
def summed(a):
    return total(load(pointer(a), 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operations(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.random(LANES).astype(dtype), rng.standard_normal(LANES).astype(dtype)
    out = np.empty((6, LANES), dtype)
    arithmetic(out.reshape(-1), a, b)
    wanted = [2 * a + b / a, np.sqrt(a) - abs(b), np.where(a < b, a, 0.5), np.minimum(a, b), np.maximum(a, b)]
    wanted.append(np.where(a > 0.5, b, a))
    np.testing.assert_allclose(out, wanted, rtol=10 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    assert summed(a) == pytest.approx(a.sum(dtype=np.float64), rel=10 * float(np.finfo(dtype).eps))


def test_conversion_rounds_as_numpy_does():
    a = np.random.default_rng(1).random(LANES)
    out = np.empty(LANES, np.float32)
    narrowed(out, a)
    assert (out == a.astype(np.float32)).all()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the assembly of x86-64")
def test_the_innermost_loop_is_made_of_vector_instructions():
    @njit
    def loop(out, gaps):
        for i in range(0, len(out), LANES):
            store(pointer(out), i, sqrt(load(pointer(gaps), i)))

    loop(np.ones(64, np.float32), np.ones(64, np.float32))
    (assembly,) = loop.inspect_asm().values()
    assert "sqrtps" in assembly
    assert "sqrtss" not in assembly
