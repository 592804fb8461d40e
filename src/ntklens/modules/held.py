"""What a module holds beside its parameters: modes, buffers, attributes and hooks, as they were before it was called."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_LARGEST_TENSOR = 1 << 20
"""Numbers of a tensor up to which it is put back: statistics have fewer, the data of a kernel machine more."""
_LONGEST = 1 << 16
"""Entries of a container up to which it is put back."""
_FEW = 64
"""Entries of a container up to which the tensors in it are put back."""
_CONTAINERS = frozenset((dict, OrderedDict, defaultdict, Counter, list, set, deque))
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Held:
    """The attributes of a module and its parts, the contents of containers among them, and the values of tensors.

    Parameters, tensors and containers that are too large, and what is inside of other objects are not put back. What
    torch's wrappers and the classes of this package hold for themselves stays, since it makes them fast.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modes = [(part, part.training) for part in module.modules()]
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, Tensor, int]] = []
        for part in module.modules():
            if isinstance(part, torch.jit.ScriptModule):
                continue
            attributes = vars(part)
            if _is_users(part):
                self._attributes.append((attributes, attributes.copy()))
                held = list(attributes.values())
            else:
                held = [part._buffers]
            containers = [value for value in held if type(value) in _CONTAINERS and len(value) <= _LONGEST]
            self._containers += [(value, value.copy()) for value in containers]
            for tensor in chain(_tensors(held), *map(_contents, containers)):
                self._tensors.append((tensor, tensor.detach().clone(), _version(tensor)))

    def is_overwritten(self) -> bool:
        """Return whether a tensor has been written into, so that graphs in which it was used are lost."""
        return any(_version(tensor) != version for tensor, _, version in self._tensors)

    def put_back(self) -> None:
        """Put everything back that has changed."""
        for attributes, kept in self._attributes:
            if not _is_same(attributes, kept):
                _fill(attributes, kept)
        for container, kept in self._containers:
            if not _is_same(container, kept):
                _fill(container, kept)
        for part, mode in self._modes:
            if part.training != mode:
                part.training = mode
        with torch.no_grad():
            for tensor, value, version in self._tensors:
                if _version(tensor) != version:
                    tensor.copy_(value)


def _is_users(part: nn.Module) -> bool:
    cls = type(part)
    return not (cls.__module__.startswith(("ntklens.", "torch._dynamo.")) or isinstance(part, _WRAPPERS))


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        is_plain = isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and not nn.parameter.is_lazy(value)
        if is_plain and value.numel() <= _LARGEST_TENSOR:
            yield value


def _contents(container: Any) -> Iterator[Tensor]:
    if container and len(container) <= _FEW:
        yield from _tensors(container.values() if isinstance(container, dict) else container)


def _is_same(a: Any, b: Any) -> bool:
    """Return whether two containers of one class have the same objects in the same places."""
    if len(a) != len(b):
        return False
    if isinstance(a, dict):
        return all(key in b and b[key] is value for key, value in a.items())
    if isinstance(a, set):
        return bool(a == b)
    return all(x is y for x, y in zip(a, b, strict=True))


def _fill(container: Any, kept: Any) -> None:
    container.clear()
    (container.extend if isinstance(container, (list, deque)) else container.update)(kept)


def _version(tensor: Tensor) -> int:
    """Return torch's count of the changes in place; tensors of inference mode have none."""
    return 0 if tensor.is_inference() else tensor._version
