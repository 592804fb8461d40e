"""Vectors of LANES numbers as values of compiled code, so that arithmetic on them becomes vector instructions.

Numba has scalars and arrays, and leaves it to LLVM to find loops that can run on vectors. Here that is not left to
chance: a vector is a type of its own, LLVM's <16 x float> or <16 x double>, which LLVM spreads over as many registers as
the processor needs for it. An operation is a Python function that gets the types of its arguments and returns its
signature together with a generator of LLVM instructions; `intrinsic` makes it callable from compiled code.

Memory is read and written through bare pointers. Numba counts references to an array on the way into and out of every
function, and a pointer costs nothing.
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
from ntklens.kernels.engines.fused.kept import can_be_kept

FAST: Any = {
    "nogil": True,
    "cache": can_be_kept(),
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "nnan", "ninf"},
}
"""Compiler options: no interpreter lock, kept on disk where they can be, and arithmetic without infinities, NaN and
signed zeros.

"contract" joins a product and a sum into one instruction; sums keep their order, as "reassoc" is not among the options.
"""

INLINE: Any = FAST | {"forceinline": True}
"""Compiler options for functions that are called in the innermost loops: they are copied into their callers."""

_FLAGS = ("contract", "nsz", "nnan", "ninf")
"""The arithmetic options of FAST, which LLVM takes with each instruction."""
_ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}
_SUFFIX = {types.float32: "f32", types.float64: "f64"}
_INT = ir.IntType(32)


VECTOR_AXES = 4
"""Axes of an array whose last one has LANES numbers, one of each pair: inputs, channels, positions, lanes."""


class Vector(types.Type):
    """Numba's type of LANES numbers, or of the truth values of a comparison."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    """Tells Numba that a value of this type is one LLVM value: a vector."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, _vector(kind.dtype))


def _vector(dtype: Any) -> Any:
    return ir.VectorType(_ELEMENTS[dtype], LANES)


