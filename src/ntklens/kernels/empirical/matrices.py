"""Matrices of the empirical kernel, added up from blocks of inputs and rounds of outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ntklens.kernels.empirical.layerwise import ForwardPass
from ntklens.kernels.empirical.schedule import schedule
from ntklens.kernels.empirical.snapshot import Snapshot
from ntklens.kernels.empirical.tangents import add_products


def kernel_matrices(snapshot: Snapshot, x1: Tensor, x2: Tensor | None, *, per_layer: bool) -> dict[str, Tensor]:
    """Compute the kernel matrix of each layer by its name, or their sum under the name "".

    Args:
        snapshot: the network.
        x1: (n1, *shape).
        x2: (n2, *shape); None for x1 with itself, which is exactly symmetric and takes half of the products.
        per_layer: whether to return one matrix per layer instead of their sum.

    Returns:
        Matrices (n1, n2), or (n1, n2, O, O) for full outputs.
    """
    with torch.inference_mode(False), torch.no_grad():
        plan, full = snapshot.plan(x1), snapshot.outputs == "full"
        inputs = len(x1) + (0 if x2 is None else len(x2))
        steps = schedule(plan, inputs, snapshot.capacity(x1), rounds=snapshot.outputs == "trace")
        names = [*plan.layers, *plan.rest] if per_layer else [""]
        # The axes of full outputs stay in the order of the products, (O, n1, O, n2), until the sum is complete.
        n1, n2 = len(x1), len(x1 if x2 is None else x2)
        shape = (plan.outputs, n1, plan.outputs, n2) if full else (n1, n2)
        totals = {name: torch.zeros(shape, dtype=plan.dtype, device=x1.device) for name in names}
        passes: dict[str, ForwardPass] = {}
        for start in range(0, snapshot.differentiated_outputs(plan), steps.outputs):
            outputs = slice(start, start + steps.outputs)
            _add_round(snapshot, totals, x1, x2, outputs, steps.inputs, passes)
        if x2 is None:
            totals = {name: _symmetric(total, steps.inputs) for name, total in totals.items()}
        return {name: _scaled(total, plan.outputs, snapshot.outputs) for name, total in totals.items()}


def _add_round(
    snapshot: Snapshot,
    totals: dict[str, Tensor],
    x1: Tensor,
    x2: Tensor | None,
    outputs: slice,
    block_size: int,
    passes: dict[str, ForwardPass],
) -> None:
    """Add the terms of some outputs to the totals, block by block.

    Without x2 only the blocks on and above the diagonal are computed. A side that is a single block keeps its forward
    pass in `passes` for the next round; forward passes of several blocks would not fit the memory.
    """
    full, capacity = snapshot.outputs == "full", snapshot.step_capacity(x1)
    blocks1 = list(zip(_slices(len(x1), block_size), torch.split(x1, block_size), strict=True))
    blocks2 = blocks1
    if x2 is not None:
        blocks2 = list(zip(_slices(len(x2), block_size), torch.split(x2, block_size), strict=True))
    for i, (rows, x_rows) in enumerate(blocks1):
        tangents1 = snapshot.tangents(x_rows, outputs, passes, "first" if len(blocks1) == 1 else "")
        for j in range(i if x2 is None else 0, len(blocks2)):
            columns, x_columns = blocks2[j]
            # On the diagonal both sides are the very same blocks, by which products know that they are symmetric.
            tangents2 = (
                tangents1
                if x2 is None and i == j
                else snapshot.tangents(x_columns, outputs, passes, "second" if len(blocks2) == 1 else "")
            )
            for name, tangent in tangents1.items():
                total = totals["" if "" in totals else name]
                view = total[:, rows, :, columns] if full else total[rows, columns]
                add_products(tangent, tangents2[name], view, full=full, capacity=capacity)


def _symmetric(total: Tensor, block_size: int) -> Tensor:
    """Return a matrix whose lower blocks are the mirror image of the upper ones, exactly symmetric within blocks too."""
    mirrored = (2, 3, 0, 1) if total.ndim == 4 else (1, 0)
    for block in _slices(len(total) if total.ndim == 2 else total.shape[1], block_size):
        later = slice(block.stop, None)
        if total.ndim == 4:
            total[:, later, :, block] = total[:, block, :, later].permute(mirrored)
        else:
            total[later, block] = total[block, later].permute(mirrored)
    return (total + total.permute(mirrored)) / 2


def _scaled(total: Tensor, outputs: int, kind: str) -> Tensor:
    """Return a full matrix as (n1, n2, O, O), and the trace divided by the number of outputs."""
    if total.ndim == 4:
        return total.permute(1, 3, 0, 2).contiguous()
    return total / outputs if kind == "trace" else total


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
