"""A user's own network from a file: a factory in Python with its weights, a TorchScript or an exported program."""

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
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ntklens.errors import InputError

_PROGRAMS = {".pt2": "exported program", ".pt": "TorchScript", ".ts": "TorchScript", ".torchscript": "TorchScript"}


def load_network(where: str | Path, weights: str | Path | None = None) -> nn.Module:
    """A network in eval mode.

    Args:
        where: "file.py:factory", whose factory takes no arguments and gives a module; a `.pt2` file of
            `torch.export.save`; or a `.pt`, `.ts` or `.torchscript` file of `torch.jit.save`.
        weights: safetensors of the module's state, for a factory.

    Raises:
        InputError: what is not there or does not load, with what to give in its place.
    """
    text = str(where)
    path, _, factory = text.rpartition(":")
    if path.endswith(".py"):
        module = _made(Path(path), factory)
        return _filled(module, None if weights is None else Path(weights)).eval()
    kind = _PROGRAMS.get(Path(text).suffix)
    if kind is None:
        raise InputError(
            f'a network as file.py:factory, or a .pt2, .pt, .ts or .torchscript file, was expected; "{text}" came.'
        )
    if weights is not None:
        raise InputError(f"{text} holds its own weights; give --weights with a file.py:factory alone.")
    if not Path(text).exists():
        raise InputError(f"{text} does not exist.")
    if kind == "exported program":
        _refuse_pickles(Path(text))
    try:
        return _Exported(torch.export.load(text).module()) if kind == "exported program" else _scripted(text)
    except Exception as error:  # torch raises many kinds
        raise InputError(f"{text} does not load as {kind}: {_first_line(error)}") from error


class _Exported(nn.Module):
    """An exported program's module: it knows neither train nor eval, being what it was exported as."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        """Its outputs."""
        out: Tensor = self.program(x)
        return out

    def train(self, mode: bool = True) -> _Exported:
        """Set the flag of this wrapper alone: the program refuses it."""
        self.training = mode
        return self


def _refuse_pickles(path: Path) -> None:
    """Refuse an archive with anything but tensors in it: `torch.export.load` unpickles what it finds.

    Raises:
        InputError: the same, or no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                if name.endswith("_config.json") and b'"use_pickle": true' in content:
                    raise InputError(f"{path} holds pickled objects in place of tensors, and is not loaded.")
                if name.endswith(".pt"):
                    _tensors(content)
    except InputError:
        raise
    except Exception as error:  # no archive, or a file that holds more than tensors
        raise InputError(f"{path} is no exported program of tensors alone: {_first_line(error)}") from error


def _tensors(content: bytes) -> None:
    """Read a file of torch without running anything in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(io.BytesIO(content), weights_only=True)


def _scripted(path: str) -> nn.Module:
    network: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return network.eval()


def _made(path: Path, factory: str) -> nn.Module:
    if not path.exists():
        raise InputError(f"{path} does not exist; give a Python file and a function in it, as in model.py:build.")
    spec = importlib.util.spec_from_file_location(f"_ntklens_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    space: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = space  # where dataclasses look their module up
    with _beside(path):
        try:
            spec.loader.exec_module(space)
        except Exception as error:
            raise InputError(f"{path} cannot be run: {_first_line(error)}") from error
        make = getattr(space, factory, None)
        if not callable(make):
            raise InputError(
                f"{path} has no function {factory}; give one that takes no arguments and returns a module."
            )
        try:
            module = make()
        except Exception as error:
            raise InputError(f"{factory} of {path} failed: {_first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{factory} of {path} must return a torch.nn.Module; {type(module).__name__} came.")
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """The file's folder among those that modules are looked for in, as when the file is run by itself."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _filled(module: nn.Module, weights: Path | None) -> nn.Module:
    if weights is None:
        return module
    try:
        module.load_state_dict(load_file(weights))
    except FileNotFoundError:
        raise InputError(f"{weights} does not exist; give the safetensors file of the module's state.") from None
    except SafetensorError as error:
        raise InputError(f"{weights} is not a safetensors file; write it with safetensors.torch.save_file.") from error
    except RuntimeError as error:
        raise InputError(f"{weights} does not fit the module: {_first_line(error)}") from error
    return module


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}" if lines else type(error).__name__
