"""The weights of a network from a checkpoint of any training code: the one reader of all commands and functions.

A file fits if some state in it has a value for every weight and buffer of the network, and nothing else that computes:
a layer that the network has no place for is an error, since the network would be another one than was trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.modules import copied, unwrapped
from ntklens.networks.weights_file import (
    STATE_SUFFIXES,
    contents,
    few,
    is_weights_file,
    objects_of,
    read_weights,
    stem_of,
)

__all__ = ["STATE_SUFFIXES", "epoch_of", "fill", "is_saved_by_lightning", "is_weights_file", "load_state"]

_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Components of names that torch adds where a module is compiled, sharded, or computed again in the backward pass."""
_DEPTH = 4
"""Containers within containers of a file that are searched for a state."""
_COMPUTES_NOTHING = re.compile(r"optim\w*|sched\w*|loss\w*|criterion|criteria|metrics?|callbacks?|loops")
"""Words in the names of parts of a training that are not the network, whatever tensors they have."""
_COUNTS = re.compile(
    r"train|val|valid|validation|test|acc|accuracy|auroc|auc|f1|precision|recall|confmat|confusion|mae|mse|iou|dice|"
    r"generator|rng|averaged|updates|decay|epochs?|steps?"
)
"""Words in the names of figures and counters beside a network: scalars, vectors and whole numbers."""
_CLASS_WEIGHTS = re.compile(r"(?:class_|pos_|loss_|ce_)?weights?")
"""Names of the vector that weights the classes in a loss."""
_LAYER = re.compile(r"(?:^|[._])(?:weight|bias|running_mean)$")
"""Names of tensors that layers have."""


def load_state(module: nn.Module, path: str | Path) -> nn.Module:
    """Return a copy of a module with the weights of a checkpoint, in eval mode.

    Files of safetensors, of `torch.save` and of Lightning are read, and weights in several files by their index; nothing
    in a file runs. The state may be an entry of the file, such as `state_dict` or `net`, and its names may have a prefix,
    such as `model.` or `module.`.

    Args:
        module: a network of the checkpoint's architecture.
        path: the file.

    Raises:
        InputError: the file does not exist or cannot be read, its weights do not fit, or several of its states do.
    """
    loaded = copied(module)
    fill(loaded, path)
    return loaded.eval()


def fill(module: nn.Module, path: str | Path) -> None:
    """Load the weights of a checkpoint into a module, in place; `load_state` says of which files.

    Raises:
        InputError: as `load_state`.
    """
    path = Path(path)
    module = unwrapped(module)
    network = _expected(module)
    content = read_weights(path)
    fits = [fit for place, state in _states(content) for fit in _fits(place, state, network)]
    complete = _different([fit for fit in fits if not fit.missing and not fit.mismatched])
    if len(complete) > 1:
        raise InputError(
            f"{path} holds several weights that fit the network, under {few([fit.where for fit in complete], 6)}; "
            "save the ones you mean in a file of their own."
        )
    if not complete:
        raise InputError(_misfit(path, network, fits, content))
    fit = complete[0]
    beside = fit.beside + [name for place, state in _states(content) for name in _layers_beside(place, state, fit)]
    if beside:
        raise InputError(
            f"{path} does not fit the network: it also has {few(beside)} ({_tensors(beside)}), for which the network has "
            f"no place. {_ADVICE}"
        )
    _check_shared(path, network, fit)
    try:
        module.load_state_dict({network.full[name]: tensor for name, tensor in fit.tensors.items()})
    except Exception as error:  # a module may have its own way of loading, which raises anything
        raise InputError(f"{path} does not fit the network: {first_mismatch(error)}") from error


_ADVICE = "Give the weights of exactly this network, saved as module.state_dict()."


@dataclass(frozen=True)
class _Network:
    """The weights and buffers that a file must have.

    Attributes:
        tensors: the network's own, by plain name; shared weights are one object under several names.
        full: name in the module's state, by plain name.
    """

    tensors: dict[str, Tensor]
    full: dict[str, str]


