"""Weights of a network as any training may have left them: safetensors, or torch's own files without code in them."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ntklens.errors import InputError

STATE_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""Files that `load_state` reads."""
_INSIDE = ("state_dict", "model_state_dict", "model", "network")
_PREFIXES = ("network.", "model.", "module.", "net.", "_orig_mod.")


def load_state(module: nn.Module, path: str | Path) -> nn.Module:
    """A copy of a module with the weights of a checkpoint, in eval mode.

    A torch file is read with `weights_only=True`, so that nothing in it runs. The state may stand under a name of its own,
    as `state_dict` in Lightning's checkpoints, and its keys below a prefix such as `model.` or `module.`.

    Args:
        module: of the architecture.
        path: of a file in `STATE_SUFFIXES`.

    Raises:
        InputError: no such file, not one that is read, or weights that do not fit.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a checkpoint with the state of the network.")
    try:
        held: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file.") from error
    except Exception as error:  # torch raises many kinds
        raise InputError(
            f"{path} is not read: it is damaged or holds more than tensors; save module.state_dict()."
        ) from error
    for name in _INSIDE:
        if isinstance(held, dict) and isinstance(held.get(name), dict):
            held = held[name]
            break
    if not isinstance(held, dict):
        raise InputError(
            f"{path} holds a {type(held).__name__} where a state dict was expected; save module.state_dict()."
        )
    filled = copy.deepcopy(module)
    wanted = filled.state_dict(keep_vars=True)
    named = {str(k): v for k, v in held.items() if isinstance(v, Tensor)}
    while named:
        mine = _with_ties(named, wanted)
        if wanted.keys() <= mine.keys():
            try:
                filled.load_state_dict({k: mine[k] for k in wanted})
            except RuntimeError as error:
                raise InputError(f"{path} is of a network of other sizes: {_first(error)}") from error
            return filled.eval()
        prefix = next((p for p in _PREFIXES if any(k.startswith(p) for k in named)), None)
        if prefix is None:
            break
        named = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
    missing = sorted(wanted.keys() - {str(k) for k in held})
    raise InputError(f"{path} does not fit the network: it lacks {', '.join(missing[:3])}.")


def _with_ties(named: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of weights that the network shares are made up for where one of them is there."""
    there = {id(v): named[k] for k, v in wanted.items() if k in named}
    return named | {k: there[id(v)] for k, v in wanted.items() if k not in named and id(v) in there}


def epoch_of(path: Path) -> float | None:
    """The epoch in a file's name: after the word epoch, as in `epoch=3-step=120.ckpt`, or the number that ends it.

    A number that belongs to a word, a version or a fraction, or counts steps, is none: `resnet18.pt`, `last-v1.ckpt`.
    """
    named = re.search(r"epoch[=_\-]?(\d+)", path.stem, re.IGNORECASE)
    if named:
        return float(named[1])
    last = re.search(r"(?:^|[=_\-]|ckpt|checkpoint)(\d+)$", path.stem, re.IGNORECASE)
    return float(last[1]) if last and "step" not in path.stem.lower() else None


def _first(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
