"""What the certificates and trainings of this package ask of their arguments."""

from __future__ import annotations

from torch import Tensor

from ntklens.arguments import as_number, check_range
from ntklens.attacks import Threat
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack
from ntklens.errors import InputError
from ntklens.machine import KernelMachine


def checked_images(
    machine: KernelMachine, x: Tensor, y: Tensor, eps: float, norm: str, bounds: Bounds
) -> tuple[Tensor, Tensor, Threat]:
    """Return images, their classes and the ball; InputError for what does not fit the machine."""
    if not isinstance(machine, KernelMachine):
        raise InputError(f"expected machine as a KernelMachine; got {type(machine).__name__}.")
    threat = Threat(eps, norm, bounds=bounds)
    x, y = check_attack(x, y, threat.bounds)
    x = machine.checked(x)
    if not len(x):
        raise InputError("expected x as at least one image; got none.")
    check_range(y, max(2, machine.targets.shape[1]))
    return x, y, threat


def positive(value: float, name: str, *, zero: bool = False) -> float:
    """Return a finite number above 0, or of 0 or more; InputError for another."""
    number = float(as_number(value, name))
    if not (0 <= number < float("inf")) or (number == 0 and not zero):
        raise InputError(f"expected {name} {'of 0 or more' if zero else 'above 0'}; got {value}.")
    return number