def _expected(module: nn.Module) -> _Network:
    """Return the names without what compilation adds to them."""
    state = {name: v for name, v in module.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    plain = {_WRAPPERS.sub("", name): name for name in state}
    return _Network({name: state[full] for name, full in plain.items()}, plain)


def _states(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every dictionary of tensors by names in a file's contents, with its place; not those of the training."""
    if isinstance(content, list | tuple):
        content = {str(number): value for number, value in enumerate(content)}
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    # The names as they would be without the wrappers of torch.
    state = {_WRAPPERS.sub("", k): v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if state:
        yield place, state
    for key, value in content.items():
        if isinstance(value, Mapping | list | tuple) and not _words(str(key), _COMPUTES_NOTHING):
            yield from _states(value, f"{place}.{key}" if place else str(key), depth + 1)


@dataclass(frozen=True)
class _Fit:
    """How one state of a file, or the part of it with one prefix, fits the network.

    Attributes:
        place: the entry of the file.
        prefix: what stands before the network's names.
        tensors: the tensors by the network's names.
        missing: names of the network without a tensor.
        mismatched: what differs between a tensor and that of the network, in words.
        beside: names of tensors in the state that are no part of the network, nor of what a training needs beside it.
    """

    place: str
    prefix: str
    tensors: dict[str, Tensor]
    missing: list[str]
    mismatched: list[str]
    beside: list[str]

    @property
    def where(self) -> str:
        """The place and the prefix in words."""
        names = [f"`{name}`" for name in (self.place, self.prefix) if name]
        return " with the prefix ".join(names) if len(names) == 2 else (names or ["the names of the file itself"])[0]


def _fits(place: str, state: dict[str, Tensor], network: _Network) -> Iterator[_Fit]:
    """Yield a fit for every prefix under which the state has a name of the network."""
    prefixes: dict[str, None] = {}
    for name in state:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in network.tensors:
                prefixes["".join(f"{part}." for part in parts[:cut])] = None
    for prefix in prefixes:
        found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        tensors = {k: v for k, v in found.items() if k in network.tensors}
        # Shared weights that the file holds once.
        owners = {id(network.tensors[k]): v for k, v in tensors.items()}
        tensors |= {k: owners[id(v)] for k, v in network.tensors.items() if k not in tensors and id(v) in owners}
        missing = [k for k in network.tensors if k not in tensors and not _is_counter(k)]
        mismatched = [m for k, v in tensors.items() if (m := _mismatch(k, v, network.tensors[k]))]
        inside = [prefix + k for k in found if k not in tensors and not _is_training(k, found[k])]
        outside = [k for k in state if not k.startswith(prefix) and not _is_training(k, state[k])]
        yield _Fit(place, prefix, tensors, missing, mismatched, inside + outside)


def _is_counter(name: str) -> bool:
    """Return whether a buffer is BatchNorm's count of batches, which old files lack and no output depends on."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _mismatch(name: str, tensor: Tensor, own: Tensor) -> str | None:
    """Return how a tensor of the file differs from the network's in shape or kind of number, or None."""
    if not torch.nn.parameter.is_lazy(own) and tensor.shape != own.shape:
        return f"`{name}` has shape {tuple(tensor.shape)} where the network has {tuple(own.shape)}"
    kinds = [(t.is_floating_point() or t.is_quantized, t.is_complex()) for t in (tensor, own)]
    if not _is_counter(name) and (kinds[0] != kinds[1] or tensor.is_quantized != own.is_quantized):
        return f"`{name}` has numbers of type {tensor.dtype} where the network has {own.dtype}"
    return None


def _words(name: str, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(word) for word in re.split(r"[_\W]+", name.lower()))


def _is_training(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor beside a network belongs to its training, such as a metric or the weights of a loss."""
    part = name.partition(".")[0]
    if part == "momentum" or _words(part, _COMPUTES_NOTHING):
        return True
    small = tensor.ndim < 2 or not tensor.is_floating_point()
    return small and (_words(part, _COUNTS) or _CLASS_WEIGHTS.fullmatch(name) is not None)


def _layers_beside(place: str, state: dict[str, Tensor], fit: _Fit) -> list[str]:
    """Return names of layers in another state of the file than the one that fits."""
    # Where all of its values are those of the fit, it is the same network again.
    names = [k for k, v in state.items() if _LAYER.search(k) and v.is_floating_point() and not _is_training(k, v)]
    if place == fit.place or all(any(_equal(state[k], v) for v in fit.tensors.values()) for k in names):
        return []
    return [f"{place}.{name}" if place else name for name in names]


def _different(fits: list[_Fit]) -> list[_Fit]:
    """Return the fits without those whose tensors are all equal to an earlier one's."""
    kept: list[_Fit] = []
    for fit in fits:
        if not any(all(_equal(v, fit.tensors.get(k)) for k, v in other.tensors.items()) for other in kept):
            kept.append(fit)
    return kept


def _equal(a: Tensor, b: Tensor | None) -> bool:
    return a is b or (b is not None and a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b)))


def _check_shared(path: Path, network: _Network, fit: _Fit) -> None:
    """Raise InputError where the network shares a weight of which the file has two values."""
    first: dict[int, str] = {}
    for name, own in network.tensors.items():
        other = first.setdefault(id(own), name)
        if name in fit.tensors and other in fit.tensors and not _equal(fit.tensors[name], fit.tensors[other]):
            raise InputError(
                f"{path} does not fit the network, in which {other} and {name} are one tensor: the file has different "
                f"values for them. {_ADVICE}"
            )


def _misfit(path: Path, network: _Network, fits: list[_Fit], content: Any) -> str:
    """Return the sentence for a file in which no state fits, about the one that comes nearest."""
    if not network.tensors:
        return f"{path} holds weights, and the network has none."
    holds = f"It holds {contents(content)}. {_ADVICE}"
    if not fits:
        names = list(network.tensors)
        return f"{path} does not fit the network: it lacks {few(names)} (all {_tensors(names)}). {holds}"
    best = min(fits, key=lambda fit: (len(fit.missing), len(fit.mismatched)))
    reasons = []
    if best.missing:
        reasons.append(f"it lacks {few(best.missing)} ({len(best.missing)} of {_tensors(list(network.tensors))})")
    if best.beside:
        reasons.append(f"it has {few(best.beside)} ({_tensors(best.beside)}), for which the network has no place")
    if best.mismatched:
        reasons.append(f"{best.mismatched[0]} ({len(best.mismatched)} such)")
    return f"{path} does not fit the network: {'; '.join(reasons)}. {holds}"


def _tensors(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) > 1)}"


