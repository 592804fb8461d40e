"""Training loops of the experiments: plain torch, seeded through a generator, the given network left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.errors import InputError, NumericalFailure

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, images, labels) -> the images to train on in their place."""


class Centred(nn.Module):
    """f(x; θ) - f(x; θ0): what the network has learned since its initialisation, which starts at zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.start = copy.deepcopy(network).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Difference of the two networks' outputs."""
        difference: Tensor = self.network(x) - self.start(x)
        return difference


class BinaryLogits(nn.Module):
    """A scalar classifier f (positive for class 1) as the two logits (-f/2, f/2)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 2) from outputs (n, 1)."""
        f: Tensor = self.network(x)
        return torch.cat([-f / 2, f / 2], 1)


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
        NumericalFailure: the loss has become infinite or NaN.
    """
    trained = copy.deepcopy(network)
    parameters = [p for p in trained.parameters() if p.requires_grad]
    for step in range(1, steps + 1):
        loss = 0.5 * (trained(x) - targets).square().sum()
        if not bool(torch.isfinite(loss)):
            raise NumericalFailure(
                f"gradient descent diverged at step {step}: lower the learning rate {learning_rate:g}."
            )
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=learning_rate)
        if on_step:
            on_step(step, float(loss.detach()))
    return trained


def train(
    network: nn.Module,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float = 0.9,
    attack: Attack | None = None,
    generator: torch.Generator,
    on_epoch: Callable[[int, nn.Module, float], None] | None = None,
) -> nn.Module:
    """A copy of the network after stochastic gradient descent on the cross-entropy.

    Args:
        network: images to logits.
        x: training images.
        y: class indices.
        epochs: passes over the data.
        batch_size: images a step.
        learning_rate: of SGD.
        momentum: of SGD.
        attack: adversarial training (Madry et al. 2018): each batch is replaced by what this makes of it.
        generator: order of the batches, and whatever the attack draws from it.
        on_epoch: called with (0, network, nan) before training and (epoch, network, mean loss) after each epoch.
    """
    if epochs < 1 or batch_size < 1:
        raise InputError(f"epochs and batch_size must be 1 or more; {epochs} and {batch_size} came.")
    trained = copy.deepcopy(network)
    optimiser = torch.optim.SGD(
        [p for p in trained.parameters() if p.requires_grad], lr=learning_rate, momentum=momentum
    )
    if on_epoch:
        on_epoch(0, trained, float("nan"))
    for epoch in range(1, epochs + 1):
        total = 0.0
        for part in _batches(len(x), batch_size, generator):
            images = x[part] if attack is None else attack(trained, x[part], y[part])
            loss = F.cross_entropy(trained(images), y[part].long())
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * len(part)
        if on_epoch:
            on_epoch(epoch, trained, total / len(x))
    return trained


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    yield from torch.split(torch.randperm(n, generator=generator), size)
