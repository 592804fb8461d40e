"""Copies of users' modules: of what `copy.deepcopy` takes, and of what it does not."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.arguments import check_module
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.modules.outputs import single_output
from ntklens.modules.stored import constants

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_FUNCTIONS_DEEP = 3
"""Functions within functions that are looked into for what they refer to."""


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the network inside `torch.compile`, DataParallel and DistributedDataParallel; any other module as it is."""
    while True:
        inner = module.module if isinstance(module, _PARALLEL) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of a module, which shares no tensor with it.

    Wrappers of `torch.compile` and of the parallel modules are taken off, at any depth, so parameters have the names that
    they have in the plain network. A tensor with a graph, such as the weight that weight_norm computes or an activation
    that the module has stored, is copied without its graph; `check_computed_in_forward` tells whether that matters.
    Functions that refer to the module's own parts, such as hooks, refer to the copy's parts in the copy. Attributes that
    cannot be copied, such as locks and open files, are shared.

    Raises:
        InputError: a parameter has no shape yet, a buffer has a graph, a part is compiled by TorchScript, or the module
            cannot be copied.
    """
    check_materialised(module)
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            where = f"`{name}`" if name else "the network"
            raise InputError(
                f"expected a network of Python modules, whose parameters can be varied; got {where} as TorchScript. Give "
                "the module that it was made from, with its weights. Attacks take TorchScript as it is."
            )
    return _copy(module, dict(constants(module)))


def copied_function(module: nn.Module) -> nn.Module:
    """Return a copy of a module that can be called like a function: it gives one tensor and leaves its inputs as they are.

    Raises:
        InputError: as of `copied`; when it is called, the forward returns no single tensor.
    """
    twin = copied(module)
    if not _is_plain_layer(twin) and _own_inputs not in twin._forward_pre_hooks.values():
        twin.register_forward_pre_hook(_own_inputs)
        twin.register_forward_hook(_one_tensor)
    return twin


def sharing_copy(module: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Return a copy of the modules on the same parameters, so that several threads can run it and hook into it at once.

    Buffers are copied, since a forward may write into them.

    Args:
        module: the module.
        values: tensors in the place of some parameters, by their names.
    """
    values = {} if values is None else values
    memo: dict[int, Any] = {id(p): values.get(name, p) for name, p in module.named_parameters()}
    return _copy(module, memo | {id(b): b.detach().clone() for b in module.buffers()})


def check_materialised(module: nn.Module) -> None:
    """Raise InputError for what is no module, or has lazy layers that have not seen an input yet."""
    check_module(module)
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise InputError(
                f"expected a network whose parameters have shapes; got lazy layers, of which `{name}` has none yet. Run "
                "the network once on a batch of inputs first."
            )


def _own_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the forward copies, since it may write into its inputs."""
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)


def _one_tensor(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Tensor:
    return single_output(outputs)


def _is_plain_layer(module: nn.Module) -> bool:
    """Return whether this is a single layer of torch, which returns a tensor and writes into nothing."""
    cls = type(module).__bases__[0] if hasattr(module, "parametrizations") else type(module)
    return (
        cls.__module__.startswith("torch.nn.modules")
        and not isinstance(module, (nn.Sequential, nn.RNNBase, nn.MultiheadAttention))
        and not getattr(module, "inplace", False)
    )


def _copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy a module, with the copies of some of its tensors given by the ids of the originals."""
    with torch.inference_mode(False):
        try:
            return _deepcopy(module, dict(memo))
        except Exception:  # the reason is in an attribute of any type: what deepcopy does not take is looked for
            try:
                return _deepcopy(module, memo | _not_copyable(module, memo))
            except Exception as error:
                raise InputError(
                    f"expected a module that can be copied; got {type(unwrapped(module)).__name__}, of which "
                    f"copy.deepcopy says: {first_line(error)}. Leave what cannot be copied out of the module's attributes."
                ) from error


def _deepcopy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    parts = list(module.modules())
    # The deepest wrapper is copied first. A wrapper's copy is that of the network inside, wherever it is referred to.
    for part in reversed(parts):
        if (inner := unwrapped(part)) is not part:
            memo[id(part)] = copy.deepcopy(inner, memo)
    twin: nn.Module = copy.deepcopy(module, memo)
    for part in parts:
        if isinstance(memo.get(id(part)), nn.Module) and not isinstance(part, torch.jit.ScriptModule):
            _refer_to_copies(memo[id(part)], memo)
    return twin


def _refer_to_copies(twin: nn.Module, memo: Mapping[int, Any]) -> None:
    """Replace the functions among a copy's attributes and hooks, which deepcopy shares with the original."""
    for holder in (vars(twin), *(value for value in vars(twin).values() if isinstance(value, dict))):
        for key, value in list(holder.items()):
            if isinstance(value, (types.MethodType, types.FunctionType, functools.partial)):
                holder[key] = _rebound(value, memo, _FUNCTIONS_DEEP)


def _rebound(value: Any, memo: Mapping[int, Any], depth: int) -> Any:
    """Return what stands for a value in a copy: the copy of it, or a function whose parts are rebound; else itself."""
    if id(value) in memo:
        return memo[id(value)]
    value = getattr(value, "_torchdynamo_orig_callable", value)  # a compiled function's plain form
    if isinstance(value, types.MethodType):
        return types.MethodType(value.__func__, memo.get(id(value.__self__), value.__self__))
    if isinstance(value, functools.partial) and depth:
        func, *args = (_rebound(part, memo, depth - 1) for part in (value.func, *value.args))
        return functools.partial(func, *args, **{k: _rebound(v, memo, depth - 1) for k, v in value.keywords.items()})
    if isinstance(value, types.FunctionType) and depth:
        return _with_closure(value, memo, depth - 1)
    return value


def _with_closure(function: types.FunctionType, memo: Mapping[int, Any], depth: int) -> types.FunctionType:
    """Return a function whose closure and defaults hold copies where the given one's hold what was copied."""
    cells = function.__closure__ or ()
    try:
        contents = [cell.cell_contents for cell in cells]
    except ValueError:  # a variable without a value yet
        return function
    held = [*contents, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    copies = [_rebound(value, memo, depth) for value in held]
    if all(a is b for a, b in zip(held, copies, strict=True)):
        return function
    closure, rest = copies[: len(cells)], copies[len(cells) :]
    defaults = rest[: len(function.__defaults__ or ())]
    twin = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        tuple(defaults) or None,
        tuple(map(types.CellType, closure)) or None,
    )
    twin.__kwdefaults__ = dict(zip(function.__kwdefaults__ or {}, rest[len(defaults) :], strict=True)) or None
    return twin


def _not_copyable(module: nn.Module, memo: Mapping[int, Any]) -> dict[int, Any]:
    """Return the attributes of a module and its parts that cannot be copied, by their ids."""
    shared: dict[int, Any] = {}
    for part in module.modules():
        for name, value in vars(part).items():
            if name in ("_parameters", "_buffers", "_modules") or isinstance(value, (nn.Module, Tensor)):
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:  # an attribute of any type
                shared[id(value)] = value
    return shared
