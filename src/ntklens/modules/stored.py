"""Tensors with a graph that a module holds outside its parameters, such as `self.mask = torch.tanh(self.weight)`.

A copy of the module has only their values. A forward that reads them depends on the parameters behind them, and in the copy
it does not. Whether it reads them is seen in the graph of its outputs: an activation that every forward stores anew is no
such case.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import InputError

_MARK = "_stored_by_its_module_as"


def constants(module: nn.Module) -> dict[int, Tensor]:
    """Return a constant for each tensor with a graph that a module holds, by the tensor's id.

    Raises:
        InputError: a buffer has a graph.
    """
    for name, buffer in module.named_buffers():
        if buffer.grad_fn is not None:
            raise computed_before(name)
    found: dict[int, Tensor] = {}
    for name, tensor in _tensors(module):
        if tensor.grad_fn is not None:
            found[id(tensor)] = tensor.detach().clone()
            setattr(found[id(tensor)], _MARK, name)
    return found


@contextmanager
def followed(network: nn.Module) -> Iterator[dict[int, str]]:
    """Give the constants of a copy the beginnings of graphs, and yield their names by the ids of these leaves."""
    marked = [(getattr(tensor, _MARK), tensor) for _, tensor in _tensors(network) if hasattr(tensor, _MARK)]
    zeros = {name: torch.zeros((), dtype=t.dtype, device=t.device, requires_grad=True) for name, t in marked}
    for name, tensor in marked:
        with torch.enable_grad():
            tensor.add_(zeros[name])  # in place, since whoever holds the tensor is to see it; x + 0 is x
    try:
        yield {id(zero): name for name, zero in zeros.items()}
    finally:
        for _, tensor in marked:
            tensor.detach_()


def check_computed_in_forward(outputs: Tensor, names: Mapping[int, str]) -> None:
    """Raise InputError where the graph of outputs begins in one of the tensors that are `followed`.

    Args:
        outputs: a network's outputs, with a graph.
        names: what `followed` gives.
    """
    waiting, visited = [outputs.grad_fn], {outputs.grad_fn}
    while waiting and names:
        node = waiting.pop()
        for following, _ in node.next_functions if node is not None else ():
            name = names.get(id(getattr(following, "variable", None)))
            if name is not None:
                raise computed_before(name)
            if following not in visited:
                visited.add(following)
                waiting.append(following)


def computed_before(name: str) -> InputError:
    """Return the error for a tensor that a forward reads and that depends on parameters."""
    return InputError(
        f"expected a network whose forward computes what depends on its parameters; got `{name}`, a tensor that was "
        "computed from parameters before. Compute it in forward, or detach it where it is meant as a constant."
    )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a module holds, at any depth of attributes and containers, with where they are."""
    waiting: list[tuple[str, Any]] = [("", module)]
    visited: set[int] = set()
    while waiting:
        place, value = waiting.pop()
        if value is None or isinstance(value, (type, types.ModuleType, str, bytes, int, float)) or id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, Tensor):
            yield place, value
        elif isinstance(value, nn.Module):
            for name, held in vars(value).items():
                inside = name in ("_parameters", "_buffers", "_modules")
                entries = held.items() if inside else [(name, held)]
                waiting.extend((f"{place}.{key}" if place else key, entry) for key, entry in entries)
        elif isinstance(value, Mapping):
            waiting.extend((f"{place}[{key!r}]", held) for key, held in value.items())
        elif isinstance(value, (list, tuple, set)):
            waiting.extend((f"{place}[{number}]", held) for number, held in enumerate(value))
        elif isinstance(value, functools.partial):
            waiting.extend((place, held) for held in (value.func, *value.args, *value.keywords.values()))
        elif isinstance(value, types.FunctionType):
            held_by = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
            held_by += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            waiting.extend((place, held) for held in held_by if isinstance(held, Tensor))
        else:
            attributes = getattr(type(value), "__dict__", {}).get("__dict__") and value.__dict__
            if isinstance(attributes, dict):
                waiting.extend((f"{place}.{name}", held) for name, held in attributes.items())


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a variable without a value yet
        return False
    return True