def epoch_of(path: Path) -> float | None:
    """Return the epoch in a file's name: after the word epoch, as in `epoch=3-step=120.ckpt`, or the number that ends it.

    None where a number belongs to a word, a version or a fraction, or counts steps: `resnet18.pt`, `last-v1.ckpt`.
    """
    stem = stem_of(path)
    after_word = re.search(r"epoch[=_\-]?(\d+)", stem, re.IGNORECASE)
    if after_word:
        return float(after_word[1])
    at_end = re.search(r"(?:^|[=_\-]|ckpt|checkpoint)(\d+)$", stem, re.IGNORECASE)
    return float(at_end[1]) if at_end and "step" not in stem.lower() else None


def is_saved_by_lightning(path: Path) -> bool:
    """Return whether a checkpoint is one of Lightning that has the epoch in its name as Lightning writes it, `epoch=3`.

    A `.ckpt` that is still being written counts by its name, so that it does not change its epoch once it is whole.
    """
    if not re.search(r"epoch=\d", path.name):
        return False
    objects = objects_of(path)
    return path.suffix == ".ckpt" if objects is None else b"pytorch-lightning_version" in objects


def first_mismatch(error: Exception) -> str:
    """Return the first reason that torch gives for a state dict that does not fit, which stands below its first line."""
    return next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), first_line(error))
