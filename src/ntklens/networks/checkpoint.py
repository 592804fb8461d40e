"""The state of a training run between two epochs, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.files import written_whole


class Checkpoint:
    """Weights and buffers, momentum, the generator's state and the epoch of a training run with SGD.

    Args:
        path: the file; None saves nothing.
        network: the network in training.
        optimiser: the optimiser of its parameters.
        generator: the generator that draws its batches.
        settings: numbers that must be equal for a run to be resumed, beside the optimiser's learning rate and momentum.
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
        self.network = network
        self.optimiser = optimiser
        self.generator = generator
        group = optimiser.param_groups[0]
        self.settings = {**settings, "learning_rate": group["lr"], "momentum": group["momentum"]}

    def save(self, epoch: int) -> None:
        """Write the state after this epoch; the earlier file stays until the new one is complete."""
        if self.path is None:
            return
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for number, parameter in enumerate(self._parameters()):
            momentum = self.optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{number}"] = momentum
        tensors["generator"] = self.generator.get_state()
        # safetensors refuses tensors that share memory, so each is copied
        copies = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        metadata = {"epoch": str(epoch), "settings": json.dumps(self.settings, sort_keys=True)}
        with written_whole(self.path) as partial:
            save_file(copies, partial, metadata=metadata)

    def resume(self) -> int:
        """Restore the state in the file, if there is one, and return the number of epochs that are done.

        Raises:
            InputError: the file is not a checkpoint, or is one of another network or of other settings.
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
                f"expected a checkpoint of a training run; got {self.path}, which is none. Give another name or remove it."
            ) from error
        if settings != self.settings:
            raise InputError(
                f"expected a checkpoint of a training run with {self.settings}; got {self.path} with {settings}. Give "
                "another name."
            )
        try:
            self._restore(tensors)
        except (RuntimeError, KeyError) as error:
            raise InputError(
                f"expected a checkpoint of this network; got {self.path} of another network. Give another name."
            ) from error
        return epoch

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        prefix = "network."
        self.network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for number, parameter in enumerate(self._parameters()):
            if (momentum := tensors.get(f"momentum.{number}")) is not None:
                self.optimiser.state[parameter]["momentum_buffer"] = momentum.to(parameter)
        self.generator.set_state(tensors["generator"])

    def _parameters(self) -> list[Tensor]:
        parameters: list[Tensor] = self.optimiser.param_groups[0]["params"]
        return parameters
