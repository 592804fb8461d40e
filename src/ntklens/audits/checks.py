"""What the audits are given."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ntklens.errors import InputError
from ntklens.machine import KernelMachine
from ntklens.targets import class_labels


def classes_of(machine: Any) -> Tensor:
    """Return the classes of a machine's training images, (n,).

    Raises:
        InputError: no machine, one that is not fitted, or one that was fitted on other targets than class indices.
    """
    if not isinstance(machine, KernelMachine):
        raise InputError(f"expected machine as a KernelMachine; got {type(machine).__name__}.")
    if not machine.is_fitted:
        raise InputError("the machine has no training data yet. Call fit(x, y) or KernelMachine.load first.")
    labels = class_labels(machine.targets)
    if labels is None:
        raise InputError("expected a machine that was fitted on class indices; got one on other targets.")
    return labels
