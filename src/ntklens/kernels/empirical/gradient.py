"""The gradient of the empirical kernel in its first inputs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.kernels.empirical.schedule import schedule
from ntklens.kernels.empirical.snapshot import Snapshot, network_errors


def kernel_gradient(snapshot: Snapshot, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
    """Compute d/dx1 of sum(weights * K(x1, x2)), keeping no graph.

    Args:
        snapshot: the network, with outputs "trace" or "pseudo".
        x1: (n1, *shape), floating point.
        x2: (n2, *shape).
        weights: (n1, n2).
    """
    with torch.inference_mode(False):
        weights = weights.detach().to(x1).clone()
        plan = snapshot.plan(x1)
        if snapshot.seeds is not None:  # the gradient of projections takes plain Jacobians
            plan = replace(plan, per_output=3 * sum(p.numel() for p in snapshot.network.parameters()))
        # A graph takes several times the memory of the tangents: each input counts as four.
        block_size = schedule(plan, 4 * (len(x1) + len(x2)), snapshot.capacity(x1), rounds=False).inputs
        blocks = zip(torch.split(x1, block_size), torch.split(weights, block_size), strict=True)
        with (
            network_errors(x1),
            sdpa_kernel(SDPBackend.MATH),
        ):  # torch's other ways of attention have no second derivative
            return torch.cat([_block_gradient(snapshot, x, x2, w, block_size) for x, w in blocks])


def _block_gradient(snapshot: Snapshot, x1: Tensor, x2: Tensor, weights: Tensor, block_size: int) -> Tensor:
    """Compute the gradient for one block of x1 by the chain rule through its tangents J.

        d/dx1 Σ_ij w_ij <J(x1_i), J(x2_j)>  =  (∂J/∂x1)ᵀ S    with    S = ∂/∂J Σ_ij w_ij <J(x1_i), J(x2_j)>

    J stands for the tensors that the tangents consist of. S is a sum over x2, taken block by block; the network, which is
    expensive to differentiate twice, is passed once for all of x2.
    """
    # 1. The tangents with a graph to x1.
    x = x1.clone().requires_grad_()
    with torch.enable_grad():
        tangents = snapshot.tangents(x)
    scale = snapshot.output_scale(snapshot.plan(x1))
    # 2. The same tangents as leaves: S is their gradient, and stops here.
    leaves = {name: t.with_tensors(iter([_leaf(s) for s in t.tensors()])) for name, t in tangents.items()}
    sums = {name: [torch.zeros_like(t) for t in block.tensors()] for name, block in leaves.items()}
    for x_block, w in zip(torch.split(x2, block_size), torch.split(scale * weights, block_size, 1), strict=True):
        with torch.no_grad():
            tangents2 = snapshot.tangents(x_block)
        for name, block in leaves.items():
            with torch.enable_grad():
                terms = block.terms(tangents2[name], full=False, capacity=snapshot.step_capacity(x1))
                for rows, columns, value in terms:
                    weighted = (w[rows, columns] * value).sum()
                    gradients = torch.autograd.grad(weighted, block.tensors(), retain_graph=True, allow_unused=True)
                    for total, gradient in zip(sums[name], gradients, strict=True):
                        if gradient is not None:
                            total += gradient
    # 3. Back from the tangents to x1. Some of their tensors do not depend on x1, such as the cotangents of a linear last
    #    layer, and torch refuses to differentiate those.
    ends = [t for tangent in tangents.values() for t in tangent.tensors()]
    totals = [total for block in sums.values() for total in block]
    dependent = [(end, total) for end, total in zip(ends, totals, strict=True) if end.requires_grad]
    if not dependent:
        return torch.zeros_like(x1)
    outputs, cotangents = zip(*dependent, strict=True)
    return torch.autograd.grad(outputs, x, cotangents, materialize_grads=True)[0]


def _leaf(t: Tensor) -> Tensor:
    return t.detach().requires_grad_()
