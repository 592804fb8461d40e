"""One row of the table of public functions: how it is called, and the sort of each of its arguments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from bad_inputs.kinds import Kind


@dataclass(frozen=True)
class Callee:
    """A public function or method.

    Attributes:
        name: as users write it, with its class where it has one.
        call: called with the arguments by their names.
        clean: makes arguments that fit.
        arguments: the kinds of input that each argument is tried with.
        but: where something else is expected than of other functions, or, with None, where a kind is a clean input here.
        names: what the sentence calls an argument, as a regular expression, where that is not its name.
        empty: arguments that are all empty in one more row, and what is expected then.
    """

    name: str
    call: Callable[..., Any]
    clean: Callable[[], dict[str, Any]]
    arguments: dict[str, tuple[Kind, ...]]
    but: dict[tuple[str, str], str | None] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    empty: tuple[tuple[str, ...], str] | None = None


@dataclass(frozen=True)
class Row:
    """A call with one argument, or several, that may not fit."""

    callee: Callee
    argument: str
    kind: Kind
    expected: str

    def __str__(self) -> str:
        return f"{self.callee.name}({self.argument}={self.kind.name})"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the call."""
        clean = self.callee.clean()
        return clean | {name: self.kind.make(clean[name]) for name in self.argument.split(", ")}


def rows(callee: Callee) -> Iterator[Row]:
    """Yield the rows of a function."""
    kinds = {(argument, kind.name): kind for argument, of in callee.arguments.items() for kind in of}
    assert set(callee.but) <= set(kinds), f"{callee.name} has exceptions to no row: {set(callee.but) - set(kinds)}"
    for (argument, name), kind in kinds.items():
        expected = callee.but.get((argument, name), kind.expected)
        if expected is not None:
            yield Row(callee, argument, kind, expected)
    if callee.empty is not None:
        arguments, expected = callee.empty
        yield Row(callee, ", ".join(arguments), Kind("empty", lambda value: value[:0], expected), expected)


def numbers_of(result: Any) -> list[Any]:
    """Return the tensors, numbers and texts of a result, in order."""
    if isinstance(result, np.ndarray):
        return [torch.from_numpy(result).double()]
    if isinstance(result, torch.Tensor):
        return [result.detach().double()]
    if is_dataclass(result) and not isinstance(result, type):
        return [number for f in fields(result) for number in numbers_of(getattr(result, f.name))]
    if isinstance(result, dict):
        return [number for key in sorted(result) for number in (key, *numbers_of(result[key]))]
    if isinstance(result, (list, tuple)):
        return [number for part in result for number in numbers_of(part)]
    return [result]
