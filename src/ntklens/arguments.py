"""What public functions are given, as the tensors that they work on; what does not fit is refused by its name.

Each function takes the name of the argument for its message. Numpy arrays, data frames and lists of numbers become tensors,
because there is one way to read them; results stay tensors. They are called where users enter the package, once for each
batch, and never inside a loop.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ntklens.errors import InputError

_MANY = 1 << 22
"""Values from which on several threads read them."""
_LARGEST = {torch.float32: 1e16, torch.float64: 1e70}
"""Largest magnitude of inputs: a kernel is about the square of inputs, and its rules have products of two variances, which
are float64 whatever the inputs are."""


def as_tensor(value: Any, name: str) -> Tensor:
    """Return a tensor as it is, and an array or a list of numbers as a tensor; memory is shared where torch can.

    Args:
        value: a tensor, a numpy array, anything that numpy reads as an array, or a list of numbers.
        name: name of the argument.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            raise InputError(f"expected {name} as a dense tensor; got a sparse one. Call {name}.to_dense() first.")
        if value.device.type == "meta":
            raise InputError(f"expected {name} as a tensor with values; got one on the meta device, which has none.")
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            raise InputError(
                f"expected {name} as a plain tensor; got one within a transform of torch.func (vmap, grad, jacrev, "
                "hessian), whose values cannot be read. Pass the whole batch, and differentiate by torch.autograd.grad, "
                "torch.autograd.functional.jacobian or, for a kernel, kernel.gradient."
            )
        return value
    if isinstance(value, (list, tuple)):
        return _from_list(value, name)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__array__"):
        raise InputError(f"expected {name} as a torch tensor or a numpy array; got {type(value).__name__}.")
    return _from_array(np.asarray(value), name)


def as_floats(value: Any, name: str) -> Tensor:
    """Return a floating-point tensor without NaN and infinity, of any shape.

    Args:
        value: the numbers, as `as_tensor` takes them.
        name: name of the argument.

    Raises:
        InputError: numbers of another kind; the message names the first value that is not finite.
    """
    x = as_tensor(value, name)
    if not x.is_floating_point():
        raise InputError(f"expected {name} as floating point; got {x.dtype} of {shape_of(x)}.")
    check_finite(x, name)
    return x


def as_images(value: Any, name: str = "x") -> Tensor:
    """Return a batch of inputs: floating point, (n, ...) with one axis or more per input, without NaN and infinity.

    Args:
        value: the inputs, as `as_tensor` takes them.
        name: name of the argument.

    Raises:
        InputError: what is not such a batch; the message names the first value that is not finite.
    """
    x = as_tensor(value, name)
    if not x.is_floating_point():
        raise InputError(
            f"expected {name} as floating-point pixels in [0, 1]; got {x.dtype} of {shape_of(x)}. Divide by 255 first."
        )
    if x.ndim < 2:
        raise InputError(
            f"expected {name} as a batch (n, C, H, W) or (n, d); got {shape_of(x)}. Give one input as {name}[None]."
        )
    largest, most = check_finite(x, name), _LARGEST.get(x.dtype, math.inf)
    if largest > most:
        raise InputError(
            f"expected {name} of values up to {most:.0e} in {x.dtype}, so that kernels, about their squares, are finite; "
            f"got about {largest:.0e}. Scale the inputs, such as pixels to [0, 1]."
        )
    return x


def as_classes(value: Any, n: int, name: str = "y", *, device: torch.device | None = None) -> Tensor:
    """Return n class indices, (n,), in int64.

    Args:
        value: the classes, as `as_tensor` takes them.
        n: number of inputs.
        name: name of the argument.
        device: where to put them; where they are, by default.

    Raises:
        InputError: another number or shape than one index per input, or values that are no indices.
    """
    y = as_tensor(value, name)
    if y.shape == (n, 1) and not y.is_floating_point():
        raise InputError(
            f"expected {name} as {n} class indices, one per image; got a column ({n}, 1). Pass {name}.flatten()."
        )
    if y.shape != (n,) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputError(f"expected {name} as {n} class indices, one per image; got {y.dtype} of {shape_of(y)}.")
    return y.to(y.device if device is None else device, torch.int64)


def check_range(y: Tensor, classes: int, name: str = "y") -> None:
    """Raise InputError unless all class indices lie from 0 to classes - 1."""
    if len(y) and not (int(y.min()) >= 0 and int(y.max()) < classes):
        raise InputError(
            f"expected {name} as classes from 0 to {classes - 1}; got {int(y.min())} to {int(y.max())}. "
            "Number the classes from 0."
        )


def check_finite(x: Tensor, name: str) -> float:
    """Raise InputError at the first value that is NaN or infinite; return the largest magnitude (0 for whole numbers)."""
    if not x.is_floating_point() or not x.numel():
        return 0.0
    # The largest and the smallest value keep NaN and infinity.
    largest = _largest(x.detach())
    if math.isfinite(largest):
        return largest
    bad = ~x.detach().isfinite()
    place, total = bad.nonzero()[0].tolist(), int(bad.sum())
    others = "" if total == 1 else f", the first of {total:,}"
    where = f"{name}[{', '.join(map(str, place))}]"
    raise InputError(
        f"expected {name} without NaN and infinite values; got {float(x[tuple(place)])} at {where}{others}. "
        "Leave these out."
    )


