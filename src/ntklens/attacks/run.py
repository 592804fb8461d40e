"""An attack from start to score: images, what they achieve, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count, as_tensor
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack
from ntklens.attacks.evaluate import Evaluation, score
from ntklens.attacks.gradient import fgsm, pgd
from ntklens.attacks.model import BATCH, Model
from ntklens.attacks.noise import noise
from ntklens.attacks.square import square
from ntklens.attacks.threat import Threat
from ntklens.errors import InputError
from ntklens.modules import Guarded, guarded
from ntklens.progress import Report


@dataclass(frozen=True)
class AttackResult(Evaluation):
    """The images that an attack made, with their scores and its cost.

    Attributes:
        x_adv: the attacked images.
        method: name of the attack.
        eps: radius, in units of the pixels.
        norm: "linf" or "l2".
        queries: number of images that the attack showed to the model without a gradient.
        gradient_evaluations: number of images that the attack showed to the model for a gradient.
        seconds: duration of the attack, without its scoring.
    """

    x_adv: Float[Tensor, "n *shape"]
    method: str
    eps: float
    norm: str
    queries: int
    gradient_evaluations: int
    seconds: float

    def __repr__(self) -> str:
        return (
            f"AttackResult({self.method}, ε = {self.eps:.4g} {self.norm}, {len(self.success)} images: "
            f"{self._accuracies()}, {self.seconds:.3g} s)"
        )

    def row(self) -> dict[str, Any]:
        """Return the figures in one line, for tables and JSON; success is a share of the clean images that are right."""
        n = len(self.success)
        clean_correct = round(self.clean_accuracy.value * n) if n else 0
        return {
            "attack": self.method,
            "norm": self.norm,
            "eps": self.eps,
            **self.clean_accuracy.row("clean_accuracy"),
            **self.robust_accuracy.row("robust_accuracy"),
            "success": float(self.success.double().sum()) / max(1, clean_correct),
            "median_l2": float(self.l2.median()) if n else 0.0,
            "queries": self.queries,
            "gradient_evaluations": self.gradient_evaluations,
            "seconds": self.seconds,
        }


class Counted(Guarded):
    """A guarded model that counts the images it is shown by the attack; the guard's own question is not one of them.

    Attributes:
        queries: images shown without a gradient.
        gradients: images shown for a gradient.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model.model if type(model) is Guarded else model)
        # A count within another one leaves the question to the inner one.
        self.is_checked = model.is_checked if type(model) is Guarded else isinstance(model, Guarded)
        self.queries = 0
        self.gradients = 0

    def forward(self, x: Tensor) -> Tensor:
        """Compute the model's logits."""
        if torch.is_grad_enabled() and x.requires_grad:
            self.gradients += len(x)
        else:
            self.queries += len(x)
        return super().forward(x)


def _none(model: Model, x: Tensor, y: Tensor, eps: float, norm: str, *, bounds: Bounds, **options: Any) -> Tensor:
    return x


def _noise(
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float,
    norm: str,
    *,
    batch_size: int,
    progress: Report | None = None,
    **options: Any,
) -> Tensor:
    return noise(x, eps, norm, **options)


METHODS: dict[str, Callable[..., Tensor]] = {
    "none": _none,
    "noise": _noise,
    "fgsm": fgsm,
    "pgd": pgd,
    "square": square,
}
"""The attacks by name."""


def attack(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    eps: float,
    method: str | Callable[..., Tensor] = "pgd",
    norm: str = "linf",
    *,
    victim: Model | None = None,
    bounds: Bounds = (0, 1),
    batch_size: int = BATCH,
    **options: Any,
) -> AttackResult:
    """Attack a model and score the images on it, or on another one.

    Args:
        model: images to logits; the attack sees this model alone.
        x: images within the bounds.
        y: true classes.
        eps: radius, in units of the pixels.
        method: "fgsm", "pgd", "square", "noise", "none", or any function with the arguments of `fgsm`.
        norm: "linf" or "l2".
        victim: the model that the images are scored on, for a transfer attack; `model` itself by default.
        bounds: lowest and highest pixel value.
        batch_size: images at a time.
        options: options of the method, such as `steps`, `momentum`, `queries`, `generator` or `progress`.

    Raises:
        InputError: an unknown method, arguments that do not fit, or images outside the ball.
    """
    if not callable(method) and (not isinstance(method, str) or method not in METHODS):
        raise InputError(f"expected method as an attack among {', '.join(METHODS)}, or a function; got {method!r}.")
    if options.get("targeted"):
        raise InputError("success counts predictions that are wrong: make targeted images with pgd(…, targeted=True).")
    if method in ("noise", "square") and "generator" not in options:
        raise InputError(f"{method} needs a generator: pass generator=torch.Generator().manual_seed(…).")
    threat = Threat(eps, norm, bounds=bounds)
    x, y = check_attack(x, y, threat.bounds)
    as_count(batch_size, "batch_size")
    if isinstance(method, str):
        run, name = METHODS[method], method
    else:
        run, name = method, getattr(method, "__name__", type(method).__name__)
    with guarded(model, x, y, generator=options.get("generator")) as (guard, x, y):
        counted = Counted(guard)
        start = time.perf_counter()
        x_adv = run(counted, x, y, threat.eps, norm, bounds=threat.bounds, batch_size=batch_size, **options)
        seconds = time.perf_counter() - start
        x_adv = as_tensor(x_adv, "the images of the attack")
        evaluation = score(guard if victim is None else victim, x, x_adv, y, threat, batch_size)
        return AttackResult(
            **vars(evaluation), x_adv=x_adv, method=name, eps=threat.eps, norm=norm, seconds=seconds,
            queries=counted.queries, gradient_evaluations=counted.gradients,
        )  # fmt: skip
