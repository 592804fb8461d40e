"""Computations in the precision of their inputs, whatever torch.autocast the caller has switched on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_DEVICES = ("cpu", "cuda")


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute as usual where its caller is in `torch.autocast`.

    Autocast rounds matrix products to 16 bits, which have two or three digits; kernels and what is solved with them need
    more.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        devices = [device for device in _DEVICES if torch.is_autocast_enabled(device)]
        if not devices:
            return function(*args, **kwargs)
        with ExitStack() as stack:
            for device in devices:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return wrapped


def is_in_autocast(device: Any) -> bool:
    """Return whether torch.autocast is on for a device."""
    return torch.is_autocast_enabled(torch.device(device).type)
