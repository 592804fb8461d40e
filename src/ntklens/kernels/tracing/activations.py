"""Handlers of the activations: a table from torch functions to their Gaussian expectations, and the user's own ones.

There are three ways to give an activation its expectations: a closed form (`duals`), kinks and slopes of a piecewise linear
function (`PiecewiseLinear`), and a Hermite series, which takes any elementwise function (`Series`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from ntklens.arguments import as_count
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.kernels.rules import duals
from ntklens.kernels.rules.duals import Dual
from ntklens.kernels.rules.hardswish import Hardswish
from ntklens.kernels.rules.operations import Activation, Flatten
from ntklens.kernels.rules.piecewise import PiecewiseLinear
from ntklens.kernels.rules.series import Series
from ntklens.kernels.tracing.tracer import BATCH, HANDLER, Handler, Traced, Tracer

MakeDual = Callable[..., Dual]
"""Makes the dual of an activation from the arguments of its call other than the input, such as a slope."""


def activation(
    function: Callable[[Tensor], Tensor],
    dual: Dual | None = None,
    *,
    degree: int = 128,
    kinks: Sequence[float] = (0.0,),
) -> Callable[[Tensor], Tensor]:
    """Make an elementwise function of your own known to `analytic_kernel`.

    Use the returned function in the forward of a module.

    Args:
        function: elementwise on tensors, continuous, and smooth but for its kinks.
        dual: its two Gaussian expectations in closed form; without them, a Hermite series is used.
        degree: highest power of that series for every pair of inputs; pairs that need more terms get more, or an
            integral, so that values are right to 1e-8. A warning says where a variance is too large for that, such as
            1,000 for tanh.
        kinks: the places where the slope or the curvature jumps; () is as the default.

    Returns:
        A function with the values of `function`, which is recorded when a network is traced.

    Raises:
        InputError: no elementwise function, one with a jump or with other kinks, or no degree.

    Example:
        >>> square = activation(lambda u: u * u, degree=2)
        >>> square(torch.tensor([3.0]))
        tensor([9.])
    """
    if not callable(function) or isinstance(function, type):
        raise InputError(f"expected function as one from tensors to tensors; got {function!r}.")
    degree = as_count(degree, "degree", least=0)
    with torch.no_grad():
        try:
            given = torch.linspace(-1, 1, 3, dtype=torch.float64)
            fits = isinstance(values := function(given.clone()), Tensor) and values.shape == given.shape
        except Exception as error:  # a user's function may raise anything
            raise InputError(
                f"expected function as one from tensors to tensors; got {type(error).__name__}: "
                f"{first_line(error).rstrip('.')}."
            ) from error
    if not fits:
        raise InputError(
            "expected function as an elementwise one, with a value for each number of a tensor; got another."
        )

    @functools.wraps(function)
    def wrapped(x: Tensor) -> Tensor:
        if has_torch_function_unary(x):
            result: Tensor = handle_torch_function(wrapped, (x,), x)
            return result
        return function(x)

    known = dual
    if known is None:
        known = Series(function, degree, kinks=_as_kinks(kinks))
        known.check()
    # The function carries its handler with it, so that no table grows with every function a user makes.
    setattr(wrapped, HANDLER, _handler(getattr(function, "__name__", "given"), lambda: known))
    return wrapped


def _as_kinks(kinks: Any) -> tuple[float, ...]:
    """Return the places of kinks, ascending.

    Raises:
        InputError: no list of finite numbers.
    """
    try:
        places = None if isinstance(kinks, (str, bytes)) else tuple(sorted({float(kink) for kink in kinks}))
    except (TypeError, ValueError):
        places = None
    if places is None or not all(map(math.isfinite, places)):
        raise InputError(f"expected kinks as a list of finite numbers, such as (0.0,), or () for none; got {kinks!r}.")
    # A smooth function is computed as one with a kink at 0, too.
    return places or (0.0,)


def _handler(name: str, make_dual: MakeDual) -> Handler:
    """Return a handler that records a pointwise function under this name."""

    def handler(tracer: Tracer, x: Traced, *args: Any, inplace: bool = False, **kwargs: Any) -> Traced:
        return _add(tracer, x, name, make_dual(*args, **kwargs))

    return handler


def _add(tracer: Tracer, x: Traced, name: str, dual: Dual) -> Traced:
    """Record an activation, whose input must be a centred Gaussian."""
    if tracer.roots[x.node] is None:
        why = "it must follow a layer with weights: only then is its input a centred Gaussian"
        if x.node in tracer.mixed:
            why = (
                "it reads the sum of a layer's output and of something not Gaussian, such as a shortcut from an "
                "activation or a pooling; put the activation before the block's layers, x + conv(relu(x)), or a 1x1 "
                "convolution on the shortcut"
            )
        raise tracer.refusal(f"the activation {name}", why)
    flatten = tracer.flatten_behind(x)
    if flatten is None:
        return tracer.add(Activation(dual), [x], x.shape)
    if flatten != x.node:
        why = (
            "it reads features that a flattening has made of positions, with operations between the two, and positions "
            "have variances of their own; put the activation before the flattening"
        )
        raise tracer.refusal(f"the activation {name}", why)
    # A flattened map keeps the mean covariance over positions, but an activation acts on each position, whose variance is
    # its own, and φ of a mean is not the mean of φ. A pointwise function may as well come first: φ(flatten(z)) is
    # flatten(φ(z)).
    (source,) = tracer.nodes[flatten].inputs
    z = tracer.tag((BATCH, *tracer.nodes[source].shape), source)
    return tracer.add(Flatten(), [tracer.add(Activation(dual), [z], z.shape)], x.shape)


@dataclass(frozen=True)
class Bound:
    """A function of one tensor: a torch function with the other arguments of its call, which are constant."""

    function: Callable[..., Tensor]
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values of the function."""
        return self.function(x, *self.args, **dict(self.kwargs))

    def __str__(self) -> str:
        arguments = [str(a) for a in self.args] + [f"{name}={value}" for name, value in self.kwargs]
        return f"{self.function.__name__}({', '.join(arguments)})" if arguments else self.function.__name__


