"""How many outputs and inputs an empirical kernel takes at once, so that their tangents fit into the memory limit."""

from __future__ import annotations

from typing import NamedTuple

from ntklens.kernels.empirical.plan import Plan


class Steps(NamedTuple):
    """The steps of a computation: rounds over outputs, and in each of them blocks of inputs.

    Attributes:
        outputs: outputs per round.
        inputs: inputs per block.
    """

    outputs: int
    inputs: int


def schedule(plan: Plan, inputs: int, capacity: int, *, rounds: bool) -> Steps:
    """Choose the steps whose tangents take at most three quarters of the capacity; the rest is left to the products.

    Args:
        plan: what one input takes.
        inputs: number of inputs of both batches together.
        capacity: how many numbers fit into the memory limit.
        rounds: whether the outputs may be divided among rounds, as for a trace, which is a sum over outputs. Each round
            repeats the forward pass, unless the pass of the last round can be kept.
    """
    budget, outputs = 3 * capacity // 4, plan.outputs
    # 1. All outputs of all inputs at once, where they fit: blocks that meet in pairs are computed again and again.
    if inputs * plan.numbers(outputs) <= budget:
        return Steps(outputs, inputs)
    if rounds and plan.per_output:
        # 2. Otherwise as many outputs of all inputs as fit.
        fitting = (budget // inputs - plan.fixed) // plan.per_output
        # If not even one does, inputs are taken in blocks too. With r outputs per round a block's passes cost (r + 1) / r
        # per output, and the number of blocks grows with fixed + r per_output; the product of the two is least at
        # r = sqrt(fixed / per_output).
        best_in_blocks = round((plan.fixed / plan.per_output) ** 0.5)
        outputs = min(outputs, max(1, fitting if fitting >= 1 else best_in_blocks))
        # the same number of rounds, with outputs divided evenly among them
        outputs = -(-plan.outputs // -(-plan.outputs // outputs))
        if fitting >= 1:
            return Steps(outputs, inputs)
    # 3. Two blocks of inputs meet at a time, so each takes half.
    return Steps(outputs, max(1, budget // (2 * plan.numbers(outputs))))
