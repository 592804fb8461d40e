"""The finite networks of the width study: how they start, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ntklens.errors import NumericalFailure
from ntklens.networks import BinaryLogits, gradient_descent, ntk_parametrize
from ntklens.study.context import Context
from ntklens.study.spec import LazySpec
from ntklens.study.streams import NetworkStream


def initial_network(context: Context, width: int, seed: int, *, standard: bool = False) -> nn.Module:
    """Build a network of the kernel's architecture at initialisation; of an empirical kernel, the network itself.

    Args:
        context: of the experiment.
        width: hidden units or channels of an architecture; a user's network has its own.
        seed: of the weights.
        standard: keep torch's own parametrisation instead of the NTK parametrisation.
    """
    kernel = context.spec.kernel
    if kernel.kind == "empirical":
        return context.tangent_network(context.network)
    torch_seed = context.seed(width, seed, NetworkStream.TORCH_WEIGHTS)
    network = context.network.build(context.data.shape, context.outputs, width=width, seed=torch_seed)
    network = network.to(context.spec.device)
    if standard:
        return network
    # The NTK parametrisation draws its own weights; those of the build are not used.
    generator = context.generator(width, seed)
    return ntk_parametrize(network, kernel.w_std, kernel.b_std, generator=generator).to(context.spec.device)


def with_logits(context: Context, network: nn.Module) -> nn.Module:
    """Return the network with one logit per class."""
    return BinaryLogits(network) if context.outputs == 1 else network


def regression_targets(context: Context) -> Tensor:
    """Return the targets that networks are trained on: those of the kernel machine."""
    return context.machine.targets.to(context.train[0])


def descended(
    context: Context,
    network: nn.Module,
    steps: int,
    learning_rate: float,
    on_step: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train a network by full-batch gradient descent; its output has one logit per class."""
    trained = gradient_descent(
        network,
        context.train[0],
        regression_targets(context),
        steps=steps,
        learning_rate=learning_rate,
        on_step=on_step,
    )
    return with_logits(context, trained)


def descended_unless_divergent(
    context: Context, spec: LazySpec, network: nn.Module, learning_rate: float
) -> nn.Module | None:
    """Train a network by full-batch gradient descent; return None where it diverges."""
    try:
        return descended(context, network, spec.steps, learning_rate)
    except NumericalFailure:
        return None
