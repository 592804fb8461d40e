"""Parameters that meet the batch by broadcasting alone: position embeddings, class tokens, layer scales, temperatures.

Where a parameter p, or a view of it, is added to a batch or multiplies one, each input may be given a copy of p of its own:

    h + p  =  h + (p + 0_i)  for the i-th input, with a zero 0_i in the shape of p for each input.

The numbers stay the same, and the gradient of Σ_i f_o(x_i) in these zeros is ∂f_o(x_i)/∂p for all inputs at once. It comes
with the cotangents of the layers, out of the same backward pass, so that such a parameter needs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_OF_TWO = frozenset(
    {
        *(torch.add, torch.sub, torch.subtract, torch.mul, torch.multiply, torch.div, torch.divide, torch.true_divide),
        *(Tensor.add, Tensor.sub, Tensor.subtract, Tensor.mul, Tensor.multiply, Tensor.div, Tensor.divide),
        *(Tensor.true_divide, Tensor.__rsub__, Tensor.__rtruediv__),
    }
)
"""Operations of two tensors, entry by entry, that broadcast either of them."""

_IN_PLACE = frozenset({Tensor.add_, Tensor.sub_, Tensor.mul_, Tensor.div_})
"""Such operations that write into the first."""

_REPEATS = frozenset({Tensor.expand, Tensor.expand_as, torch.broadcast_to, Tensor.broadcast_to, Tensor.repeat})
"""Operations that may give each input a copy of a parameter."""

_VIEWS = frozenset(
    {
        *(Tensor.unsqueeze, torch.unsqueeze, Tensor.squeeze, torch.squeeze, Tensor.view, Tensor.reshape, torch.reshape),
        *(Tensor.flatten, torch.flatten, Tensor.unflatten, torch.unflatten, Tensor.transpose, torch.transpose),
        *(Tensor.permute, torch.permute, Tensor.t, torch.t, Tensor.narrow, torch.narrow, Tensor.select, torch.select),
    }
)
"""Operations whose result holds entries of their first argument, wherever those are."""


class Part(NamedTuple):
    """A parameter or a view of it.

    Attributes:
        tensor: the view.
        name: the parameter's name.
        entries: which entry of the flat parameter each entry of the view is; None for the parameter itself.
    """

    tensor: Tensor
    name: str
    entries: Tensor | None


class Broadcast(NamedTuple):
    """One use of a parameter in which each input has a copy of it.

    Attributes:
        name: the parameter's name.
        entries: which entry of the flat parameter each entry of a copy is; None where a copy is the parameter in its order.
        zero: what is added to the copies, (n, *).
        copies: the copies, (n, *).
    """

    name: str
    entries: Tensor | None
    zero: Tensor
    copies: Tensor


class Broadcasts(TorchFunctionMode):
    """While it is entered, give each input its own copy of the parameters that a network broadcasts, and note the uses.

    Args:
        parameters: the parameters that are looked for, by their names.
        n: number of inputs.
    """

    def __init__(self, parameters: Mapping[str, Tensor], n: int) -> None:
        super().__init__()
        self.uses: list[Broadcast] = []
        self.is_forward = True  # set to False for backward passes, in which checkpoints run parts of the network again
        self._n = n
        # by the id of the tensor; views are kept alive here, so that no other tensor takes their id
        self._parts = {id(p): Part(p, name, None) for name, p in parameters.items() if p.is_floating_point()}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch, on copies of the parameters where it broadcasts them over the inputs."""
        kwargs = kwargs or {}
        if func in _OF_TWO or func in _IN_PLACE:
            args = self._with_copies(args, in_place=func in _IN_PLACE)
        result = func(*args, **kwargs)
        part = self._part(args[0]) if args else None
        if part is None or not isinstance(result, Tensor):
            return result
        if func in _REPEATS or func in _VIEWS or (func is Tensor.__getitem__ and _is_basic(args[1])):
            index = func(_index(part), *args[1:], **kwargs)
            is_repeated = result.ndim > part.tensor.ndim or (result.ndim == part.tensor.ndim and len(part.tensor) == 1)
            if func in _REPEATS and result.ndim and len(result) == self._n and is_repeated:
                return self._copies(result, part.name, index[0].flatten(), result.shape[1:])
            self._parts[id(result)] = Part(result, part.name, index)
        return result

    def jacobian(self, name: str, size: int, cotangents: Sequence[Tensor]) -> Tensor:
        """Return ∂f_o(x_i)/∂p of one parameter, (O, n, size), from the cotangents (O, n, *) of all zeros in order."""
        total: Tensor | None = None
        for use, cotangent in zip(self.uses, cotangents, strict=True):
            if use.name == name:
                flat = cotangent.flatten(2) if cotangent.ndim > 2 else cotangent[:, :, None]
                if use.entries is not None:
                    # The sum over the places of each entry; entries that no copy has stay zero.
                    flat = flat.new_zeros(*flat.shape[:2], size).index_add(2, use.entries, flat)
                total = flat if total is None else total + flat
        assert total is not None
        return total

    def _part(self, argument: Any) -> Part | None:
        return self._parts.get(id(argument)) if isinstance(argument, Tensor) else None

    def _with_copies(self, args: Sequence[Any], *, in_place: bool) -> Sequence[Any]:
        """Return the arguments of an operation of two, with copies for a parameter that meets a batch."""
        if len(args) < 2:
            return args
        parts = [self._part(a) for a in args[:2]]
        place = 0 if parts[0] is not None else 1
        part, batch = parts[place], args[1 - place]
        if part is None or parts[1 - place] is not None or not isinstance(batch, Tensor) or (in_place and place == 0):
            return args
        p = part.tensor
        if batch.ndim == 0 or len(batch) != self._n or p.ndim > batch.ndim or (p.ndim == batch.ndim and len(p) != 1):
            return args
        # The parameter's axes are the last ones of the batch; one copy has axes of length 1 for those it lacks.
        row = (1,) * (batch.ndim - 1 - p.ndim) + tuple(p.shape[p.ndim == batch.ndim :])
        copies = self._copies(p, part.name, None if part.entries is None else part.entries.flatten(), row)
        return [copies if i == place else a for i, a in enumerate(args)]

    def _copies(self, p: Tensor, name: str, index: Tensor | None, row: Sequence[int]) -> Tensor:
        """Return p + 0, (n, *row), and note the use."""
        zero = p.new_zeros(self._n, *row).requires_grad_(torch.is_grad_enabled())
        copies = p + zero
        if self.is_forward and zero.requires_grad:
            self.uses.append(Broadcast(name, index, zero, copies))
        return copies


def _index(part: Part) -> Tensor:
    """Return the places of a view's entries in the flat parameter, in the shape of the view."""
    p = part.tensor
    return torch.arange(p.numel(), device=p.device).view(p.shape) if part.entries is None else part.entries


def _is_basic(key: Any) -> bool:
    """Return whether an index consists of numbers, slices, None and dots, so that it does not depend on data."""
    keys = key if isinstance(key, tuple) else (key,)
    return all(k is None or k is Ellipsis or isinstance(k, slice | int) for k in keys)