def _largest(x: Tensor) -> float:
    """Return the largest magnitude; NaN where a value is.

    Torch's own functions would wake OpenMP's threads, which go on spinning for milliseconds beside the engine's. One thread
    alone does not read memory as fast as the processor can.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return max(map(abs, map(float, torch.aminmax(x))), key=lambda v: (v != v, v))
    threads = torch.get_num_threads()
    if x.numel() > _MANY and threads > 1 and len(x) >= threads:
        with ThreadPoolExecutor(threads) as pool:
            return max(pool.map(_largest_in_one_thread, x.tensor_split(threads)), key=lambda v: (v != v, v))
    return _largest_in_one_thread(x)


def _largest_in_one_thread(x: Tensor) -> float:
    numbers = x.numpy()
    with np.errstate(invalid="ignore"):
        return float(np.maximum(numbers.max(), -numbers.min()))


def same_device(x: Tensor, like: torch.device, name: str, other: str) -> None:
    """Raise InputError unless a tensor is on the device of another one.

    Args:
        x: the tensor.
        like: the device of the other.
        name: name of the argument.
        other: what is on that device.
    """
    if x.device != like:
        raise InputError(f"expected {name} on {like}, where {other} is; got it on {x.device}. Move it by .to().")


def as_number(value: Any, name: str) -> float:
    """Return a real number as a plain one; a tensor or an array of one number is one.

    Raises:
        InputError: anything else, NaN included; and a tensor that requires a gradient, which would be dropped.
    """
    if isinstance(value, Tensor) and value.requires_grad:
        raise InputError(
            f"expected {name} as a plain number; got a tensor that requires a gradient, and none is computed in {name}. "
            f"Pass {name}.detach(), and take differences for the derivative."
        )
    if (isinstance(value, Tensor) and value.numel() == 1) or (isinstance(value, np.ndarray) and value.size == 1):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
        raise InputError(f"expected {name} as a number; got {value!r}.")
    # A plain whole number stays one, so that descriptions stay as they were written.
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def as_count(value: Any, name: str, *, least: int = 1) -> int:
    """Return a whole number, from `least` on.

    Raises:
        InputError: anything else.
    """
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least:
        raise InputError(f"expected {name} as a whole number of {least} or more; got {value!r}.")
    return whole


def as_device(value: Any, name: str = "device") -> torch.device:
    """Return one of torch's devices, which need not be there."""
    try:
        return torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise InputError(f'expected {name} as one of torch\'s, such as "cpu" or "cuda"; got {value!r}.') from error


def as_path(value: Any, name: str) -> Path:
    """Return a path.

    Raises:
        InputError: neither a text nor a path.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"expected {name} as a path; got {value!r}.")
    return Path(value)


def check_module(value: Any, name: str = "module") -> None:
    """Raise InputError unless this is a torch module, and not its class."""
    if not isinstance(value, nn.Module):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise InputError(f"expected {name} as a torch.nn.Module; got {got}.")


def check_generator(generator: Any, name: str = "generator", *, optional: bool = False) -> None:
    """Raise InputError unless this is a torch.Generator; with `optional`, None is allowed."""
    if not isinstance(generator, torch.Generator) and not (optional and generator is None):
        raise InputError(
            f"expected {name} as a torch.Generator; got {generator!r}. Pass torch.Generator().manual_seed(0), or "
            "another seed."
        )


def shape_of(x: Tensor) -> str:
    """Return the shape of a tensor for a message."""
    return f"shape {tuple(x.shape)}"


def in_words(value: Any) -> str:
    """Return a value for a message, of a tensor its shape alone."""
    return f"a tensor of {shape_of(value)}" if isinstance(value, Tensor) else repr(value)


def is_list(value: Any) -> bool:
    """Return whether a value is several numbers: a sequence, or an array or tensor with an axis."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def _from_list(value: Sequence[Any], name: str) -> Tensor:
    try:
        if value and all(isinstance(item, Tensor) for item in value):
            return torch.stack(tuple(value))
        # Whole numbers become int64 and others float32, as torch.tensor makes them; numpy refuses ragged lists.
        array = np.asarray(value)
        made = _from_array(array, name)
        return made.float() if made.dtype == torch.float64 and not _holds_arrays(value) else made
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"expected {name} as a tensor, an array, or a list of numbers or images of one shape."
        ) from error


def _holds_arrays(value: Sequence[Any]) -> bool:
    return any(isinstance(item, (np.ndarray, np.generic)) for item in value)


def _from_array(array: NDArray[Any], name: str) -> Tensor:
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise InputError(f"expected {name} as numbers; got an array of {array.dtype}.")
    # torch takes neither other byte orders, negative strides nor, without a warning, memory that cannot be written.
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch computes little with these
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)
