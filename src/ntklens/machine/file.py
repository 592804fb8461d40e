"""Kernel machines on disk: tensors in a safetensors file, and enough of the kernel to recognise it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ntklens.arguments import check_finite
from ntklens.errors import InputError
from ntklens.files import first_line, written_whole
from ntklens.kernels.base import Kernel
from ntklens.kernels.description import describe_kernel, kernel_from
from ntklens.linalg import Filter, describe, described

_PROBES = 3
"""Number of training inputs whose kernel values are saved with a machine."""


def write(path: Path, tensors: Mapping[str, Tensor], kernel: Kernel, filter: Filter, arithmetic: torch.dtype) -> None:
    """Write a fitted machine; a file of that name is replaced as a whole.

    Args:
        path: the file.
        tensors: the machine's tensors by name, `train_inputs` among them.
        kernel: its kernel, of which the description and a few values are saved.
        filter: its filter, of which the description is saved.
        arithmetic: dtype in which it computes.

    Raises:
        InputError: the file cannot be written.
    """
    contents = {name: tensor.contiguous() for name, tensor in tensors.items()}
    contents["probe"] = _probe(kernel, tensors["train_inputs"]).contiguous()
    metadata = _descriptions(kernel, filter) | _settings(filter, arithmetic)
    described_kernel = describe_kernel(kernel, tuple(tensors["train_inputs"].shape[1:]))
    if described_kernel is not None:
        metadata["kernel_settings"] = described_kernel
    if path.is_dir():
        raise InputError(f"expected path as a file to write; got the folder {path}.")
    try:
        with written_whole(path) as partial:
            save_file(contents, str(partial), metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be written: {first_line(error)}.") from error


def holds_its_kernel(path: Path) -> bool:
    """Return whether a machine that was written has its kernel, or it has to be given."""
    return "kernel_settings" in _contents(path)[0]


def saved_kernel(path: Path) -> Kernel:
    """Return the kernel of a machine that was written.

    Raises:
        InputError: as of `read`, or the file does not have the kernel, because it depends on code or on weights.
    """
    metadata, _ = _contents(path)
    if "kernel_settings" not in metadata:
        raise InputError(
            f"{path} does not hold its kernel, {metadata['kernel']}, which depends on a network's weights or on code of "
            "yours. Give the kernel too."
        )
    return kernel_from(metadata["kernel_settings"])


def settings(path: Path) -> tuple[Filter | None, torch.dtype]:
    """Return the filter and the arithmetic of a machine that was written.

    Returns:
        The filter, or None where it is of a type of the user's; and the dtype, float64 in files of earlier versions.

    Raises:
        InputError: as of `read`.
    """
    metadata, _ = _contents(path)
    g = described(metadata["filter_settings"]) if "filter_settings" in metadata else None
    return g, torch.float32 if metadata.get("arithmetic") == "float32" else torch.float64


def _settings(filter: Filter, arithmetic: torch.dtype) -> dict[str, str]:
    """Return what a machine is restored with."""
    description = describe(filter)
    return {"arithmetic": str(arithmetic).removeprefix("torch.")} | (
        {} if description is None else {"filter_settings": description}
    )


def read(path: Path, kernel: Kernel, filter: Filter) -> dict[str, Tensor]:
    """Return the tensors of a machine that was written with this kernel and this filter.

    Raises:
        InputError: the file does not exist or is of another kind, or the kernel or the filter is another one.
    """
    metadata, tensors = _contents(path)
    _check(metadata, tensors.pop("probe"), tensors["train_inputs"], kernel, filter, str(path))
    return tensors


IDENTITY = ("description", "probe")
"""Names of the tensors in a machine's `state_dict` by which the kernel and the filter are recognised."""


def identity(kernel: Kernel, filter: Filter, train_inputs: Tensor) -> dict[str, Tensor]:
    """Return the description of kernel and filter as bytes, and a few kernel values: tensors, as all of a `state_dict`."""
    text = json.dumps(_descriptions(kernel, filter) | _settings(filter, torch.float64)).encode()
    return {"description": torch.tensor(list(text), dtype=torch.uint8), "probe": _probe(kernel, train_inputs)}


def check(state: Mapping[str, Tensor], kernel: Kernel, filter: Filter, source: str) -> None:
    """Raise InputError unless a machine's state was saved with this kernel and this filter.

    Args:
        state: the machine's tensors by name, with those of `identity`.
        kernel: the kernel that is expected.
        filter: the filter that is expected.
        source: where the state comes from, for the message.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(f"expected {source} as tensors; got {name} as {type(value).__name__}.")
    x, y, alpha = (state[name] for name in ("train_inputs", "targets", "coefficients"))
    if x.ndim < 2 or y.ndim != 2 or len(x) != len(y) or y.shape != alpha.shape:
        raise InputError(
            f"expected {source} with train_inputs (n, ...), and targets and coefficients (n, O); got {tuple(x.shape)}, "
            f"{tuple(y.shape)} and {tuple(alpha.shape)}. Save the machine again."
        )
    for name in ("train_inputs", "targets", "coefficients"):
        check_finite(state[name], f"{name} of {source}")
    try:
        metadata = json.loads(bytes(state["description"].tolist()))
    except ValueError:
        raise InputError(f"{source} has a damaged description of its kernel. Save the machine again.") from None
    _check(metadata, state["probe"], state["train_inputs"], kernel, filter, source)


def _check(
    metadata: Mapping[str, str], probe: Tensor, train_inputs: Tensor, kernel: Kernel, filter: Filter, source: str
) -> None:
    # A number may have been given in another type, such as one of numpy, which its description does not tell.
    same_filter = describe(filter) is not None and metadata.get("filter_settings") == describe(filter)
    for name, description in _descriptions(kernel, filter).items():
        saved = _without_address(metadata.get(name, "none"))
        if saved != description and not (name == "filter" and same_filter):
            raise InputError(f"expected the {name} that {source} was saved with, {saved}; got {description}.")
    # Descriptions cannot tell the weights of two networks apart, and an empirical kernel depends on them: compare values.
    if not torch.allclose(_probe(kernel, train_inputs).to(probe), probe, rtol=1e-6, atol=0.0):
        raise InputError(
            f"expected the kernel that {source} was saved with; got one with other values. Give the kernel of the same "
            "network, with the same weights."
        )


def _descriptions(kernel: Kernel, filter: Filter) -> dict[str, str]:
    return {"kernel": _without_address(kernel.identity()), "filter": _without_address(repr(filter))}


def _without_address(description: str) -> str:
    """Remove the place in memory from the description of a user's object, which differs from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", description)


def _contents(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return what a file says of the machine, and its tensors."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Give a file written by KernelMachine.save.") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file written by KernelMachine.save.") from error
    if not {"kernel", "filter"} <= set(metadata) or "probe" not in tensors:
        raise InputError(
            f"{path} is not a safetensors file written by KernelMachine.save. If it has the weights of a network, give the "
            "network as file.py:factory with these --weights."
        )
    return metadata, tensors


def _probe(kernel: Kernel, train_inputs: Tensor) -> Tensor:
    """Return the kernel matrix of the first training inputs, in float64."""
    return kernel(train_inputs[:_PROBES].to(torch.float64))
