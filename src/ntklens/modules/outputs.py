"""What modules return: one tensor, also where it is wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ntklens.errors import InputError


def single_output(outputs: Any) -> Tensor:
    """Return the one tensor of what a module returns.

    That is a tensor itself, the entry or attribute named `logits`, or the only entry of a tuple, list or dict.

    Raises:
        InputError: there is no such tensor, or it is not clear which one is meant.
    """
    if isinstance(outputs, Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(outputs, (Mapping, tuple, list)) and len(outputs) == 1:
        (only,) = outputs.values() if isinstance(outputs, Mapping) else outputs
        if isinstance(only, Tensor):
            return only
    raise InputError(
        f"expected a model that returns one tensor, with a row per input; got {_described(outputs)}. Wrap it in a module "
        "whose forward returns the logits alone."
    )


def _described(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return f"a {type(outputs).__name__} with the keys {', '.join(map(str, outputs))}"
    if isinstance(outputs, (tuple, list)):
        return f"a {type(outputs).__name__} of {len(outputs)}"
    return f"an object of type {type(outputs).__name__}"
