"""Kernels as text, and back: a traced network is a list of operations with constants, and needs no code to be restored.

A file of a kernel machine holds this text, so that it can be loaded without the network that it was made from. Nothing in
it is run: each class and each function is looked up in a table by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ntklens.errors import InputError
from ntklens.kernels.algebra import ProductKernel, ScaledKernel, SumKernel
from ntklens.kernels.analytic import AnalyticKernel
from ntklens.kernels.base import Kernel
from ntklens.kernels.elementary import LinearKernel, RBFKernel
from ntklens.kernels.nngp import NNGPKernel
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules import duals, hardswish, operations, piecewise, series, windows
from ntklens.kernels.rules.graph import Graph, Node
from ntklens.kernels.tracing.activations import SERIES_FUNCTIONS, Bound

_CLASSES: dict[str, type] = {
    cls.__name__: cls
    for module in (duals, hardswish, operations, piecewise, series, windows)
    for cls in vars(module).values()
    if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__
} | {cls.__name__: cls for cls in (Node, Parametrisation, Bound, LinearKernel, RBFKernel)}
_FUNCTION_NAMES: dict[Callable[..., Any], str] = {function: name for name, function in SERIES_FUNCTIONS.items()}


_COMBINED: tuple[type, ...] = (SumKernel, ProductKernel, ScaledKernel)
_COMBINED_BY_NAME = {cls.__name__: cls for cls in _COMBINED}


class _NoDescription(Exception):
    """Something that only its own code can describe, such as an activation of the user's."""


def describe_kernel(kernel: Kernel, shape: tuple[int, ...]) -> str | None:
    """Return a kernel as JSON.

    Args:
        kernel: any kernel.
        shape: shape of one input, for which an analytic kernel is traced.

    Returns:
        The description; None for an empirical kernel, which depends on the weights of a network, for a kernel of the
        user's, for a network with an activation of the user's, and for what is made of one of these.
    """
    try:
        return json.dumps(_kernel(kernel, shape))
    except _NoDescription:
        return None


def kernel_from(description: str) -> Kernel:
    """Return the kernel that `describe_kernel` has described; an analytic one takes inputs of that shape alone.

    Raises:
        InputError: the text is no description of a kernel.
    """
    try:
        return _restored(json.loads(description))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"expected the description of a kernel; got {description[:80]!r}.") from error


def _kernel(kernel: Kernel, shape: tuple[int, ...]) -> dict[str, Any]:
    if type(kernel) is NNGPKernel:
        return {"prior_of": _kernel(kernel.ntk, shape)}
    if type(kernel) is AnalyticKernel:
        return {
            "network": kernel.name,
            "shape": list(shape),
            "parametrisation": _plain(kernel.parametrisation),
            "nodes": _plain(kernel.graph(shape).nodes),
        }
    if type(kernel) in _COMBINED:
        parts = {f.name: getattr(kernel, f.name) for f in fields(kernel)}  # type: ignore[arg-type]
        described = {key: _kernel(part, shape) if isinstance(part, Kernel) else part for key, part in parts.items()}
        return {"combined": type(kernel).__name__, "parts": described}
    if type(kernel) in (LinearKernel, RBFKernel):
        return {"elementary": _plain(kernel)}
    raise _NoDescription


def _restored(values: dict[str, Any]) -> Kernel:
    if "prior_of" in values:
        return _restored(values["prior_of"]).prior
    if "combined" in values:
        parts = {key: _restored(part) if isinstance(part, dict) else part for key, part in values["parts"].items()}
        combined: Kernel = _COMBINED_BY_NAME[values["combined"]](**parts)
        return combined
    if "elementary" in values:
        kernel: Kernel = _object(values["elementary"])
        return kernel
    graph = Graph(_object(values["nodes"]))
    return AnalyticKernel.of_graph(values["network"], graph, tuple(values["shape"]), _object(values["parametrisation"]))


def _plain(value: Any) -> Any:
    """Return a constant of an operation as JSON's types; a class is named beside its fields."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {"mapping": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if is_dataclass(value) and _CLASSES.get(type(value).__name__) is type(value):
        return {"class": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if callable(value) and value in _FUNCTION_NAMES:
        return {"function": _FUNCTION_NAMES[value]}
    raise _NoDescription


def _object(value: Any) -> Any:
    """Return what `_plain` has described."""
    if isinstance(value, list):
        return tuple(_object(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "mapping" in value:
        return {_object(key): _object(item) for key, item in value["mapping"]}
    if "function" in value and "class" not in value:
        return SERIES_FUNCTIONS[value["function"]]
    return _CLASSES[value["class"]](**{name: _object(item) for name, item in value.items() if name != "class"})
