"""The weights of a network from a checkpoint of any training code: safetensors, or torch's files without code in them."""

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
from ntklens.files import first_line

STATE_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""Suffixes of the files that `load_state` reads."""
_ENTRIES = ("state_dict", "model_state_dict", "model", "network")
"""Entries of a checkpoint under which training code stores the state, beside its optimiser and its epoch."""
_PREFIXES = ("network.", "model.", "module.", "net.", "_orig_mod.")
"""Prefixes of a state's keys where the network was a part of another module, in parallel, or compiled."""


def load_state(module: nn.Module, path: str | Path) -> nn.Module:
    """Return a copy of a module with the weights of a checkpoint, in eval mode.

    A torch file is read with `weights_only=True`, so that nothing in it runs. The state may be an entry of the file, such
    as `state_dict` in Lightning's checkpoints, and its keys may have a prefix such as `model.` or `module.`.

    Args:
        module: a network of the checkpoint's architecture.
        path: a file with one of `STATE_SUFFIXES`.

    Raises:
        InputError: the file does not exist or cannot be read, or its weights do not fit.
    """
    path = Path(path)
    state = _read_state(path)
    loaded = copy.deepcopy(module)
    expected = loaded.state_dict(keep_vars=True)
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    # Prefixes can be nested, as in `model._orig_mod.0.weight`. So the keys are tried as they are, and then again without
    # the first prefix that any of them has, until they fit or none has a prefix. Keys without that prefix belong to other
    # parts of the training code, such as its metrics, and are left out.
    while tensors:
        complete = _with_shared_weights(tensors, expected)
        if expected.keys() <= complete.keys():
            try:
                loaded.load_state_dict({k: complete[k] for k in expected})
            except RuntimeError as error:
                raise InputError(f"{path} is of a network of other sizes: {first_mismatch(error)}") from error
            return loaded.eval()
        prefix = next((p for p in _PREFIXES if any(k.startswith(p) for k in tensors)), None)
        if prefix is None:
            break
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    missing = sorted(expected.keys() - {str(k) for k in state})
    raise InputError(f"{path} does not fit the network: it lacks {', '.join(missing[:3])}.")


def _read_state(path: Path) -> dict[Any, Any]:
    """Read the state dict in a file, or in the entry of it that holds the network's.

    Raises:
        InputError: the file does not exist or cannot be read, or holds no state dict.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give a checkpoint with the state of the network.")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file.") from error
    except Exception as error:  # torch raises errors of many types
        raise InputError(
            f"{path} cannot be read: it is damaged or holds more than tensors. Save module.state_dict()."
        ) from error
    if isinstance(content, dict):
        content = next((content[name] for name in _ENTRIES if isinstance(content.get(name), dict)), content)
    if not isinstance(content, dict):
        raise InputError(
            f"expected a state dict in {path}; got an object of type {type(content).__name__}. Save module.state_dict()."
        )
    return content


def _with_shared_weights(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the names that are missing because a file holds shared weights once.

    Args:
        tensors: the tensors of the file, by name.
        expected: the tensors of the network, by name; shared weights are one object under several names.
    """
    present = {id(v): tensors[k] for k, v in expected.items() if k in tensors}
    return tensors | {k: present[id(v)] for k, v in expected.items() if k not in tensors and id(v) in present}


def epoch_of(path: Path) -> float | None:
    """Return the epoch in a file's name: after the word epoch, as in `epoch=3-step=120.ckpt`, or the number that ends it.

    None where a number belongs to a word, a version or a fraction, or counts steps: `resnet18.pt`, `last-v1.ckpt`.
    """
    after_word = re.search(r"epoch[=_\-]?(\d+)", path.stem, re.IGNORECASE)
    if after_word:
        return float(after_word[1])
    at_end = re.search(r"(?:^|[=_\-]|ckpt|checkpoint)(\d+)$", path.stem, re.IGNORECASE)
    return float(at_end[1]) if at_end and "step" not in path.stem.lower() else None


def first_mismatch(error: RuntimeError) -> str:
    """Return the first reason that torch gives for a state dict that does not fit, which stands below its first line."""
    return next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), first_line(error))
