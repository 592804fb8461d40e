"""The state of a training between two epochs, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ntklens.errors import InputError


class Checkpoint:
    """Weights and buffers, momentum, the generator's state and the epoch of a training with SGD.

    Args:
        path: of the file; None keeps none.
        network: the network in training.
        optimiser: of its parameters.
        generator: of its batches.
        settings: what must be equal for a training to be gone on with, beside the optimiser's rate and momentum.
    """

    def __init__(
        self,
        path: str | Path | None,
        network: nn.Module,
        optimiser: torch.optim.SGD,
        generator: torch.Generator,
        settings: Mapping[str, int],
    ) -> None:
        self.path = None if path is None else Path(path)
        self.network, self.optimiser, self.generator = network, optimiser, generator
        group = optimiser.param_groups[0]
        self.settings = {**settings, "learning_rate": group["lr"], "momentum": group["momentum"]}

    def save(self, epoch: int) -> None:
        """Write the state after this epoch; the file is replaced as a whole."""
        if self.path is None:
            return
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for number, parameter in enumerate(self._parameters()):
            momentum = self.optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{number}"] = momentum
        tensors["generator"] = self.generator.get_state()
        own = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        metadata = {"epoch": str(epoch), "settings": json.dumps(self.settings, sort_keys=True)}
        partial = self.path.with_name(self.path.name + ".part")
        save_file(own, partial, metadata=metadata)
        os.replace(partial, self.path)

    def resume(self) -> int:
        """Take up the state in the file, if there is one; returns the epochs done.

        Raises:
            InputError: the file is no checkpoint, or of a training with another network or other settings.
        """
        if self.path is None or not self.path.exists():
            return 0
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118, not a dict
            epoch, settings = int(metadata["epoch"]), json.loads(metadata["settings"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise InputError(
                f"{self.path} is not a checkpoint of a training; give another name or remove it."
            ) from error
        if settings != self.settings:
            raise InputError(
                f"{self.path} is of a training with {settings}; this one has {self.settings}: give another name."
            )
        try:
            self._take(tensors)
        except (RuntimeError, KeyError) as error:
            raise InputError(f"{self.path} is of a training of another network; give another name.") from error
        return epoch

    def _take(self, tensors: dict[str, Tensor]) -> None:
        start = "network."
        self.network.load_state_dict({k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)})
        for number, parameter in enumerate(self._parameters()):
            if (momentum := tensors.get(f"momentum.{number}")) is not None:
                self.optimiser.state[parameter]["momentum_buffer"] = momentum.to(parameter)
        self.generator.set_state(tensors["generator"])

    def _parameters(self) -> list[Tensor]:
        found: list[Tensor] = self.optimiser.param_groups[0]["params"]
        return found
