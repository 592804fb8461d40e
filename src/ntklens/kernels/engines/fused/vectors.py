"""Vectors of LANES numbers as values of compiled code: what is written with them becomes vector instructions.

A vector is LLVM's own <16 x float> or <16 x double>, which every processor has in as many registers as it needs.
Memory is seen through bare pointers: arrays would be counted in and out of every call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.extending import intrinsic, lower_builtin, register_model
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from ntklens.kernels.engines.fused.codes import LANES

FAST: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "nnan", "ninf"}}
"""How Numba compiles; sums keep their order."""

INLINE: Any = FAST | {"forceinline": True}
"""The same for what is called in the innermost loops."""

_FLAGS = ("contract", "nsz", "nnan", "ninf")
_ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}
_SUFFIX = {types.float32: "f32", types.float64: "f64"}
_INT = ir.IntType(32)


class Vector(types.Type):
    """LANES numbers, or the truth values of a comparison."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, _vector(kind.dtype))


def _vector(dtype: Any) -> Any:
    return ir.VectorType(_ELEMENTS[dtype], LANES)


def _spread(builder: Any, value: Any, dtype: Any) -> Any:
    """One number in every lane."""
    nothing = ir.Constant(_vector(dtype), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _lifted(builder: Any, sig: Any, args: Any) -> list[Any]:
    """Arguments as vectors."""
    pairs = zip(sig.args, args, strict=True)
    return [x if isinstance(kind, Vector) else _spread(builder, x, kind) for kind, x in pairs]


# Memory


@intrinsic
def pointer(context: Any, array: Any) -> Any:
    """Where an array starts."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def at(context: Any, start: Any, n: Any) -> Any:
    """The pointer n elements on."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return start(start, types.intp), generate


def _vector_at(builder: Any, dtype: Any, start: Any, n: Any) -> Any:
    return builder.bitcast(builder.gep(start, [n]), _vector(dtype).as_pointer())


@intrinsic
def load(context: Any, start: Any, n: Any) -> Any:
    """The vector that starts n elements on."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.args[0].dtype
        return builder.load(_vector_at(builder, dtype, *args), align=dtype.bitwidth // 8)

    return Vector(start.dtype)(start, types.intp), generate


@intrinsic
def store(context: Any, start: Any, n: Any, vector: Any) -> Any:
    """Write a vector n elements on."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.args[0].dtype
        builder.store(args[2], _vector_at(builder, dtype, *args[:2]), align=dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(start, types.intp, Vector(start.dtype)), generate


# Values


@intrinsic
def full(context: Any, like: Any, value: Any) -> Any:
    """A vector of the kind of another with this number in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(builder, args[1], sig.args[1])

    return like(like, like.dtype), generate


@intrinsic
def broadcast(context: Any, value: Any) -> Any:
    """A vector with this number in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(builder, args[0], sig.args[0])

    return Vector(value)(value), generate


@intrinsic
def convert(context: Any, vector: Any, like: Any) -> Any:
    """A vector in the precision of another."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, target = sig.args[0].dtype, sig.args[1].dtype
        if source == target:
            return args[0]
        change = builder.fptrunc if target.bitwidth < source.bitwidth else builder.fpext
        return change(args[0], _vector(target))

    return like(vector, like), generate


@intrinsic
def select(context: Any, mask: Any, yes: Any, no: Any) -> Any:
    """One or the other, lane by lane."""
    return yes(mask, yes, yes), lambda context, builder, sig, args: builder.select(*args)


def _function(name: str, arguments: int) -> Any:
    """An LLVM intrinsic on vectors."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        kind = ir.FunctionType(_vector(dtype), [_vector(dtype)] * arguments)
        function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{LANES}{_SUFFIX[dtype]}")
        return builder.call(function, args, fastmath=_FLAGS)

    if arguments == 1:

        def one(context: Any, v: Any) -> Any:
            return v(v), generate

        return intrinsic(one)

    def two(context: Any, v: Any, w: Any) -> Any:
        return v(v, v), generate

    return intrinsic(two)


sqrt = _function("llvm.sqrt", 1)
absolute = _function("llvm.fabs", 1)
minimum = _function("llvm.minnum", 2)
maximum = _function("llvm.maxnum", 2)


@intrinsic
def total(context: Any, vector: Any) -> Any:
    """The sum over the lanes, in halves."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            parts = [ir.Constant(ir.VectorType(_INT, width), list(range(s, s + width))) for s in (0, width)]
            low, high = (builder.shuffle_vector(value, value, part) for part in parts)
            value = builder.fadd(low, high, flags=_FLAGS)
        return builder.extract_element(value, ir.Constant(_INT, 0))

    return vector.dtype(vector), generate


def polynomial(single: Sequence[float], double: Sequence[float]) -> Any:
    """A function of a vector from coefficients for each precision, lowest power first."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        constants = [ir.Constant(_ELEMENTS[dtype], c) for c in (single if dtype == types.float32 else double)]
        powers = [ir.Constant(_vector(dtype), [c] * LANES) for c in constants]
        value = powers[-1]
        for power in powers[-2::-1]:
            value = builder.fadd(builder.fmul(value, args[0], flags=_FLAGS), power, flags=_FLAGS)
        return value

    def function(context: Any, v: Any) -> Any:
        return v(v), generate

    return intrinsic(function)


def _operator(op: Any, emit: Callable[..., Any], *, compares: bool = False) -> None:
    """An operator between vectors, or a vector and a number, which is taken in the vector's precision."""

    class Template(AbstractTemplate):
        @no_type_check
        def generic(self, args, keywords):
            vectors = [a for a in args if isinstance(a, Vector)]
            if not vectors or any(v != vectors[0] for v in vectors):
                return None
            kind = vectors[0]
            known = [a if isinstance(a, Vector) else kind.dtype for a in args]
            return signature(Vector(types.boolean) if compares else kind, *known)

    @no_type_check
    def lower(context, builder, sig, args):
        return emit(builder, *_lifted(builder, sig, args))

    infer_global(op)(Template)
    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(op, *kinds)(lower)


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS))
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS))
_operator(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b, flags=_FLAGS), compares=True)
_operator(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b, flags=_FLAGS), compares=True)
