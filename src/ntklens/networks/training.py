"""Training loops of the experiments: plain torch, with a generator as the source of chance; networks are copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ntklens.errors import InputError, NumericalFailure
from ntklens.kernels.empirical.repeated import check_forward
from ntklens.modules import copied
from ntklens.networks.checkpoint import Checkpoint

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, images, labels) -> attacked images, which are trained on in the place of the images."""


def gradient_descent(
    network: nn.Module,
    x: Float[Tensor, "n *shape"],
    targets: Float[Tensor, "n O"],
    *,
    steps: int,
    learning_rate: float,
    on_step: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Return a copy of the network after full-batch gradient descent on 1/2 Σ |f - y|².

    In the infinite-width limit, a `Centred` network in the NTK parametrisation that is trained in this way is the kernel
    machine with the filter `GradientDescent(steps, learning_rate)`.

    Args:
        network: inputs to outputs (n, O).
        x: all training inputs.
        targets: y.
        steps: number of steps.
        learning_rate: step length; above 2 / λ_1 of the tangent kernel the descent diverges.
        on_step: called after each step with its number, from 1, and the loss before it.

    Raises:
        InputError: steps or learning rate out of range, targets that do not fit the outputs, or nothing to train.
        NumericalFailure: the loss or a parameter has become infinite or NaN.
    """
    if steps < 1 or not learning_rate > 0:
        raise InputError(f"expected steps of 1 or more and a learning rate above 0; got {steps} and {learning_rate}.")
    trained = copied(network)
    parameters = _trainable(trained)
    check_forward(trained, x[:2], repeat=False)
    for step in range(1, steps + 1):
        f = trained(x)
        if f.shape != targets.shape:
            raise InputError(f"expected targets of the outputs' shape {tuple(f.shape)}; got {tuple(targets.shape)}.")
        loss = 0.5 * (f - targets).square().sum()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=learning_rate)
        # The loss is that before the step, so it tells of a divergence one step late. The last step has no successor:
        # its parameters are looked at.
        is_finite = step < steps or all(bool(p.isfinite().all()) for p in parameters)
        if not (bool(loss.isfinite()) and is_finite):
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
    """Return a copy of the network, in eval mode, after stochastic gradient descent.

    The loss is the cross-entropy for class indices, and the squared error 1/2 Σ |f - y|², averaged over images, for
    float targets. The copy is in training mode during its steps, and in eval mode when it is attacked and when
    `on_epoch` is called. Layers that draw, such as dropout, draw from torch's global generator.

    Args:
        network: images to logits.
        x: training images.
        y: class indices, or float targets of the outputs' shape.
        epochs: passes over the data.
        batch_size: images per step.
        learning_rate: learning rate of SGD.
        momentum: momentum of SGD.
        attack: adversarial training (Madry et al. 2018): makes the images of each batch that are trained on.
        generator: draws the order of the batches; an attack may draw from it too.
        on_epoch: called with (0, network, nan) before training and (epoch, network, mean loss) after each epoch.
        checkpoint: a safetensors file to write after each epoch, and to resume from when it exists. The result is, to the
            bit, that of a run that was never interrupted.

    Raises:
        InputError: a number out of range, labels that do not fit, or a checkpoint of another run.
        NumericalFailure: the loss or a parameter has become infinite or NaN.
    """
    if epochs < 1 or batch_size < 1:
        raise InputError(f"expected epochs and batch_size of 1 or more; got {epochs} and {batch_size}.")
    if len(x) != len(y):
        raise InputError(f"expected as many labels as images; got {len(x)} images and {len(y)} labels.")
    trained = copied(network).eval()
    trainable = _trainable(trained)
    check_forward(trained, x[:2], repeat=False)
    optimiser = torch.optim.SGD(trainable, lr=learning_rate, momentum=momentum)
    state = Checkpoint(checkpoint, trained, optimiser, generator, {"images": len(x), "batch_size": batch_size})
    done = state.resume()
    if on_epoch and not done:
        on_epoch(0, trained, float("nan"))
    for epoch in range(done + 1, epochs + 1):
        total = 0.0
        for indices in _batches(len(x), batch_size, generator):
            x_batch, y_batch = x[indices.to(x.device)], y[indices.to(y.device)]
            if attack is not None:
                x_batch = _attacked(attack, trained, x_batch, y_batch, epoch, learning_rate)
            trained.train()
            loss = _loss(trained(x_batch), y_batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            trained.eval()
            total += float(loss.detach()) * len(indices)
        if not (total < float("inf") and all(bool(p.isfinite().all()) for p in trained.parameters())):
            raise _diverged(epoch, learning_rate)
        if on_epoch:
            on_epoch(epoch, trained, total / len(x))
        state.save(epoch)
    return trained


def _attacked(attack: Attack, network: nn.Module, x: Tensor, y: Tensor, epoch: int, rate: float) -> Tensor:
    """Return attacked images; an attack that fails because the network has diverged raises NumericalFailure."""
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
        raise InputError(f"expected targets of the outputs' shape {tuple(f.shape)}; got {tuple(y.shape)}.")
    return 0.5 * (f - y).square().sum(1).mean()


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("expected a network with a parameter that requires a gradient; got none to train.")
    return parameters


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of n images in random order, `size` at a time."""
    yield from torch.split(torch.randperm(n, generator=generator, device=generator.device), size)
