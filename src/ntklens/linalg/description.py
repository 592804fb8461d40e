"""Filters as text, and back: what a file needs to know of a filter, without code in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ntklens.errors import InputError
from ntklens.linalg.cross_entropy import CrossEntropy
from ntklens.linalg.filters import Band, Filter, GradientDescent, GradientFlow, Ridge, Trained, whole_indices

_FIELDS: dict[type, dict[str, Callable[[Any], Any]]] = {
    Ridge: {"rho": float},
    GradientFlow: {"time": float, "learning_rate": float},
    GradientDescent: {"steps": int, "learning_rate": float},
    Trained: {"objective": str},
    CrossEntropy: {"time": float, "learning_rate": float},
    Band: {"indices": lambda indices: list(whole_indices(indices))},
}
"""The fields of each filter with the plain type that a file has them in."""


def describe(g: Filter) -> str | None:
    """Return a filter of this package as JSON; None for a filter of another type, which only its own code can describe.

    Example:
        >>> describe(Ridge(0.5))
        '{"filter": "Ridge", "rho": 0.5}'
    """
    fields = _FIELDS.get(type(g))
    if fields is None:
        return None
    return json.dumps({"filter": type(g).__name__} | {name: plain(getattr(g, name)) for name, plain in fields.items()})


def described(text: str) -> Filter:
    """Return the filter that `describe` has described.

    Raises:
        InputError: the text is no description of a filter.
    """
    try:
        values = json.loads(text)
        kind = {known.__name__: known for known in _FIELDS}[values.pop("filter")]
        g: Filter = kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"expected the description of a filter; got {text!r}.") from error
    return g