def _series(function: Callable[..., Tensor], **options: Any) -> MakeDual:
    """Return a maker of the Hermite series of a torch function; the arguments of the call are bound to the function."""

    def make(*args: Any, **kwargs: Any) -> Dual:
        return Series(Bound(function, args, tuple(sorted(kwargs.items()))), **options)

    return make


def _gelu(approximate: str = "none") -> Dual:
    if approximate == "none":
        return duals.GELU()
    return Series(Bound(F.gelu, kwargs=(("approximate", approximate),)))


def _hardtanh(
    low: float = -1.0, high: float = 1.0, *, min_val: float | None = None, max_val: float | None = None
) -> Dual:
    low, high = (low if min_val is None else min_val), (high if max_val is None else max_val)
    return PiecewiseLinear((low, high), (0.0, 1.0, 0.0), min(max(0.0, low), high))


def _power(exponent: int) -> Dual:
    # The power m has a Hermite series of degree m, and its integrals are those of polynomials.
    return Series(Bound(torch.pow, (exponent,)), degree=exponent, nodes=100)


TABLE: list[tuple[MakeDual, tuple[Any, ...]]] = [
    # Closed forms
    (lambda: duals.LeakyReLU(0.0), (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)),
    (lambda negative_slope=0.01: duals.LeakyReLU(negative_slope), (F.leaky_relu, F.leaky_relu_)),
    (lambda: duals.LeakyReLU(-1.0), (torch.abs, Tensor.abs, Tensor.__abs__)),
    (duals.Erf, (torch.erf, Tensor.erf, torch.special.erf)),
    (_gelu, (F.gelu,)),
    (duals.Sin, (torch.sin, Tensor.sin)),
    (lambda: duals.Sin(math.pi / 2), (torch.cos, Tensor.cos)),
    (duals.Exp, (torch.exp, Tensor.exp)),
    # Piecewise polynomials
    (lambda: PiecewiseLinear((0.0, 6.0), (0.0, 1.0, 0.0)), (F.relu6,)),
    (_hardtanh, (F.hardtanh, F.hardtanh_)),
    (lambda: PiecewiseLinear((-3.0, 3.0), (0.0, 1 / 6, 0.0), 0.5), (F.hardsigmoid,)),
    (Hardswish, (F.hardswish,)),
    # Hermite series
    (lambda: _power(2), (torch.square, Tensor.square)),
    (_series(torch.tanh), (torch.tanh, Tensor.tanh, F.tanh)),
    (_series(torch.sigmoid), (torch.sigmoid, Tensor.sigmoid, F.sigmoid)),
    (_series(F.silu), (F.silu,)),
    (_series(F.softplus), (F.softplus,)),
    (_series(F.logsigmoid), (F.logsigmoid,)),
    (_series(F.mish), (F.mish,)),
    (_series(F.elu), (F.elu,)),
    (_series(F.selu), (F.selu, torch.selu)),
    (_series(F.celu), (F.celu, torch.celu)),
    (_series(F.softsign), (F.softsign,)),
]
"""One row per activation: what makes its dual, and every torch function that computes it."""


def _prelu(tracer: Tracer, x: Traced, weight: Tensor) -> Traced:
    """Record PReLU as a LeakyReLU of the slope that the module has, which is then held fixed."""
    slope = tracer.constant(weight, 0.0)
    if slope is None:
        raise tracer.refusal("PReLU", "its slopes differ between the channels; give them one value")
    return _add(tracer, x, "prelu", duals.LeakyReLU(slope))


def _pow(tracer: Tracer, x: Traced, exponent: Any) -> Traced:
    """Record a power with a whole exponent, which is 0 or above."""
    if not isinstance(exponent, (int, float)) or exponent != int(exponent) or exponent < 0:
        raise tracer.refusal(
            "a power", f"only whole exponents from 0 on have a rule, because bases can be negative; got {exponent}"
        )
    return _add(tracer, x, "pow", _power(int(exponent)))


SERIES_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        *(torch.tanh, torch.sigmoid, torch.pow, F.gelu, F.silu, F.softplus, F.logsigmoid, F.mish),
        *(F.elu, F.selu, F.celu, F.softsign, F.hardswish),
    )
}
"""The torch functions that have a Hermite series, by their names."""

HANDLERS: dict[Any, Handler] = {
    **{function: _handler(functions[0].__name__, make) for make, functions in TABLE for function in functions},
    **dict.fromkeys((F.prelu, torch.prelu, Tensor.prelu), _prelu),
    **dict.fromkeys((torch.pow, Tensor.pow, Tensor.__pow__), _pow),
}
"""Torch function -> how a call of it is recorded."""
