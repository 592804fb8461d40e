"""An attack from start to score: images, what they achieve, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.attacks.ascent import Model
from ntklens.attacks.balls import Bounds
from ntklens.attacks.evaluate import Evaluation, evaluate
from ntklens.attacks.gradient import fgsm, pgd
from ntklens.attacks.noise import noise
from ntklens.attacks.square import square
from ntklens.errors import InputError


@dataclass(frozen=True)
class AttackResult(Evaluation):
    """The images that an attack made, with their scores and its cost.

    Attributes:
        x_adv: the images.
        method: name of the attack.
        eps: radius.
        norm: "linf" or "l2".
        queries: times that an image was shown to the model without a gradient, by the attack itself.
        gradient_evaluations: times that an image was shown for a gradient.
        seconds: of the attack, its scoring not included.
    """

    x_adv: Float[Tensor, "n *shape"]
    method: str
    eps: float
    norm: str
    queries: int
    gradient_evaluations: int
    seconds: float

    @property
    def _right(self) -> int:
        """Images that were right before."""
        return round(self.clean_accuracy.value * len(self.success)) if len(self.success) else 0

    def row(self) -> dict[str, Any]:
        """The figures in one line, for tables and JSON."""
        return {
            "attack": self.method,
            "norm": self.norm,
            "eps": self.eps,
            **self.clean_accuracy.row("clean_accuracy"),
            **self.robust_accuracy.row("robust_accuracy"),
            "success": float(self.success.double().sum()) / max(1, self._right),
            "median_l2": float(self.l2.median()) if len(self.l2) else 0.0,
            "queries": self.queries,
            "gradient_evaluations": self.gradient_evaluations,
            "seconds": self.seconds,
        }


class Counted(nn.Module):
    """A model that counts what it is asked for."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.queries = 0
        self.gradients = 0

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits."""
        if torch.is_grad_enabled() and x.requires_grad:
            self.gradients += len(x)
        else:
            self.queries += len(x)
        return self.model(x)


def _none(model: Model, x: Tensor, y: Tensor, eps: float, norm: str, **options: Any) -> Tensor:
    return x


def _noise(model: Model, x: Tensor, y: Tensor, eps: float, norm: str, **options: Any) -> Tensor:
    return noise(x, eps, norm, **{k: v for k, v in options.items() if k != "batch_size"})


METHODS: dict[str, Callable[..., Tensor]] = {
    "none": _none,
    "noise": _noise,
    "fgsm": fgsm,
    "pgd": pgd,
    "square": square,
}


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
    batch_size: int = 512,
    **options: Any,
) -> AttackResult:
    """Attack a model and score the images on it, or on another one.

    Args:
        model: images to logits; the attack sees it alone.
        x: images within the bounds.
        y: true classes.
        eps: radius, in units of the pixels.
        method: "fgsm", "pgd", "square", "noise", "none", or any function with the arguments of `fgsm`.
        norm: "linf" or "l2".
        victim: the model that the images are scored on: a transfer attack; `model` itself by default.
        bounds: lowest and highest pixel value.
        batch_size: images at a time.
        options: the method's own, such as `steps`, `momentum`, `queries` or `generator`.

    Raises:
        InputError: an unknown method, arguments that do not fit, or images outside the ball.
    """
    if isinstance(method, str) and method not in METHODS:
        raise InputError(f'the attack must be one of {", ".join(METHODS)}; "{method}" came.')
    if options.get("targeted"):
        raise InputError("success counts predictions that are wrong: make targeted images with pgd(…, targeted=True).")
    if method in ("noise", "square") and "generator" not in options:
        raise InputError(f"{method} needs a generator: pass generator=torch.Generator().manual_seed(…).")
    run = METHODS[method] if isinstance(method, str) else method
    name = method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)
    counted = Counted(model)
    start = time.perf_counter()
    found = run(counted, x, y, eps, norm, bounds=bounds, batch_size=batch_size, **options)
    seconds = time.perf_counter() - start
    score = evaluate(model if victim is None else victim, x, found, y, eps, norm, bounds, batch_size)
    return AttackResult(
        **vars(score), x_adv=found, method=name, eps=float(eps), norm=norm, seconds=seconds,
        queries=counted.queries, gradient_evaluations=counted.gradients,
    )  # fmt: skip
