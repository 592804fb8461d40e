"""What a file of weights holds, in any of the usual formats, read without running anything in it."""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ntklens.errors import InputError

STATE_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".th", ".tar")
"""Suffixes of files of weights; `.pth.tar` is among them. What a file is, its contents say."""
_INDEX = ".index.json"
"""End of the name of a file that lists the parts of weights which are divided among several files."""
_LONGEST_HEADER = 100_000_000
"""Largest header in bytes that safetensors allows."""
_PARTS_OF_A_LEGACY_FILE = 4
"""Records before the tensors in a file of torch < 1.6: its number, its version, the machine, the object."""


class Inert:
    """What stands in a file's contents for an object of numpy: nothing of it is kept.

    Attributes:
        what: full name of the class or function that the file refers to.
    """

    what = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_weights(path: Path) -> Any:
    """Return what a file holds, on the CPU: a safetensors file, the index of several files, or a file of `torch.save`.

    A file of torch is read with `weights_only=True`. In place of objects that are not tensors, numbers or containers it
    has empty ones, and nothing in it runs.

    Raises:
        InputError: the file does not exist, is damaged, or is of another kind.
    """
    if path.is_dir():
        path = _index_in(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a file with the weights of the network.")
    if path.name.endswith(_INDEX):
        return _read_parts(path)
    if _is_safetensors(path):
        return _read_safetensors(path)
    if path.suffix == ".safetensors" and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a safetensors file, or not a complete one.")
    _refuse_programs(path)
    return _read_torch(path)


def is_weights_file(path: Path) -> bool:
    """Return whether a file's name is that of a file of weights."""
    return path.name.lower().endswith(STATE_SUFFIXES)


def stem_of(path: Path) -> str:
    """Return a file's name without any of the suffixes, `checkpoint_3` of `checkpoint_3.pth.tar`."""
    name = path.name
    while name.lower().endswith(STATE_SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors does: the length of a header, and a header in JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file, or not a complete one.") from error
    # `save_model` writes weights that are shared once, and the other names with the one that it has kept.
    shared = {name: tensors[kept] for name, kept in metadata.items() if name not in tensors and kept in tensors}
    return tensors | shared


def _index_in(folder: Path) -> Path:
    """Return the one file in a folder that lists the parts of weights, or the one safetensors file in it."""
    for pattern in (f"*{_INDEX}", "*.safetensors"):
        files = sorted(folder.glob(pattern))
        if len(files) == 1:
            return files[0]
    raise InputError(f"{folder} is a folder; give the file of weights in it, or the index of its parts ({_INDEX}).")


def _read_parts(path: Path) -> dict[Any, Any]:
    """Return the tensors of all files that an index names."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({Path(str(part)).name for part in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not an index of files of weights: it has no `weight_map`.") from error
    tensors: dict[Any, Any] = {}
    for name in names:
        if not (path.parent / name).exists():
            raise InputError(f"{path} names {name}, which does not exist beside it; the weights are incomplete.")
        part = read_weights(path.parent / name)
        if not isinstance(part, dict):
            raise InputError(f"expected a state dict in {path.parent / name}; got an object of type {kind_of(part)}.")
        tensors |= part
    if missing := sorted(set(places) - set(tensors)):
        raise InputError(f"{path} names {missing[0]}, which is in none of its files; the weights are incomplete.")
    return tensors


def _refuse_programs(path: Path) -> None:
    """Raise InputError for a whole network, which is another kind of file than its weights."""
    if path.suffix == ".pt2":
        raise InputError(f"{path} is an exported program, a whole network; give it in the network's place.")
    if _is_torchscript(_archived(path)):
        raise InputError(f"{path} is a TorchScript program, a whole network; give it in the network's place.")


def is_saved_by_torch(path: Path) -> bool:
    """Return whether a file is one of `torch.save` rather than a program."""
    names = _archived(path)
    return any(name.endswith("data.pkl") for name in names) and not _is_torchscript(names)


def _archived(path: Path) -> list[str]:
    """Return the names of the files in an archive; none where the file is no archive."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def objects_of(path: Path) -> bytes | None:
    """Return the pickled objects of a file of `torch.save` without its tensors; None where it is no whole archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            record = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            return None if record is None else archive.read(record)
    except (OSError, zipfile.BadZipFile):
        return None


def _is_torchscript(names: list[str]) -> bool:
    return any(name.endswith("constants.pkl") for name in names)


def _read_torch(path: Path) -> Any:
    damaged = f"{path} cannot be read: it is damaged, incomplete, or holds more than tensors. Save module.state_dict()."
    try:
        # Stand-ins for names that torch knows as safe have no effect: torch looks among its own first.
        with torch.serialization.safe_globals([_stand_in(name) for name in _globals_in(path)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types
        raise InputError(damaged) from error


def _stand_in(what: str) -> Any:
    """Return a class that torch takes for the class or function of this full name, which is neither looked up nor run.

    Its objects are ordered dictionaries, the one kind of object that torch allows to have both entries and attributes: some
    training code stores states in dictionaries of its own. Those of numpy have other attributes and no entries.
    """
    module, _, name = what.rpartition(".")

    def empty(cls: type, *args: Any, **kwargs: Any) -> OrderedDict[Any, Any]:
        entries: OrderedDict[Any, Any] = OrderedDict()
        entries.__dict__["what"] = what
        return entries

    # torch compares the module and the qualified name of what is allowed with those in the file
    members: dict[str, Any] = {"__module__": module, "__qualname__": name}
    if module.partition(".")[0] == "numpy":
        return type(name, (Inert,), members | {"what": what})
    return type(name, (), members | {"__new__": empty})


def _globals_in(path: Path) -> set[str]:
    """Return the full names of the classes and functions that a file of torch refers to; nothing of it is run."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            record = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return set(_globals(io.BytesIO(archive.read(record))))
    names: set[str] = set()
    with path.open("rb") as file:
        for _ in range(_PARTS_OF_A_LEGACY_FILE):
            names |= set(_globals(file))
    return names


def _globals(file: Any) -> Iterator[str]:
    for instruction, argument, _ in pickletools.genops(file):
        if instruction.name == "GLOBAL":
            yield str(argument).replace(" ", ".", 1)


def kind_of(value: Any) -> str:
    """Return what a value in a file is, in words."""
    return str(getattr(value, "what", type(value).__name__))


def contents(content: Any) -> str:
    """Return in words what a file holds: its entries, and the tensors in them."""
    if not isinstance(content, Mapping) or hasattr(content, "what"):
        return f"an object of type {kind_of(content)}"
    tensors = [str(name) for name, value in content.items() if isinstance(value, Tensor)]
    parts = [_some(tensors)] if tensors else []
    for name, value in content.items():
        if isinstance(value, Tensor):
            continue
        inside = [str(key) for key, v in value.items() if isinstance(v, Tensor)] if isinstance(value, Mapping) else []
        parts.append(f"`{name}` ({_some(inside) if inside else kind_of(value)})")
    return ", ".join(parts[:8]) + (", …" if len(parts) > 8 else "") if parts else "nothing"


def _some(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) > 1)}: {few(names)}"


def few(names: list[str], count: int = 3) -> str:
    """Return the first of some names, and a sign where there are more."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
