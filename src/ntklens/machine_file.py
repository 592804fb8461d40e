"""Kernel machines on disk: tensors in a safetensors file, and enough of the kernel to recognise it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ntklens.errors import InputError
from ntklens.files import written_whole
from ntklens.kernels.base import Kernel
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
    """
    contents = {name: tensor.contiguous() for name, tensor in tensors.items()}
    contents["probe"] = _probe(kernel, tensors["train_inputs"]).contiguous()
    with written_whole(path) as partial:
        metadata = {"kernel": repr(kernel), "filter": repr(filter)}
        save_file(contents, str(partial), metadata=metadata | _settings(filter, arithmetic))


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
    # A number may have been given in another type, such as one of numpy, which its description does not tell.
    same_filter = describe(filter) is not None and metadata.get("filter_settings") == describe(filter)
    for name, argument in (("kernel", kernel), ("filter", filter)):
        if metadata[name] != repr(argument) and not (name == "filter" and same_filter):
            raise InputError(f"expected the {name} that {path} was saved with, {metadata[name]}; got {argument!r}.")
    # Descriptions cannot tell the weights of two networks apart, and an empirical kernel depends on them: compare values.
    saved = tensors.pop("probe")
    if not torch.allclose(_probe(kernel, tensors["train_inputs"]).to(saved), saved, rtol=1e-6, atol=0.0):
        raise InputError(
            f"expected the kernel that {path} was saved with; got one with other values. Give the kernel of the same "
            "network, with the same weights."
        )
    return tensors


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
        raise InputError(f"{path} is not a safetensors file written by KernelMachine.save.")
    return metadata, tensors


def _probe(kernel: Kernel, train_inputs: Tensor) -> Tensor:
    """Return the kernel matrix of the first training inputs, in float64."""
    return kernel(train_inputs[:_PROBES].to(torch.float64))
