"""Copies of a network on which it is differentiated."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ntklens.modules import sharing_copy


def differentiable_copy(network: nn.Module, values: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Return a copy of the modules in which some parameters are new leaves of a graph, and these leaves.

    The leaves take the place of the parameters wherever the copy refers to them. `torch.func.functional_call` exchanges
    registered parameters only: a network that also keeps its weights in a list of its own runs on the old ones, and the
    gradient in the new ones is then zero.

    Args:
        network: the network; its parameters that are not named in `values` become constants.
        values: values of the new leaves, whose memory they share, by the names of the parameters.
    """
    leaves = {name: nn.Parameter(value.detach()) for name, value in values.items()}
    constants = {
        name: nn.Parameter(p.detach(), requires_grad=False)
        for name, p in network.named_parameters()
        if name not in leaves
    }
    return sharing_copy(network, leaves | constants), leaves
