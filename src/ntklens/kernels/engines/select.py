"""The one place where an engine is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch

from ntklens.kernels.engines.base import Engine
from ntklens.kernels.engines.reference import ReferenceEngine
from ntklens.kernels.rules.graph import Graph

EngineName = Literal["auto", "reference"]
"""What a user may ask for: the fastest engine that runs a graph, or the plain torch recursion."""


def engine_for(
    graph: Graph, name: EngineName, device: torch.device, memory_limit: int, *, differentiable: bool
) -> Engine[Any]:
    """Return the first engine, fastest first, that runs the graph as it is asked to.

    Args:
        graph: the traced network.
        name: "auto", or "reference" for the plain torch recursion.
        device: where the inputs are.
        memory_limit: bytes of working memory beside a result.
        differentiable: whether autograd has to follow the call.
    """
    for engine in _candidates(name, device):
        if engine.supports(graph, device, differentiable=differentiable):
            return engine(graph, memory_limit)
    raise AssertionError("the reference engine supports every graph")


def plan_of(graph: Graph, name: EngineName, device: torch.device) -> str:
    """Return which engine computes the graph's values and gradients on a device, and why, in a sentence."""
    plain = "The plain recursion in torch runs this network"
    if name == "reference":
        return f'{plain}, as engine="reference" asks for.'
    if device.type != "cpu":
        return f"{plain} on {device.type}: the fused engine is for processors."
    from ntklens.kernels.engines.fused.adjoint import has_adjoint
    from ntklens.kernels.engines.fused.compiler import reads_tables, unsupported

    without = list(dict.fromkeys(f"{operation}, {why}" for operation, why in unsupported(graph)))
    if without:
        return f"{plain}: the fused engine has no instruction for {'; '.join(without)}."
    beyond = (
        " So does it for inputs at whose variances an activation's series is too long." if reads_tables(graph) else ""
    )
    if not has_adjoint(graph):
        return (
            "The fused engine for processors runs this network, values alone: with a shortcut around a pooling, gradients "
            f"take the plain recursion in torch, as does a call that autograd follows.{beyond}"
        )
    return (
        "The fused engine for processors runs this network, values and gradients; where autograd follows a call, the "
        f"plain recursion in torch does.{beyond}"
    )


def _candidates(name: EngineName, device: torch.device) -> Iterator[type[Engine[Any]]]:
    """Yield the engines that may be used, fastest first."""
    if name == "auto" and device.type == "cpu":
        # Numba takes a third of the import time of torch, so it is loaded at the first kernel value that needs it.
        from numba import config

        # Where the user has switched compilation off (NUMBA_DISABLE_JIT=1), there is no machine code to run.
        if not getattr(config, "DISABLE_JIT", False):
            from ntklens.kernels.engines.fused.engine import FusedEngine

            yield FusedEngine
    yield ReferenceEngine
