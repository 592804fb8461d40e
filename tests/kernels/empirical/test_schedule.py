"""Steps fit into the memory limit, and are as large as it allows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntklens.kernels.empirical.plan import Plan
from ntklens.kernels.empirical.schedule import schedule


def plan(outputs: int, fixed: int, per_output: int) -> Plan:
    return Plan({}, {}, outputs, torch.float32, fixed, per_output)


@pytest.mark.parametrize(
    ("capacity", "rounds", "steps"),
    [
        (4_000, True, (10, 20)),  # all at once: 20 (50 + 10 * 10) = 3000
        (3_996, True, (5, 20)),  # nine outputs of all inputs would fit, so two rounds of five
        (1_600, True, (1, 20)),  # one output of all inputs: 20 (50 + 10) = 1200
        (1_500, True, (2, 8)),  # none: blocks of inputs, and sqrt(50 / 10) outputs per round
        (3_996, False, (10, 9)),  # all outputs in blocks: two blocks of 150 numbers per input
        (1, True, (2, 1)),
    ],
)
def test_steps_by_hand(capacity, rounds, steps):
    assert schedule(plan(10, 50, 10), 20, capacity, rounds=rounds) == steps


@given(
    outputs=st.integers(1, 50),
    fixed=st.integers(0, 1000),
    per_output=st.integers(1, 1000),
    inputs=st.integers(1, 100),
    capacity=st.integers(1, 10_000_000),
    rounds=st.booleans(),
)
def test_two_blocks_fit_unless_a_block_is_one_input(outputs, fixed, per_output, inputs, capacity, rounds):
    p = plan(outputs, fixed, per_output)
    steps = schedule(p, inputs, capacity, rounds=rounds)
    held = inputs if steps.inputs == inputs else 2 * steps.inputs
    assert steps.inputs == 1 or held * p.numbers(steps.outputs) <= 3 * capacity // 4 + p.numbers(steps.outputs)
    assert 1 <= steps.outputs <= outputs
    assert rounds or steps.outputs == outputs
