"""What the rows of a tracker say, on drawn paths whose truth is known."""

import math

import pytest
import torch

from ntklens.dynamics import advice, overfitting_alarm


def path(velocities, trace=None, rank=None):
    rows = []
    for t, v in enumerate([math.nan, *velocities]):
        row = {"epoch": float(t), "velocity": v, "angle": 0.1 * t, "trace": 100.0 * 1.01**t, "effective_rank": 9.0}
        rows.append(row | ({"trace": trace[t]} if trace else {}) | ({"effective_rank": rank[t]} if rank else {}))
    return rows


def test_nothing_recorded_says_nothing():
    assert advice([], 0.01) == []


def test_a_kernel_that_moves_and_one_that_has_stopped():
    (moving,) = advice(path([0.1] * 6), 0.01)
    assert (moving.kind, moving.epoch) == ("moving", 6)
    (lazy,) = advice(path([0.1, 0.02, 0.005, 0.004, 0.003, 0.002]), 0.01)
    assert (lazy.kind, lazy.epoch) == ("lazy", 3)
    assert "less than 0.01 an epoch (last: 0.002" in lazy.text
    assert "linearize(network)" in lazy.text
    distance = torch.zeros(7, 7)
    distance[3, 6] = distance[6, 3] = 1 - math.cos(math.radians(25))
    (far,) = advice(path([0.1, 0.02, 0.005, 0.004, 0.003, 0.002]), 0.01, distance)
    assert "turned by 25° since then, and by 34° since its start" in far.text
    (soon,) = advice(path([0.1, 0.1, 0.1, 0.005, 0.004]), 0.01)
    assert soon.kind == "moving", "two slow epochs are no regime"


def test_a_dead_network_is_told_before_all_else():
    (dead,) = advice(path([0.1, 0.9, 0.0, 0.0], rank=[9, 8, 1.0, 1.0, 1.0]), 0.01)
    assert (dead.kind, dead.epoch) == ("dead", 2)


STEADY = [0.05, 0.04, 0.035, 0.03, 0.03, 0.028, 0.03]


def test_the_alarm_names_the_epoch_at_which_kernel_and_spectrum_jump():
    traces = [100 * 1.02**t for t in range(8)] + [240.0, 245.0]
    rows = path([*STEADY, 0.4, 0.03], trace=traces)
    accuracies = [{"one_step_accuracy": 0.8, "robust_accuracy": 0.7}] * 8 + [
        {"one_step_accuracy": 0.95, "robust_accuracy": 0.1}
    ] * 2
    (found,) = overfitting_alarm([r | a for r, a in zip(rows, accuracies, strict=True)])
    assert (found.kind, found.epoch) == ("overfitting", 8)
    assert "85 points above that under PGD (before: 10)" in found.text


@pytest.mark.parametrize(
    ("velocities", "traces"),
    [
        ([*STEADY, 0.03, 0.03], None),  # nothing happens
        ([*STEADY, 0.4, 0.03], None),  # it turns, at its size
        ([*STEADY, 0.03, 0.03], [100 * 1.02**t for t in range(8)] + [240.0, 245.0]),  # it grows, and keeps its shape
        ([0.9, 0.5, 0.2], [1.0, 5.0, 9.0, 30.0]),  # the first epochs of any training
    ],
)
def test_no_alarm_without_both(velocities, traces):
    assert overfitting_alarm(path(velocities, trace=traces)) == []
