"""How many outputs and inputs of an empirical kernel are taken at once, so that their tangents keep to the memory."""

from __future__ import annotations

from typing import NamedTuple

from ntklens.kernels.empirical.observe import Plan


class Steps(NamedTuple):
    """Outputs a round, and inputs a block within it."""

    rows: int
    block: int


def schedule(plan: Plan, inputs: int, numbers: int, *, chunks: bool) -> Steps:
    """Steps for so many inputs in all, in three quarters of so many numbers.

    All inputs are held together where that is possible, since blocks that meet in pairs are found again and again.
    `chunks` allows to part the outputs, which costs a forward pass a round: a trace is a sum over outputs.
    """
    held, rows = 3 * numbers // 4, plan.outputs
    if inputs * plan.entries(rows) <= held:
        return Steps(rows, inputs)
    if chunks and plan.each:
        fitting = (held // inputs - plan.fixed) // plan.each
        # in blocks, passes cost (rows + 1) / rows and their number grows with the entries: least at this root
        rows = min(rows, max(1, fitting if fitting >= 1 else round((plan.fixed / plan.each) ** 0.5)))
        rows = -(-plan.outputs // -(-plan.outputs // rows))
        if fitting >= 1:
            return Steps(rows, inputs)
    return Steps(rows, max(1, held // (2 * plan.entries(rows))))
