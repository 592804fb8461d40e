"""Training loops of the experiments: plain torch, seeded through a generator, the given network left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.errors import InputError, NumericalFailure
from ntklens.networks.checkpoint import Checkpoint

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, images, labels) -> the images to train on in their place."""


def gradient_descent(
    network: nn.Module,
    x: Float[Tensor, "n *shape"],
    targets: Float[Tensor, "n O"],
    *,
    steps: int,
    learning_rate: float,
    on_step: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """A copy of the network after full-batch gradient descent on 1/2 Σ |f - y|².

    In the infinite-width limit a `Centred` network in the NTK parameterisation, so trained, is the kernel machine with
    the filter `GradientDescent(steps, learning_rate)`.

    Args:
        network: inputs to outputs (n, O).
        x: all training inputs.
        targets: y.
        steps: number of steps.
        learning_rate: step length; above 2 / λ_1 of the tangent kernel the descent diverges.
        on_step: called after each step with its number, from 1, and the loss before it.

    Raises:
        InputError: steps or learning rate out of range, targets that do not fit the outputs, or nothing to train.
        NumericalFailure: the loss, or what it left in the parameters, has become infinite or NaN.
    """
    if steps < 1 or not learning_rate > 0:
        raise InputError(
            f"steps of 1 or more and a learning rate above 0 were expected; {steps}, {learning_rate} came."
        )
    trained = copy.deepcopy(network)
    parameters = _moving(trained)
    for step in range(1, steps + 1):
        f = trained(x)
        if f.shape != targets.shape:
            raise InputError(
                f"targets of the outputs' shape {tuple(f.shape)} were expected; {tuple(targets.shape)} came."
            )
        loss = 0.5 * (f - targets).square().sum()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=learning_rate)
        last = step < steps or all(bool(p.isfinite().all()) for p in parameters)
        if not (bool(loss.isfinite()) and last):
            raise NumericalFailure(
                f"gradient descent diverged at step {step}: lower the learning rate {learning_rate:g}."
            )
        if on_step:
            on_step(step, float(loss.detach()))
    return trained


def train(
    network: nn.Module,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"] | Float[Tensor, "n O"],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float = 0.9,
    attack: Attack | None = None,
    generator: torch.Generator,
    on_epoch: Callable[[int, nn.Module, float], None] | None = None,
    checkpoint: str | Path | None = None,
) -> nn.Module:
    """A copy of the network, in eval mode, after stochastic gradient descent on the cross-entropy, or on the squared error.

    The copy is in training mode for its steps and in eval mode when it is attacked and when `on_epoch` sees it. Layers
    that draw, such as dropout, draw from torch's global generator.

    Args:
        network: images to logits.
        x: training images.
        y: class indices, for the cross-entropy; or float targets of the outputs' shape, for 1/2 Σ |f - y|² a mean image.
        epochs: passes over the data.
        batch_size: images a step.
        learning_rate: of SGD.
        momentum: of SGD.
        attack: adversarial training (Madry et al. 2018): each batch is replaced by what this makes of it.
        generator: order of the batches, and whatever the attack draws from it.
        on_epoch: called with (0, network, nan) before training and (epoch, network, mean loss) after each epoch.
        checkpoint: a safetensors file to write after each epoch, and to go on from when it is there: the result is that
            of a training that was never interrupted, to the bit.

    Raises:
        InputError: a number out of range, labels that do not fit, or a checkpoint of another training.
        NumericalFailure: the loss has become infinite or NaN.
    """
    if epochs < 1 or batch_size < 1:
        raise InputError(f"epochs and batch_size must be 1 or more; {epochs} and {batch_size} came.")
    if len(x) != len(y):
        raise InputError(f"as many labels as images were expected; {len(x)} images and {len(y)} labels came.")
    trained = copy.deepcopy(network).eval()
    optimiser = torch.optim.SGD(_moving(trained), lr=learning_rate, momentum=momentum)
    state = Checkpoint(checkpoint, trained, optimiser, generator, {"images": len(x), "batch_size": batch_size})
    done = state.resume()
    if on_epoch and not done:
        on_epoch(0, trained, float("nan"))
    for epoch in range(done + 1, epochs + 1):
        total = 0.0
        for part in _batches(len(x), batch_size, generator):
            images, labels = x[part.to(x.device)], y[part.to(y.device)]
            images = images if attack is None else _attacked(attack, trained, images, labels, epoch, learning_rate)
            trained.train()
            loss = _loss(trained(images), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            trained.eval()
            total += float(loss.detach()) * len(part)
        if not (total < float("inf") and all(bool(p.isfinite().all()) for p in trained.parameters())):
            raise _diverged(epoch, learning_rate)
        if on_epoch:
            on_epoch(epoch, trained, total / len(x))
        state.save(epoch)
    return trained


def _attacked(attack: Attack, network: nn.Module, x: Tensor, y: Tensor, epoch: int, rate: float) -> Tensor:
    """Adversarial images; that there are none because the network has diverged is told as such."""
    try:
        return attack(network, x, y)
    except InputError:
        with torch.no_grad():
            if bool(network(x).isfinite().all()):
                raise
        raise _diverged(epoch, rate) from None


def _diverged(epoch: int, rate: float) -> NumericalFailure:
    return NumericalFailure(f"training diverged in epoch {epoch}: lower the learning rate {rate:g}.")


def _loss(f: Tensor, y: Tensor) -> Tensor:
    if not y.is_floating_point():
        return F.cross_entropy(f, y.long())
    if f.shape != y.shape:
        raise InputError(f"targets of the outputs' shape {tuple(f.shape)} were expected; {tuple(y.shape)} came.")
    return 0.5 * (f - y).square().sum(1).mean()


def _moving(network: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("the network has no parameter that requires a gradient; there is nothing to train.")
    return parameters


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    yield from torch.split(torch.randperm(n, generator=generator, device=generator.device), size)
