"""Models to make adversarial images on without the victim: kernels of untrained networks, controls, trained networks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.arguments import as_classes, as_count, as_images, as_number, check_range
from ntklens.attacks import fgsm, noise, pgd
from ntklens.errors import InputError
from ntklens.kernels import LinearKernel, RBFKernel, analytic_kernel, empirical_kernel
from ntklens.kernels.base import Kernel
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import ClassOutputs, NetworkSource, network_source, ntk_parametrize, train, with_logits
from ntklens.progress import Progress, Report
from ntklens.targets import class_targets
from ntklens.texts import shortened
from ntklens.transfer.names import VARIANTS, SurrogateName, check_weights_matter, surrogate_name

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
        source: NetworkSource | str,
        x: Tensor,
        y: Tensor,
        classes: int,
        seed: int,
        progress: Report | None = None,
    ) -> nn.Module:
        """Train a network and return it in eval mode, with one logit per class.

        Args:
            source: the network, such as "small-cnn" or "file.py:factory".
            x: training images.
            y: their classes.
            classes: number of classes.
            seed: seed of the initial weights and of the batches.
            progress: called with the share of the epochs that is done, from 0 to 1.
        """
        progress = Progress(progress)
        source = network_source(source) if isinstance(source, str) else source
        initial = source.build(tuple(x.shape[1:]), classes, width=self.width, seed=seed).to(x.device)
        return train(
            with_logits(initial, x[:2], classes),
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

    def __repr__(self) -> str:
        model = "noise" if self.model is None else type(self.model).__name__
        return f"Surrogate({shortened(self.name, 32)!r}, {shortened(model, 24)}, {self.seconds:.3g} s)"

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
        as_count(steps, "steps")
        if self.model is None:
            return noise(x, eps, norm, generator=generator)
        if steps == 1 and not self.options:
            return fgsm(self.model, x, y, eps, norm, batch_size=batch_size, loss=loss, progress=progress)
        options: dict[str, Any] = {"generator": generator, "batch_size": batch_size, "loss": loss} | self.options
        options["progress"] = progress
        return pgd(self.model, x, y, eps, norm, steps, **options)


def surrogate(
    name: str | SurrogateName,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    classes: int,
    *,
    seed: int = 0,
    w_std: float = 2**0.5,
    b_std: float = 0.1,
    ridge: float = 0.0,
    width: int = 128,
    training: TrainingRecipe | None = None,
    models: dict[str, Surrogate] | None = None,
    class_outputs: ClassOutputs | None = None,
    progress: Report | None = None,
) -> Surrogate:
    """Fit or train a surrogate, given by its name, on samples of the data alone.

    Args:
        name: "ntk:fc3" (the kernel machine of an architecture; nothing is trained), "entk:file.py:factory@weights.pt" (the
            machine on the tangent kernel of a network with these weights; without "@weights", with initial ones),
            "net:small-cnn" (a network trained on the samples; one that brings weights is taken as it is), "linear" or
            "rbf" (kernel machines without a network, as controls), or "noise". A network is an architecture,
            "file.py:factory" with "@weights" or without, or the file of a saved machine, which is taken as it is. After the
            name, "+mi", "+di" and "+ti" stand for momentum, diverse inputs and translation in the attack.
        x: samples of the data.
        y: their classes.
        classes: number of classes.
        seed: seed of the weights of a "net:" or "entk:" network.
        w_std: standard deviation of the weights of an "ntk:" kernel, and of an architecture's "entk:" kernel.
        b_std: standard deviation of the biases, likewise.
        ridge: ridge of the machine.
        width: hidden units or channels of an architecture's "entk:" kernel.
        training: how a "net:" network is trained.
        models: surrogates that exist already, by their names without variants; a new one is added, so that variants share
            a model.
        class_outputs: for a network that brings its weights, from its number of outputs to the output of each class; None,
            or a result of None, for the first ones.
        progress: called with the share of the fit or of the training that is done, from 0 to 1.

    Raises:
        InputError: an unknown name.
    """
    known = name if isinstance(name, SurrogateName) else surrogate_name(name)
    x = as_images(x)
    y = as_classes(y, len(x), device=x.device)
    check_range(y, as_count(classes, "the number of classes", least=2))
    seed = as_count(seed, "seed", least=0)
    w_std, b_std, ridge = as_number(w_std, "w_std"), as_number(b_std, "b_std"), as_number(ridge, "ridge")
    width = as_count(width, "width")
    if not len(x):
        raise InputError("expected x as at least one sample of the data; got none.")
    models = {} if models is None else models
    key = repr(replace(known, variants=()))
    if key not in models:
        start = time.perf_counter()
        model: nn.Module | None = None
        gradient_evaluations = 0
        source = known.network
        if source is None:
            if known.kind != "noise":
                model = _control(known.kind, x).fit(x, class_targets(y, classes), progress=progress)
        elif source.kind == "machine":
            machine = KernelMachine.load(source.text).to(x.device)
            model = with_logits(machine, x[:2], classes, class_outputs) if machine.targets.shape[1] > 2 else machine
        elif known.kind == "net" and source.is_trained:
            network = source.build(tuple(x.shape[1:]), classes).to(x.device)
            model = with_logits(network, x[:2], classes, class_outputs)
        elif known.kind == "net":
            training = training or TrainingRecipe()
            model = training.network(source, x, y, classes, seed, progress)
            gradient_evaluations = training.epochs * len(x)
        else:
            shape, outputs = tuple(x.shape[1:]), 1 if classes == 2 else classes
            kernel = network_kernel(
                known, shape, outputs, width=width, w_std=w_std, b_std=b_std, seed=seed, device=x.device
            )
            # Targets as a matrix, so that a class without images in the sample still has an output.
            model = KernelMachine(kernel, Ridge(ridge)).fit(x, class_targets(y, classes), progress=progress)
        models[key] = Surrogate(known.label(), model, {}, time.perf_counter() - start, gradient_evaluations)
    # Variants differ in the options of the attack alone, so they share the model and its cost.
    options = {option: value for variant in known.variants for option, value in VARIANTS[variant].items()}
    return replace(models[key], name=name.label() if isinstance(name, SurrogateName) else name, options=options)


def network_kernel(
    known: SurrogateName,
    shape: tuple[int, ...],
    outputs: int,
    *,
    width: int,
    w_std: float,
    b_std: float,
    seed: int,
    device: torch.device | str = "cpu",
) -> Kernel:
    """Return the kernel that a name stands for: "ntk:" and "entk:" networks, and the kernel of a saved machine.

    Args:
        known: a name with a network.
        shape: shape of one input.
        outputs: number of outputs of an architecture.
        width: hidden units or channels of an architecture's "entk:" kernel.
        w_std: standard deviation of the weights of an "ntk:" kernel, and of an architecture's "entk:" kernel.
        b_std: standard deviation of the biases, likewise.
        seed: of weights that are drawn.
        device: of an "entk:" network.

    Raises:
        InputError: the network does not load, or its weights have no effect or are wanted and not there.
        UnsupportedLayer: the network has no infinite-width kernel.
    """
    source = known.network
    if source is None:
        raise InputError(f"expected a network with a kernel; got {known.kind}.")
    if source.kind == "machine":
        return KernelMachine.load(source.text).kernel
    if known.kind == "entk":
        network = tangent_network(source, shape, outputs, width=width, w_std=w_std, b_std=b_std, seed=seed)
        return empirical_kernel(network.to(device))
    check_weights_matter(source)
    return analytic_kernel(source.build(shape, outputs, seed=seed), w_std, b_std)


def tangent_network(
    source: NetworkSource, shape: tuple[int, ...], outputs: int, *, width: int, w_std: float, b_std: float, seed: int
) -> nn.Module:
    """Return a network whose empirical kernel is wanted, in eval mode.

    An architecture is drawn in the NTK parametrisation, so that its kernel tends to the analytic one with its width; a
    user's network is taken as it is, in its own parametrisation.

    Args:
        source: the network.
        shape: shape of one input.
        outputs: number of outputs of an architecture.
        width: hidden units or channels of an architecture.
        w_std: standard deviation of the weights of an architecture.
        b_std: standard deviation of its biases.
        seed: of the weights that are drawn.

    Raises:
        InputError: a saved program, whose parameters cannot be told from its constants.
    """
    if source.kind == "machine":
        raise InputError(f"expected a network for an empirical kernel; got the kernel machine {source.text}.")
    if source.kind == "program":
        raise InputError(
            f"expected a network with its parameters for an empirical kernel; got the saved program {source.text}. "
            "Give the network as file.py:factory@weights."
        )
    network = source.build(shape, outputs, width=width, seed=seed)
    if source.kind == "architecture":
        network = ntk_parametrize(network, w_std, b_std, generator=torch.Generator().manual_seed(seed))
    return network.eval()


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
