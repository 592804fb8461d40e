"""A user's own network from a file: a Python factory with its weights, a TorchScript module or an exported program."""

from __future__ import annotations

import importlib.util
import io
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.arguments import as_path
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.networks.state import fill
from ntklens.networks.weights_file import is_saved_by_torch, is_weights_file

_FORMATS = {".pt2": "exported program", ".pt": "TorchScript", ".ts": "TorchScript", ".torchscript": "TorchScript"}
"""What torch calls the format of files with a network in them, by suffix."""


def is_program(where: str | Path) -> bool:
    """Return whether a file name is that of a saved program: an exported one or TorchScript."""
    return Path(where).suffix in _FORMATS


def load_network(where: str | Path, weights: str | Path | None = None) -> nn.Module:
    """Load a network, in eval mode.

    Args:
        where: "file.py:factory", whose factory takes no arguments and returns a module; a `.pt2` file from
            `torch.export.save`; or a `.pt`, `.ts` or `.torchscript` file from `torch.jit.save`.
        weights: file of the module's state, for a factory: any that `load_state` reads.

    Raises:
        InputError: a file that is missing, does not load or does not fit, with what to give in its place.
    """
    text = str(as_path(where, "where"))
    if weights is not None:
        weights = as_path(weights, "weights")
    path, _, factory = text.rpartition(":")
    if path.endswith(".py"):
        module = _run_factory(Path(path), factory)
        if weights is not None:
            fill(module, weights)
        return module.eval()
    file_format = _FORMATS.get(Path(text).suffix)
    if file_format is None and is_weights_file(Path(text)):
        raise InputError(
            f"{text} holds weights alone. Give the network as file.py:factory, with this file as its weights."
        )
    if file_format is None:
        raise InputError(
            f'expected a network as file.py:factory, or a .pt2, .pt, .ts or .torchscript file; got "{text}".'
        )
    if weights is not None:
        raise InputError(f"{text} holds its own weights; give --weights with a file.py:factory alone.")
    if not Path(text).exists():
        raise InputError(f"{text} does not exist.")
    is_exported = file_format == "exported program"
    if is_exported:
        _refuse_pickles(Path(text))
    try:
        return _Exported(torch.export.load(text).module()) if is_exported else _load_script(text)
    except Exception as error:  # torch raises errors of many types
        if not is_exported and is_saved_by_torch(Path(text)):
            raise InputError(
                f"{text} is a file of torch.save, not {file_format}. Give the network as file.py:factory, with this file "
                "as its weights (--weights)."
            ) from error
        raise InputError(f"{text} does not load as {file_format}: {_reason(error)}.") from error


class _Exported(nn.Module):
    """An exported program as a module whose mode can be set, although it stays in the mode it was exported in."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        """Return the program's outputs."""
        outputs: Tensor = self.program(x)
        return outputs

    def train(self, mode: bool = True) -> _Exported:
        """Set the flag of this wrapper alone, since `train` and `eval` of the program raise an error."""
        self.training = mode
        return self


def _refuse_pickles(path: Path) -> None:
    """Refuse an archive with anything but tensors in it, since `torch.export.load` unpickles what it finds there.

    Raises:
        InputError: the archive holds pickled objects, or is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                # Two things in the archive can be pickles: weights, if their config says so, and legacy files of torch.
                if name.endswith("_config.json") and b'"use_pickle": true' in content:
                    raise InputError(f"{path} holds pickled objects in place of tensors, and is not loaded.")
                if name.endswith(".pt"):
                    _check_tensors_only(content)
    except InputError:
        raise
    except Exception as error:  # no archive, or a file that holds more than tensors
        raise InputError(f"expected an exported program of tensors alone; got {path}: {_reason(error)}.") from error


def _check_tensors_only(content: bytes) -> None:
    """Read a file of torch without running anything in it, which raises an error where it holds more than tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(io.BytesIO(content), weights_only=True)


def _load_script(path: str) -> nn.Module:
    network: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return network.eval()


def _run_factory(path: Path, factory: str) -> nn.Module:
    """Run a Python file and call a function of it that returns a module."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give a Python file and a function in it, as in model.py:build.")
    spec = importlib.util.spec_from_file_location(f"_ntklens_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    namespace: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = namespace  # where dataclasses look for the module that defines them
    with _importable_neighbours(path):
        try:
            spec.loader.exec_module(namespace)
        except Exception as error:
            raise InputError(f"{path} cannot be run: {_reason(error)}.") from error
        function = getattr(namespace, factory, None)
        if not callable(function):
            raise InputError(
                f"{path} has no function {factory}; give one that takes no arguments and returns a module."
            )
        try:
            module = function()
        except Exception as error:
            raise InputError(f"{factory} of {path} failed: {_reason(error)}.") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"expected a torch.nn.Module from {factory} of {path}; got {type(module).__name__}.")
    return module


@contextmanager
def _importable_neighbours(path: Path) -> Iterator[None]:
    """Let a file import the modules in its folder, as it can when it is run as a script."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _reason(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error).rstrip('.')}"
