"""What adversarial images can be made on without the victim: kernels of untrained networks, controls, trained networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.attacks import fgsm, noise, pgd
from ntklens.errors import InputError
from ntklens.kernels import LinearKernel, RBFKernel, analytic_kernel
from ntklens.kernels.base import Kernel
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import build, seeded_network, train

VARIANTS: dict[str, dict[str, Any]] = {
    "mi": {"momentum": 1.0},
    "di": {"diversity": 0.5},
    "ti": {"translation": 5},
}
"""Options of `pgd` that a "+" adds to a surrogate's name."""
_CONTROL_RIDGE = 1e-3
"""Of the linear and the Gaussian kernel, over their mean diagonal: neither inverts on thousands of images without."""


@dataclass(frozen=True)
class Training:
    """How networks are trained: SGD on the cross-entropy.

    Attributes:
        epochs: passes over the data.
        batch_size: images a step.
        learning_rate: of SGD.
        width: hidden units or channels.
    """

    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 0.05
    width: int = 64

    def network(
        self,
        architecture: str,
        x: Tensor,
        y: Tensor,
        classes: int,
        seed: int,
        tell: Callable[[float], None] | None = None,
    ) -> nn.Module:
        """A trained network in eval mode; the seed fixes its weights and its batches."""
        initial = seeded_network(lambda: build(architecture, tuple(x.shape[1:]), classes, width=self.width), seed)
        return train(
            initial.to(x.device),
            x,
            y,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            generator=torch.Generator().manual_seed(seed),
            on_epoch=None if tell is None else lambda epoch, *_: tell(epoch / self.epochs),
        )


@dataclass(frozen=True)
class Surrogate:
    """A model to make adversarial images on, and what it cost to get.

    Attributes:
        name: as it was asked for.
        model: images to logits; None for noise.
        options: of the attack on it.
        seconds: to fit or train it.
        gradient_evaluations: images shown for a gradient while it was trained.
    """

    name: str
    model: nn.Module | None
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    gradient_evaluations: int = 0

    def images(
        self,
        x: Float[Tensor, "n *shape"],
        y: Int[Tensor, " n"],
        eps: float,
        norm: str = "linf",
        *,
        steps: int = 1,
        loss: str = "cross-entropy",
        generator: torch.Generator,
        batch_size: int = 500,
    ) -> Tensor:
        """Adversarial images: one step, or PGD for more and for the variants of PGD."""
        if self.model is None:
            return noise(x, eps, norm, generator=generator)
        if steps == 1 and not self.options:
            return fgsm(self.model, x, y, eps, norm, batch_size=batch_size, loss=loss)
        options: dict[str, Any] = {"generator": generator, "batch_size": batch_size, "loss": loss} | self.options
        return pgd(self.model, x, y, eps, norm, max(steps, 1), **options)


def check_surrogate(name: str) -> None:
    """Refuse a name that says nothing.

    Raises:
        InputError: neither "noise", "linear", "rbf", "ntk:ARCHITECTURE" nor "net:ARCHITECTURE", or an unknown variant.
    """
    base, *variants = name.split("+")
    kind, _, architecture = base.partition(":")
    known = base in ("noise", "linear", "rbf") or (kind in ("ntk", "net") and architecture)
    unknown = [v for v in variants if v not in VARIANTS]
    if not known or unknown or (base == "noise" and variants):
        raise InputError(
            f'the surrogate "{name}" is not known: give noise, linear, rbf, ntk:ARCHITECTURE (no training) or '
            f"net:ARCHITECTURE (trained), with {', '.join('+' + v for v in VARIANTS)} for variants of the attack."
        )


def surrogate(
    name: str,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    classes: int,
    *,
    seed: int = 0,
    w_std: float = 2**0.5,
    b_std: float = 0.1,
    ridge: float = 0.0,
    training: Training | None = None,
    models: dict[str, Surrogate] | None = None,
) -> Surrogate:
    """A surrogate by name, from samples of the data alone.

    Args:
        name: "ntk:fc3" (the kernel machine of an architecture, nothing is trained), "net:small-cnn" (a network trained
            on the samples), "linear" or "rbf" (kernel machines without a network, as controls), "noise"; with "+mi", "+di"
            and "+ti" for momentum, diverse inputs and translation in the attack.
        x: samples of the data.
        y: their classes.
        classes: how many there are.
        seed: of a trained network.
        w_std: of an "ntk:" kernel.
        b_std: of an "ntk:" kernel.
        ridge: of an "ntk:" machine.
        training: of a "net:" network.
        models: of surrogates made before, by their names without variants; looked up, and added to.

    Raises:
        InputError: an unknown name.
    """
    check_surrogate(name)
    base, *variants = name.split("+")
    options = {key: value for v in variants for key, value in VARIANTS[v].items()}
    made = {} if models is None else models
    if base not in made:
        start = time.perf_counter()
        kind, _, architecture = base.partition(":")
        model: nn.Module | None = None
        evaluations = 0
        if kind == "net":
            how = training or Training()
            model = how.network(architecture, x, y, classes, seed)
            evaluations = how.epochs * len(x)
        elif kind == "ntk":
            network = build(architecture, tuple(x.shape[1:]), 1 if classes == 2 else classes)
            model = KernelMachine(analytic_kernel(network, w_std, b_std), Ridge(ridge)).fit(x, _targets(y, classes))
        elif kind != "noise":
            model = _control(base, x).fit(x, _targets(y, classes))
        made[base] = Surrogate(base, model, {}, time.perf_counter() - start, evaluations)
    kept = made[base]
    return Surrogate(name, kept.model, options, kept.seconds, kept.gradient_evaluations)


def _targets(y: Tensor, classes: int) -> Tensor:
    """Of a kernel machine: a column a class, whether there are images of it or not; ±1 for two."""
    if classes == 2:
        return (2.0 * y.to(torch.float64) - 1)[:, None]
    return nn.functional.one_hot(y.long(), classes).to(torch.float64)


def _control(name: str, x: Tensor) -> KernelMachine:
    """A kernel machine without a network; the Gaussian kernel's width is the median difference of a pixel."""
    kernel: Kernel = LinearKernel()
    if name == "rbf":
        some = x[:500].flatten(1).to(torch.float64)
        kernel = RBFKernel(float((torch.pdist(some).square() / some.shape[1]).median().sqrt()))
    scale = float(kernel(x[:500].to(torch.float64)).diagonal().mean())
    return KernelMachine(kernel, Ridge(_CONTROL_RIDGE * scale))