def _spread(builder: Any, value: Any, dtype: Any) -> Any:
    """Return a vector with one number in every lane."""
    # LLVM's idiom for a broadcast: put the number into lane 0, then take lane 0 for every lane.
    undefined = ir.Constant(_vector(dtype), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _lifted(builder: Any, sig: Any, args: Any) -> list[Any]:
    """Return the arguments of an operator as vectors, numbers among them spread over the lanes."""
    pairs = zip(sig.args, args, strict=True)
    return [x if isinstance(kind, Vector) else _spread(builder, x, kind) for kind, x in pairs]


# Memory


class VectorPointer(types.Type):
    """Numba's type of a pointer whose elements are vectors.

    Where it stands in the place of a pointer to numbers, as for the side x of packed pairs, p[i] is a vector and `at` goes
    on by vectors, so that one source text serves both.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"VectorPointer({dtype})")


@register_model(VectorPointer)
class _PointerModel(models.PrimitiveModel):
    """Tells Numba that it is LLVM's pointer to the first number of the first vector."""

    def __init__(self, manager: Any, kind: VectorPointer) -> None:
        super().__init__(manager, kind, _ELEMENTS[kind.dtype].as_pointer())


@intrinsic
def pointer(context: Any, array: Any) -> Any:
    """Return the pointer to the first element of an array; to its first vector for arrays of four axes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    kind = VectorPointer if array.ndim == VECTOR_AXES else types.CPointer
    return kind(array.dtype)(array), generate


@intrinsic
def at(context: Any, start: Any, n: Any) -> Any:
    """Return the pointer that is n elements further."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [_numbers(builder, sig.args[0], args[1])])

    return start(start, types.intp), generate


def _numbers(builder: Any, kind: Any, n: Any) -> Any:
    """Return how many numbers n elements of a pointer are."""
    return builder.mul(n, ir.Constant(n.type, LANES)) if isinstance(kind, VectorPointer) else n


def _vector_at(builder: Any, dtype: Any, start: Any, n: Any) -> Any:
    return builder.bitcast(builder.gep(start, [n]), _vector(dtype).as_pointer())


@infer_global(operator.getitem)
class _ReadVector(AbstractTemplate):
    @no_type_check
    def generic(self, args, keywords):
        if isinstance(args[0], VectorPointer) and isinstance(args[1], types.Integer):
            return signature(Vector(args[0].dtype), args[0], types.intp)
        return None


@infer_global(operator.setitem)
class _WriteVector(AbstractTemplate):
    @no_type_check
    def generic(self, args, keywords):
        if isinstance(args[0], VectorPointer) and isinstance(args[1], types.Integer):
            return signature(types.void, args[0], types.intp, Vector(args[0].dtype))
        return None


@lower_builtin(operator.getitem, VectorPointer, types.intp)
@no_type_check
def _read_vector(context, builder, sig, args):
    kind = sig.args[0]
    place = _vector_at(builder, kind.dtype, args[0], _numbers(builder, kind, args[1]))
    return builder.load(place, align=kind.dtype.bitwidth // 8)


@lower_builtin(operator.setitem, VectorPointer, types.intp, Vector)
@no_type_check
def _write_vector(context, builder, sig, args):
    kind = sig.args[0]
    place = _vector_at(builder, kind.dtype, args[0], _numbers(builder, kind, args[1]))
    builder.store(args[2], place, align=kind.dtype.bitwidth // 8)
    return context.get_dummy_value()


@intrinsic
def load(context: Any, start: Any, n: Any) -> Any:
    """Return the vector that starts n elements after a pointer."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.args[0].dtype
        # Aligned as a single number is: a row may begin anywhere.
        return builder.load(_vector_at(builder, dtype, *args), align=dtype.bitwidth // 8)

    return Vector(start.dtype)(start, types.intp), generate


@intrinsic
def store(context: Any, start: Any, n: Any, vector: Any) -> Any:
    """Write a vector to where a pointer is n elements further."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.args[0].dtype
        builder.store(args[2], _vector_at(builder, dtype, *args[:2]), align=dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(start, types.intp, Vector(start.dtype)), generate


# Values


@intrinsic
def full(context: Any, like: Any, value: Any) -> Any:
    """Return a vector with this number in every lane, in the precision of another vector; such a vector as it is."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[1]
        return args[1] if isinstance(kind, Vector) else _spread(builder, args[1], kind)

    return like(like, like if isinstance(value, Vector) else like.dtype), generate


@intrinsic
def broadcast(context: Any, value: Any) -> Any:
    """Return a vector with this number in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(builder, args[0], sig.args[0])

    return Vector(value)(value), generate


@intrinsic
def convert(context: Any, vector: Any, like: Any) -> Any:
    """Return a vector in the precision of another."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, target = sig.args[0].dtype, sig.args[1].dtype
        if source == target:
            return args[0]
        change = builder.fptrunc if target.bitwidth < source.bitwidth else builder.fpext
        return change(args[0], _vector(target))

    return like(vector, like), generate


@intrinsic
def select(context: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Return, lane by lane, `yes` where the mask is true and `no` elsewhere."""
    return yes(mask, yes, yes), lambda context, builder, sig, args: builder.select(*args)


def _function(name: str, arguments: int) -> Any:
    """Return LLVM's own function of this name, of one or two vectors."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        function_type = ir.FunctionType(_vector(dtype), [_vector(dtype)] * arguments)
        function = cgutils.get_or_insert_function(builder.module, function_type, f"{name}.v{LANES}{_SUFFIX[dtype]}")
        return builder.call(function, args, fastmath=_FLAGS)

    # `intrinsic` reads the number of arguments from the function's own signature.
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


def _joined(builder: Any, value: Any, join: Callable[[Any, Any, Any], Any]) -> Any:
    # Join the upper half to the lower one until one lane remains: a fixed order, and log2(LANES) instructions.
    width = LANES
    while width > 1:
        width //= 2
        halves = [ir.Constant(ir.VectorType(_INT, width), list(range(s, s + width))) for s in (0, width)]
        low, high = (builder.shuffle_vector(value, value, lanes) for lanes in halves)
        value = join(builder, low, high)
    return builder.extract_element(value, ir.Constant(_INT, 0))


def _total(builder: Any, value: Any) -> Any:
    """Return the sum over the lanes."""
    return _joined(builder, value, lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS))


@intrinsic
def total(context: Any, vector: Any) -> Any:
    """Return the sum over the lanes."""
    return vector.dtype(vector), lambda context, builder, sig, args: _total(builder, args[0])


def _extreme(op: str) -> Any:
    """Return a function from a vector to one of its lanes, that for which a comparison with any other is true."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _joined(
            builder, args[0], lambda builder, a, b: builder.select(builder.fcmp_ordered(op, a, b, flags=_FLAGS), a, b)
        )

    def function(context: Any, vector: Any) -> Any:
        return vector.dtype(vector), generate

    return intrinsic(function)


largest, smallest = _extreme(">"), _extreme("<")


@intrinsic
def share_of(context: Any, vector: Any, sums: Any) -> Any:
    """Return what a vector adds to an element of `sums`: the sum over the lanes, or the vector where elements are."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if isinstance(sig.args[1], VectorPointer) else _total(builder, args[0])

    kind = vector if isinstance(sums, VectorPointer) else vector.dtype
    return kind(vector, sums), generate


def polynomial(single: Sequence[float], double: Sequence[float]) -> Any:
    """Return a polynomial as a function of a vector.

    Args:
        single: coefficients for float32, lowest power first.
        double: coefficients for float64, likewise.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        numbers = [ir.Constant(_ELEMENTS[dtype], c) for c in (single if dtype == types.float32 else double)]
        coefficients = [ir.Constant(_vector(dtype), [number] * LANES) for number in numbers]
        # Horner's rule; the coefficients stand in the code, and a product with the sum after it is one instruction.
        value = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            value = builder.fadd(builder.fmul(value, args[0], flags=_FLAGS), coefficient, flags=_FLAGS)
        return value

    def function(context: Any, v: Any) -> Any:
        return v(v), generate

    return intrinsic(function)


def _operator(op: Any, emit: Callable[..., Any], *, compares: bool = False) -> None:
    """Define one of Python's operators for two vectors, or for a vector and a number.

    The number is taken in the precision of the vector, so that float64 constants do not turn float32 into float64.

    Args:
        op: the operator, as in the module `operator`.
        emit: (builder, vector, vector) -> the LLVM instruction.
        compares: whether the result is a vector of truth values.
    """

    class Template(AbstractTemplate):
        @no_type_check
        def generic(self, args, keywords):
            vectors = [a for a in args if isinstance(a, Vector)]
            if not vectors or any(v != vectors[0] for v in vectors):
                return None
            kind = vectors[0]
            operands = [a if isinstance(a, Vector) else kind.dtype for a in args]
            return signature(Vector(types.boolean) if compares else kind, *operands)

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
