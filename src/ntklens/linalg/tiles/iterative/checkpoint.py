"""The state of conjugate gradients in a file, from which an interrupted solution goes on."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ntklens.files import first_line, written_whole
from ntklens.linalg.tiles.iterative.conjugate_gradients import State


class Checkpoint:
    """The file of one problem; the states of other problems are in other files.

    Args:
        folder: where the file is.
        problem: a text that no other problem has.
        seconds: at least so much time passes between two states that are kept.
    """

    def __init__(self, folder: Path, problem: str, seconds: float) -> None:
        digest = hashlib.sha256(problem.encode()).hexdigest()
        self.path = folder / f"solve-{digest[:16]}.safetensors"
        self._digest = digest
        self._seconds = seconds
        self._last = time.monotonic()
        self._failed = False

    def load(self) -> State | None:
        """Return the state that was kept; None where there is none, or it is damaged."""
        try:
            with safe_open(str(self.path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        except (OSError, SafetensorError):
            return None
        if metadata != {"problem": self._digest, "contents": _digest(tensors)}:
            return None
        return State.of(tensors)

    def save(self, state: State) -> None:
        """Keep a state, if enough time has passed. A disk that is full is told once, and stops nothing."""
        if self._failed or time.monotonic() - self._last < self._seconds:
            return
        tensors = state.tensors()
        try:
            with written_whole(self.path) as partial:
                save_file(tensors, str(partial), metadata={"problem": self._digest, "contents": _digest(tensors)})
        except (OSError, SafetensorError) as error:
            self._failed = True
            self._partial.unlink(missing_ok=True)
            warnings.warn(
                f"{self.path} cannot be written ({first_line(error)}): if the solution is interrupted, it starts anew.",
                stacklevel=2,
            )
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove the file, when the problem is solved."""
        self.path.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")


def digest_of(tensor: Tensor) -> str:
    """Return a text that tells a tensor from others."""
    return _digest({"": tensor})


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).numpy().data)
    return total.hexdigest()
