"""Handlers of the torch functions that are linear: layers, pooling, shapes, normalisation and sums.

`HANDLERS` maps a torch function to the handler that records it, and `REFUSALS` maps one that has no rule to the reason. A
handler takes the tracer and the arguments of the call, refuses what has no rule, and adds one node to the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ntklens.kernels.rules.operations import Dense, Flatten, GlobalPool, Normalise, Scale, Size, Sum
from ntklens.kernels.rules.windows import AveragePool, CircularPad, Conv, Pad, Upsample, Window
from ntklens.kernels.tracing.tracer import Handler, Traced, Tracer

HANDLERS: dict[Any, Handler] = {}
"""Torch function -> how a call of it is recorded; `handles` adds the handlers below."""


def handles(*functions: Any) -> Callable[[Handler], Handler]:
    """Decorate the handler of these torch functions: it is entered in `HANDLERS`."""

    def enter(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(functions, handler))
        return handler

    return enter


def _shape(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> torch.Size:
    """Return the shape of the result of a torch function, which is run on tensors without values."""
    with torch._C.DisableTorchFunctionSubclass():
        return function(*args, **kwargs).shape


def _pair(value: Any, is_sequence: bool, missing: int) -> Size:
    """Return an argument such as a stride as (vertical, horizontal).

    Args:
        value: one int for all axes, or one int per axis.
        is_sequence: whether the input is (n, C, L), which is taken as an image of height 1.
        missing: the vertical value for sequences.
    """
    values = (value,) if isinstance(value, int) else tuple(int(v) for v in value)
    return (missing, values[-1]) if is_sequence else (values[0], values[-1])


def _size(shape: torch.Size) -> Size:
    """Return height and width of a tensor (n, C, H, W), or (1, L) of a tensor (n, C, L)."""
    return (shape[-2], shape[-1]) if len(shape) == 4 else (1, shape[-1])


# Layers


@handles(F.linear)
def linear(tracer: Tracer, x: Traced, weight: Tensor, bias: Tensor | None = None) -> Traced:
    """Record a dense layer on features without positions."""
    if x.ndim != 2:
        why = "its input has positions, of which it would mix the last axis alone; flatten or pool before it"
        raise tracer.refusal("Linear", why)
    return tracer.add(Dense(tracer.layer(weight, bias)), [x], _shape(F.linear, x, weight))


@handles(F.conv1d, F.conv2d)
def convolution(
    tracer: Tracer,
    x: Traced,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Traced:
    """Record a convolution with zero padding. Groups of hidden channels do not change the infinite-width limit."""
    if groups != 1 and (not tracer.layers_behind(x) or weight.shape[1] == 1):
        why = "its channels do not average over many others in the limit; use groups=1"
        raise tracer.refusal("a grouped convolution of the data, or a depthwise one", why)
    is_sequence = weight.ndim == 3
    function = F.conv1d if is_sequence else F.conv2d
    if padding == "same":
        shape = torch.Size((len(x), len(weight), *x.shape[2:]))
    else:
        shape = _shape(function, x, weight, None, stride, padding, dilation, groups)
    kernel_size = _pair(weight.shape[2:], is_sequence, 1)
    stride = _pair(stride, is_sequence, 1)
    dilation = _pair(dilation, is_sequence, 1)
    if padding == "same":  # where the total is odd, torch pads one more behind than before
        before = (dilation[0] * (kernel_size[0] - 1) // 2, dilation[1] * (kernel_size[1] - 1) // 2)
    elif padding == "valid":
        before = (0, 0)
    else:
        before = _pair(padding, is_sequence, 0)
    window = Window(kernel_size, stride, before, dilation, _size(x.shape), _size(shape))
    return tracer.add(Conv(window, tracer.layer(weight, bias)), [x], shape)


# Pooling, padding and shapes


@handles(F.avg_pool1d, F.avg_pool2d)
def average_pool(
    tracer: Tracer,
    x: Traced,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Traced:
    """Record average pooling, whose windows may overlap and reach into the padding."""
    if ceil_mode or divisor_override:
        why = "windows with a divisor of their own have no rule; use ceil_mode=False and no divisor_override"
        raise tracer.refusal("average pooling", why)
    is_sequence = x.ndim == 3
    function = F.avg_pool1d if is_sequence else F.avg_pool2d
    stride = kernel_size if stride is None or stride in ([], ()) else stride
    shape = _shape(function, x, kernel_size, stride, padding)
    kernel_size = _pair(kernel_size, is_sequence, 1)
    stride = _pair(stride, is_sequence, 1)
    before = _pair(padding, is_sequence, 0)
    window = Window(kernel_size, stride, before, (1, 1), _size(x.shape), _size(shape))
    return tracer.add(AveragePool(window, count_include_pad or before == (0, 0)), [x], shape)


@handles(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, torch.adaptive_avg_pool1d, torch._C._nn.adaptive_avg_pool2d)
def adaptive_average_pool(tracer: Tracer, x: Traced, output_size: Any) -> Traced:
    """Record global pooling, or pooling to a size that divides the size of the image."""
    shape = _shape(F.adaptive_avg_pool1d if x.ndim == 3 else F.adaptive_avg_pool2d, x, output_size)
    size, out = _size(x.shape), _size(shape)
    if out == (1, 1):
        return tracer.add(GlobalPool(size), [x], shape)
    if size[0] % out[0] or size[1] % out[1]:
        raise tracer.refusal("adaptive pooling", f"its windows differ in size, because {out} does not divide {size}")
    kernel = (size[0] // out[0], size[1] // out[1])
    return tracer.add(AveragePool(Window(kernel, kernel, (0, 0), (1, 1), size, out)), [x], shape)


@handles(Tensor.mean, torch.mean)
def mean(tracer: Tracer, x: Traced, dim: Any = None, keepdim: bool = False) -> Traced:
    """Record the mean over all positions, which is global average pooling."""
    axes = () if dim is None else tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    if x.ndim < 3 or sorted(axes) != list(range(2, x.ndim)):
        raise tracer.refusal("mean", "only the mean over all positions, such as x.mean((2, 3)), has a rule")
    return tracer.add(GlobalPool(_size(x.shape)), [x], _shape(torch.mean, x, axes, keepdim))


@handles(F.pad, torch._C._nn.pad)
def pad(tracer: Tracer, x: Traced, pad: Any, mode: str = "constant", value: float | None = None) -> Traced:
    """Record zero or circular padding of the positions."""
    widths = [int(p) for p in pad]  # left, right, then top, bottom
    fits = x.ndim >= 3 and len(widths) <= 2 * (x.ndim - 2) and min(widths, default=0) >= 0
    if not fits or mode not in ("constant", "circular") or (mode == "constant" and value not in (None, 0)):
        raise tracer.refusal("pad", "only zero and circular padding of the positions have a rule")
    shape = _shape(F.pad, x, widths, mode)
    before = (widths[2] if len(widths) > 2 else 0, widths[0])
    if mode == "circular":
        return tracer.add(CircularPad(before, _size(x.shape), _size(shape)), [x], shape)
    return tracer.add(Pad(Window((1, 1), (1, 1), before, (1, 1), _size(x.shape), _size(shape))), [x], shape)


@handles(F.interpolate)
def interpolate(
    tracer: Tracer, x: Traced, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any
) -> Traced:
    """Record nearest-neighbour upsampling by whole factors."""
    shape = _shape(F.interpolate, x, size, scale_factor, mode, **options)
    before, after = _size(x.shape), _size(shape)
    if mode not in ("nearest", "nearest-exact") or after[0] % before[0] or after[1] % before[1]:
        why = 'only mode="nearest" by whole factors has a rule'
        raise tracer.refusal("interpolate", why)
    factor = (after[0] // before[0], after[1] // before[1])
    return tracer.add(Upsample(factor, before, after), [x], shape)


def _reshaping(function: Any) -> Handler:
    """Return the handler of a function that only changes the shape: to (n, features), or not at all."""

    def reshape(tracer: Tracer, x: Traced, *args: Any, **kwargs: Any) -> Traced:
        shape = _shape(function, x, *args, **kwargs)
        if shape == x.shape:
            return x  # as in torch, where an in-place function of the result changes the input too
        if shape[0] != x.shape[0] or len(shape) != 2:
            why = (
                f"it turns {tuple(x.shape[1:])} into {tuple(shape[1:])}; positions stay (n, C, H, W) until they are "
                "pooled or flattened to (n, features), and dense layers over patches or tokens have no rule: use "
                "convolutions"
            )
            raise tracer.refusal(getattr(function, "__name__", "reshape"), why)
        return x.share_memory(tracer.add(Flatten(), [x], shape))

    return reshape


for _function in (
    torch.flatten,
    Tensor.flatten,
    Tensor.view,
    Tensor.reshape,
    torch.reshape,
    Tensor.squeeze,
    torch.squeeze,
):
    HANDLERS[_function] = _reshaping(_function)


@handles(Tensor.clone, torch.clone)
def clone(tracer: Tracer, x: Traced, *args: Any, **kwargs: Any) -> Traced:
    """Return a second tensor for the same node, which in-place functions of the first do not change."""
    return tracer.tag(x.shape, x.node)


@handles(Tensor.contiguous)
def contiguous(tracer: Tracer, x: Traced, *args: Any, **kwargs: Any) -> Traced:
    """Return the tensor itself: how its entries are stored does not matter."""
    return x


@handles(F.dropout, F.dropout2d)
def dropout(tracer: Tracer, x: Traced, p: float = 0.5, training: bool = False, inplace: bool = False) -> Traced:
    """Return the tensor itself, as dropout does in evaluation mode."""
    return x


# Normalisation, sums and constants


@handles(F.layer_norm, torch.layer_norm)
def layer_norm(
    tracer: Tracer,
    x: Traced,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Traced:
    """Record a layer norm over all axes of each input, with gains of one and shifts of zero."""
    if tracer.roots[x.node] is None:
        raise tracer.refusal("LayerNorm", "it must follow a Linear or Conv2d layer, not the data or an activation")
    if len(normalized_shape) != x.ndim - 1:
        raise tracer.refusal("LayerNorm", "only the norm over all axes but the batch has a rule")
    if tracer.constant(weight, 1.0) != 1 or tracer.constant(bias, 0.0) != 0:
        raise tracer.refusal("LayerNorm", "its gains and shifts must be one and zero, as at initialisation")
    return tracer.add(Normalise(over_positions=x.ndim > 2, eps=eps), [x], x.shape)


@handles(F.batch_norm, torch.batch_norm)
def batch_norm(
    tracer: Tracer,
    x: Traced,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Traced:
    """Record batch norm in evaluation mode as a multiplication, where its statistics treat all channels alike.

    At initialisation they do: mean 0, variance 1, gain 1 and shift 0.
    """
    centred = tracer.constant(running_mean, 0.0) == 0 and tracer.constant(bias, 0.0) == 0
    variance, gain = tracer.constant(running_var, 0.0), tracer.constant(weight, 1.0)
    if running_var is None or not centred or variance is None or gain is None:
        why = (
            "its statistics differ between the channels, which are exchangeable at infinite width; the form at "
            "initialisation has a rule: call .reset_parameters() on it, or leave it out"
        )
        raise tracer.refusal("BatchNorm", why)
    return tracer.add(Scale(gain / (variance + eps) ** 0.5), [x], x.shape)


@handles(torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)
def add(tracer: Tracer, a: Any, b: Any, *, alpha: float = 1) -> Traced:
    """Record the sum of two uncorrelated branches, at least one of which is linear in the outputs of layers."""
    if not (isinstance(a, Traced) and isinstance(b, Traced)):
        raise tracer.refusal("adding a constant", "the sum is no longer centred; use the bias of a layer")
    if a.shape != b.shape:
        raise tracer.refusal("a sum", f"its branches differ in shape: {tuple(a.shape[1:])} and {tuple(b.shape[1:])}")
    roots_a, roots_b = tracer.roots[a.node], tracer.roots[b.node]
    if roots_a is None and roots_b is None:
        why = (
            "both branches carry outputs of activations, or the data, whose means correlate them; end one of them in a "
            "Linear or Conv layer"
        )
        raise tracer.refusal("a sum", why)
    # A branch without roots depends on all layers behind it. With zero-mean weights, a layer's output is uncorrelated
    # with everything that was computed without this layer, so branches without a common layer are uncorrelated.
    if (roots_a or tracer.layers_behind(a)) & (roots_b or tracer.layers_behind(b)):
        raise tracer.refusal("a sum", "its branches share a layer's output, so that they are correlated")
    if alpha != 1:
        b = tracer.add(Scale(float(alpha)), [b], b.shape)
    return tracer.add(Sum(), [a, b], a.shape)


@handles(
    torch.mul,
    Tensor.mul,
    Tensor.__mul__,
    Tensor.__rmul__,
    Tensor.__imul__,
    torch.neg,
    Tensor.neg,
    Tensor.__neg__,
)
def multiply(tracer: Tracer, a: Any, b: Any = -1.0) -> Traced:
    """Record the multiplication by a plain number."""
    x, factor = (a, b) if isinstance(a, Traced) else (b, a)
    if not isinstance(factor, (int, float)):
        raise tracer.refusal(
            "a product",
            "only products with a plain number have a rule; an elementwise function of one value, such as u * u, is an "
            "activation: square = nl.activation(lambda u: u * u), called in the forward",
        )
    return tracer.add(Scale(float(factor)), [x], x.shape)


@handles(torch.div, Tensor.div, Tensor.__truediv__, Tensor.__itruediv__)
def divide(tracer: Tracer, a: Any, b: Any) -> Traced:
    """Record the division by a plain number."""
    if not isinstance(b, (int, float)):
        raise tracer.refusal("a quotient", "only division by a plain number has a rule")
    return multiply(tracer, a, 1 / b)


# Functions without a rule, with the reason

_VALUES = "its result depends on the values of the input, which a kernel does not have"
_ASSIGNMENT = "assigning to a tensor or to some of its entries has no rule; compute a new tensor instead"
_MAXIMUM = "the maximum of correlated Gaussians is not Gaussian; AvgPool2d in its place has a rule"
_SOFTMAX = "it couples the features of one input; leave it out: every predictor and attack here takes the logits"
_ATTENTION = "attention multiplies two functions of the input; it has no kernel in closed form"
_PRODUCT = (
    "a weight must be that of a Linear or Conv layer, through the module or F.linear; a product of two functions of the "
    "input, as in attention, has no kernel in closed form"
)
_CONCATENATION = (
    "its parts have variances of their own, so that channels are no longer exchangeable; add branches instead"
)
_GROUPS = (
    "groups of channels have no rule; for GroupNorm(1, C), take nn.LayerNorm((C, H, W)), over channels and positions"
)
_AXES = "channels must stay before positions; a norm over channels alone has no rule, nn.LayerNorm((C, H, W)) has one"
REFUSALS: dict[Any, str] = {
    function: reason
    for reason, functions in {
        _VALUES: (
            Tensor.item,
            Tensor.tolist,
            Tensor.numpy,
            Tensor.__array__,
            Tensor.__bool__,
            Tensor.__int__,
            Tensor.__float__,
            Tensor.__complex__,
            Tensor.__index__,
            Tensor.__contains__,
            Tensor.equal,
            torch.equal,
            Tensor.allclose,
            torch.allclose,
            Tensor.nonzero,
            torch.nonzero,
            Tensor.argwhere,
            torch.argwhere,
            Tensor.unique,
            torch.unique,
            Tensor.masked_select,
            torch.masked_select,
        ),
        _ASSIGNMENT: (Tensor.__setitem__, Tensor.data.__set__),  # type: ignore[attr-defined]
        _CONCATENATION: (torch.cat, torch.concat),
        _PRODUCT: (
            torch.matmul,
            torch.mm,
            torch.bmm,
            torch.einsum,
            Tensor.matmul,
            Tensor.mm,
            Tensor.bmm,
            Tensor.__matmul__,
            Tensor.__rmatmul__,
        ),
        _MAXIMUM: (F.max_pool1d, F.max_pool2d, F.adaptive_max_pool2d, torch.max_pool2d),
        _GROUPS: (F.group_norm, torch.group_norm),
        _AXES: (Tensor.permute, torch.permute, Tensor.movedim, torch.movedim, torch.moveaxis, Tensor.moveaxis),
        _SOFTMAX: (F.softmax, torch.softmax, Tensor.softmax, F.log_softmax, torch.log_softmax),
        _ATTENTION: (F.scaled_dot_product_attention, F.multi_head_attention_forward),
    }.items()
    for function in functions
}
"""Torch function -> why it has no infinite-width rule and what to use instead."""
