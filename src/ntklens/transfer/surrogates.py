"""Models to make adversarial images on without the victim: kernels of untrained networks, controls, trained networks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.arguments import as_classes, as_count, as_images, check_range
from ntklens.attacks import fgsm, noise, pgd
from ntklens.errors import InputError
from ntklens.kernels import LinearKernel, RBFKernel, analytic_kernel
from ntklens.kernels.base import Kernel
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import build, seeded_network, train
from ntklens.progress import Progress, Report
from ntklens.targets import class_targets

VARIANTS: dict[str, dict[str, Any]] = {
    "mi": {"momentum": 1.0},
    "di": {"diversity": 0.5},
    "ti": {"translation": 5},
}
"""Options of `pgd` that "+mi", "+di" and "+ti" after a surrogate's name stand for."""
_CONTROL_RIDGE = 1e-3
"""Ridge of the linear and the Gaussian kernel, over their mean diagonal: on thousands of images neither has an inverse."""
_CONTROL_SAMPLE = 500
"""Images from which the scale of the controls is measured."""


@dataclass(frozen=True)
class TrainingRecipe:
    """How networks are trained: SGD on the cross-entropy.

    Attributes:
        epochs: passes over the data.
        batch_size: images per step.
        learning_rate: learning rate of SGD.
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
        progress: Report | None = None,
    ) -> nn.Module:
        """Train a network and return it in eval mode.

        Args:
            architecture: name of the network, such as "small-cnn".
            x: training images.
            y: their classes.
            classes: number of classes.
            seed: seed of the initial weights and of the batches.
            progress: called with the share of the epochs that is done, from 0 to 1.
        """
        progress = Progress(progress)
        initial = seeded_network(lambda: build(architecture, tuple(x.shape[1:]), classes, width=self.width), seed)
        return train(
            initial.to(x.device),
            x,
            y,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            generator=torch.Generator().manual_seed(seed),
            on_epoch=lambda epoch, *_: progress.step(epoch, self.epochs),
        )


@dataclass(frozen=True)
class Surrogate:
    """A model to make adversarial images on, and what it cost.

    Attributes:
        name: the name that it was asked for by, variants included.
        model: images to logits; None for noise.
        options: options of `pgd` on it.
        seconds: time to fit or train it.
        gradient_evaluations: images shown for a gradient while it was trained; 0 for a kernel machine.
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
        progress: Report | None = None,
    ) -> Tensor:
        """Make adversarial images: by FGSM for one step, by PGD for more steps and for the variants, or by noise.

        Args:
            x: images within [0, 1].
            y: true classes.
            eps: radius, in units of the pixels.
            norm: "linf" or "l2".
            steps: number of steps.
            loss: "cross-entropy", "margin" or "dlr".
            generator: source of the noise and of the diverse inputs.
            batch_size: images at a time.
            progress: called with the share of the work that is done, from 0 to 1.
        """
        if self.model is None:
            return noise(x, eps, norm, generator=generator)
        if steps == 1 and not self.options:
            return fgsm(self.model, x, y, eps, norm, batch_size=batch_size, loss=loss, progress=progress)
        options: dict[str, Any] = {"generator": generator, "batch_size": batch_size, "loss": loss} | self.options
        options["progress"] = progress
        return pgd(self.model, x, y, eps, norm, max(steps, 1), **options)


def check_surrogate(name: str) -> None:
    """Raise InputError unless the surrogate name is known.

    Raises:
        InputError: neither "noise", "linear", "rbf", "ntk:ARCHITECTURE" nor "net:ARCHITECTURE", or an unknown variant.
    """
    base, *variants = name.split("+")
    kind, _, architecture = base.partition(":")
    known = base in ("noise", "linear", "rbf") or (kind in ("ntk", "net") and architecture)
    unknown_variants = [variant for variant in variants if variant not in VARIANTS]
    if not known or unknown_variants or (base == "noise" and variants):
        raise InputError(
            "expected noise, linear, rbf, ntk:ARCHITECTURE (no training) or net:ARCHITECTURE (trained), with "
            f'{", ".join("+" + variant for variant in VARIANTS)} for variants of the attack; got the surrogate "{name}".'
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
    training: TrainingRecipe | None = None,
    models: dict[str, Surrogate] | None = None,
    progress: Report | None = None,
) -> Surrogate:
    """Fit or train a surrogate, given by its name, on samples of the data alone.

    Args:
        name: "ntk:fc3" (the kernel machine of an architecture; nothing is trained), "net:small-cnn" (a network trained on
            the samples), "linear" or "rbf" (kernel machines without a network, as controls), or "noise". After the name,
            "+mi", "+di" and "+ti" stand for momentum, diverse inputs and translation in the attack.
        x: samples of the data.
        y: their classes.
        classes: number of classes.
        seed: seed of a "net:" network.
        w_std: standard deviation of the weights of an "ntk:" kernel.
        b_std: standard deviation of the biases of an "ntk:" kernel.
        ridge: ridge of an "ntk:" machine.
        training: how a "net:" network is trained.
        models: surrogates that exist already, by their names without variants; a new one is added, so that variants share
            a model.
        progress: called with the share of the fit or of the training that is done, from 0 to 1.

    Raises:
        InputError: an unknown name.
    """
    check_surrogate(name)
    x = as_images(x)
    y = as_classes(y, len(x), device=x.device)
    check_range(y, as_count(classes, "the number of classes", least=2))
    base, *variants = name.split("+")
    models = {} if models is None else models
    if base not in models:
        start = time.perf_counter()
        kind, _, architecture = base.partition(":")
        model: nn.Module | None = None
        gradient_evaluations = 0
        if kind == "net":
            training = training or TrainingRecipe()
            model = training.network(architecture, x, y, classes, seed, progress)
            gradient_evaluations = training.epochs * len(x)
        elif kind == "ntk":
            network = build(architecture, tuple(x.shape[1:]), 1 if classes == 2 else classes)
            kernel = analytic_kernel(network, w_std, b_std)
            # Targets as a matrix, so that a class without images in the sample still has an output.
            model = KernelMachine(kernel, Ridge(ridge)).fit(x, class_targets(y, classes), progress=progress)
        elif kind != "noise":
            model = _control(kind, x).fit(x, class_targets(y, classes), progress=progress)
        models[base] = Surrogate(base, model, {}, time.perf_counter() - start, gradient_evaluations)
    # Variants differ in the options of the attack alone, so they share the model and its cost.
    options = {key: value for variant in variants for key, value in VARIANTS[variant].items()}
    return replace(models[base], name=name, options=options)


def _control(name: str, x: Tensor) -> KernelMachine:
    """Return a kernel machine without a network; the Gaussian kernel's width is the median distance per pixel."""
    sample = x[:_CONTROL_SAMPLE].to(torch.float64)
    kernel: Kernel = LinearKernel()
    if name == "rbf":
        # The median over pairs of the root mean squared difference of a pixel.
        flat = sample.flatten(1)
        kernel = RBFKernel(float((torch.pdist(flat).square() / flat.shape[1]).median().sqrt()))
    scale = float(kernel(sample).diagonal().mean())
    return KernelMachine(kernel, Ridge(_CONTROL_RIDGE * scale))
