"""The activations that are understood by torch's names, and the door for others."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from ntklens.kernels.rules import duals
from ntklens.kernels.rules.duals import Dual
from ntklens.kernels.rules.operations import Activation
from ntklens.kernels.rules.piecewise import PiecewiseLinear
from ntklens.kernels.rules.series import Series
from ntklens.kernels.tracing.tracer import HANDLERS, Traced, Tracer

Make = Callable[..., Dual]


def register(make: Make, *functions: Any) -> None:
    """Record these torch functions as pointwise, with the dual that `make` gives for their further arguments."""

    def handler(tracer: Tracer, x: Traced, *args: Any, inplace: bool = False, **kwargs: Any) -> Traced:
        if tracer.roots[x.node] is None:
            why = "it must follow a layer with weights: only then is its input a centred Gaussian"
            if x.node in tracer.mixed:
                why = (
                    "it reads the sum of a layer's output and of something not Gaussian, such as a shortcut from an "
                    "activation or a pooling; put the activation before the block's layers, x + conv(relu(x)), or a 1x1 "
                    "convolution on the shortcut"
                )
            raise tracer.refusal(f"the activation {getattr(functions[0], '__name__', 'given')}", why)
        return tracer.add(Activation(make(*args, **kwargs)), [x], x.shape)

    HANDLERS.update(dict.fromkeys(functions, handler))


def activation(
    function: Callable[[Tensor], Tensor], dual: Dual | None = None, *, degree: int = 128
) -> Callable[[Tensor], Tensor]:
    """An elementwise function of your own, to be used in a module's forward and understood by `analytic_kernel`.

    Args:
        function: elementwise on tensors, with a kink at zero at most.
        dual: its two Gaussian expectations in closed form; without them a Hermite series is used.
        degree: terms of that series; `Series(function, degree).truncation(q)` says what it leaves out.

    Returns:
        The function, which computes as before on tensors and is recorded when a network is traced.

    Example:
        >>> square = activation(lambda u: u * u, degree=2)
        >>> square(torch.tensor([3.0]))
        tensor([9.])
    """

    @functools.wraps(function)
    def wrapped(x: Tensor) -> Tensor:
        if has_torch_function_unary(x):
            result: Tensor = handle_torch_function(wrapped, (x,), x)
            return result
        return function(x)

    given = Series(function, degree) if dual is None else dual
    register(lambda: given, wrapped)
    return wrapped


def _series(function: Callable[..., Tensor], **options: Any) -> Make:
    """A maker of the Hermite series of a torch function, its further arguments bound."""

    def make(*args: Any, **kwargs: Any) -> Dual:
        return Series(functools.partial(_call, function, args, tuple(sorted(kwargs.items()))), **options)

    return make


def _call(
    function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...], x: Tensor
) -> Tensor:
    return function(x, *args, **dict(kwargs))


def _gelu(approximate: str = "none") -> Dual:
    if approximate == "none":
        return duals.GELU()
    return Series(functools.partial(F.gelu, approximate="tanh"))


def _clamp(low: float = -1.0, high: float = 1.0, *, min_val: float | None = None, max_val: float | None = None) -> Dual:
    low, high = (low if min_val is None else min_val), (high if max_val is None else max_val)
    return PiecewiseLinear((low, high), (0.0, 1.0, 0.0), min(max(0.0, low), high))


def _power(exponent: float) -> Dual:
    if exponent != int(exponent) or exponent < 0:
        raise ValueError(f"a power of a Gaussian has a rule for whole exponents from 0 on; {exponent} came")
    return Series(functools.partial(torch.pow, exponent=int(exponent)), degree=int(exponent), nodes=100)


def _prelu(tracer: Tracer, x: Traced, weight: Tensor) -> Traced:
    """LeakyReLU at the slope that the module has now, which is then held fixed."""
    slope = tracer.constant(weight, 0.0)
    if slope is None:
        raise tracer.refusal("PReLU", "its slopes differ between the channels; give them one value")
    made: Traced = HANDLERS[F.leaky_relu](tracer, x, slope)
    return made


HANDLERS.update(dict.fromkeys((F.prelu, torch.prelu, Tensor.prelu), _prelu))
register(lambda: duals.LeakyReLU(0.0), F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
register(lambda negative_slope=0.01: duals.LeakyReLU(negative_slope), F.leaky_relu, F.leaky_relu_)
register(lambda: duals.LeakyReLU(-1.0), torch.abs, Tensor.abs, Tensor.__abs__)
register(duals.Erf, torch.erf, Tensor.erf, torch.special.erf)
register(_gelu, F.gelu)
register(duals.Sin, torch.sin, Tensor.sin)
register(lambda: duals.Sin(math.pi / 2), torch.cos, Tensor.cos)
register(duals.Exp, torch.exp, Tensor.exp)
register(_power, torch.pow, Tensor.pow, Tensor.__pow__)
register(lambda: _power(2), torch.square, Tensor.square)
register(_series(torch.tanh), torch.tanh, Tensor.tanh, F.tanh)
register(_series(torch.sigmoid), torch.sigmoid, Tensor.sigmoid, F.sigmoid)
register(_series(F.silu), F.silu)
register(_series(F.softplus), F.softplus)
register(_series(F.logsigmoid), F.logsigmoid)
register(_series(F.mish), F.mish)
register(_series(F.elu), F.elu)
register(_series(F.selu), F.selu, torch.selu)
register(_series(F.celu), F.celu, torch.celu)
register(_series(F.softsign), F.softsign)
register(_series(F.hardswish, nodes=3000), F.hardswish)
register(lambda: PiecewiseLinear((0.0, 6.0), (0.0, 1.0, 0.0)), F.relu6)
register(_clamp, F.hardtanh, F.hardtanh_)
register(lambda: PiecewiseLinear((-3.0, 3.0), (0.0, 1 / 6, 0.0), 0.5), F.hardsigmoid)
