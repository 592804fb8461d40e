"""Whether a network gives the same answer twice, from what it is given and from its parameters alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.empirical.copies import differentiable_copy
from ntklens.kernels.empirical.recording import largest, nearly_equal, not_a_function
from ntklens.modules import check_computed_in_forward, followed


def check_forward(network: nn.Module, x: Tensor, *, repeat: bool = True) -> None:
    """Run a copy of a network twice on the same inputs.

    Args:
        network: the network, a copy of the user's.
        x: (n, *shape).
        repeat: False leaves the second run out, for networks that may draw.

    Raises:
        InputError: the forward builds layers, reads a tensor that was computed from parameters before, or gives another
            answer the second time.
    """
    copied, _ = differentiable_copy(network, dict(network.named_parameters()))
    number, devices = len(list(copied.parameters())), [x.device] if x.is_cuda else []

    def run() -> Tensor:
        # With a graph to x, as where the network is differentiated: checkpoints of torch warn without one.
        outputs: Tensor = copied((x.detach().requires_grad_() if x.is_floating_point() else x).clone())
        return outputs

    with torch.random.fork_rng(devices), torch.enable_grad():
        with followed(copied) as names:
            f = run()
            check_computed_in_forward(f, names)
        if len(list(copied.parameters())) != number:
            raise InputError(
                "expected a network with all of its layers; got one that builds layers in its forward. Run the network "
                "once on a batch of inputs first."
            )
        if not repeat:
            return
        before = _random_states(x)
        again = run()
        if any(not torch.equal(a, b) for a, b in zip(before, _random_states(x), strict=True)):
            raise not_a_function("depend on chance")
    if f.shape != again.shape or not nearly_equal(f.detach(), again.detach(), largest(f)):
        raise InputError(
            "expected outputs that depend on the inputs and the weights alone; got other outputs when the network was "
            "called again, as from a state that it keeps between calls, or from chance. Reset the state in forward, or "
            "pass a module that does."
        )


def _random_states(x: Tensor) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(x.device)] if x.is_cuda else [])]
