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


def settled(distances, **more):
    """Rows with given distances to the end; the last record has none."""
    rows = path([0.02] * len(distances), **more)
    return [r | {"distance_to_end": d} for r, d in zip(rows, [*distances, math.nan], strict=True)]


def test_few_records_say_nothing_of_the_end():
    (first,) = advice(path([]), 0.01)
    assert (first.kind, first.epoch) == ("not known yet", 0)
    assert "it takes 6 records, and there is 1" in first.text
    assert "there are 5" in advice(settled([1.0, 0.1, 0.0, 0.0]), 0.01)[0].text


def test_a_kernel_that_moves_and_one_that_has_settled():
    (moving,) = advice(settled([1.0, 0.8, 0.6, 0.4, 0.2, 0.0]), 0.01)
    assert (moving.kind, moving.epoch) == ("moving", 6)
    assert (
        "90 % of its squared way to where it is now, in the centred and normalised kernel, were done within"
        in moving.text
    )
    rows = settled([1.0, 0.5, 0.05, 0.01, -0.01, 0.0])
    (still,) = advice(rows, 0.03)
    assert (still.kind, still.epoch) == ("settled", pytest.approx(1 + 0.4 / 0.45))
    assert "The kernel has settled at epoch 1.89" in still.text
    assert "linearize(network)" in still.text
    assert "noise of the steps" not in still.text
    assert "still moves by 0.02, in kernel distance: that is the noise of the steps" in advice(rows, 0.01)[0].text
    distance = torch.zeros(7, 7)
    distance[2, 6] = distance[6, 2] = 1 - math.cos(math.radians(25))
    (far,) = advice(rows, 0.01, distance)
    assert "changed by 25° since epoch 2, and by 34° since the first record" in far.text
    assert "plain angle of the kernel, another measure" in far.text
    (lost,) = advice([r | {"distance_with_noise": 0.6} for r in rows], 0.01, distance)
    assert lost.kind == "moving", "it wanders as far as it has come"
    assert "wanders about it by 60 % of its squared way" in lost.text
    (early,) = advice(settled([1.0, 0.5, 0.05, 0.0, 0.0], rank=[6.0, 2.5, 1.5, 1.5, 1.6, 1.7]), 0.01)
    assert early.kind == "not learning yet"


def test_it_is_linearised_from_the_weights_of_now():
    (still,) = advice(settled([1.0, 0.5, 0.05, 0.01, -0.01, 0.0]))
    assert "linearised from the weights of now, epoch 6" in still.text
    assert "those of the settling epoch among them, may cost accuracy" in still.text
    assert "in the centred and normalised kernel" in still.text


def test_a_far_step_of_the_whole_kernel_does_not_undo_what_the_figure_marks():
    """The plain distance from the settling record is as long as that from the first; the settling is not of it."""
    rows = [r | {"distance_with_noise": 0.1} for r in settled([1.0, 0.5, 0.05, 0.01, 0.0, 0.0])]
    distance = torch.full((7, 7), 0.03).fill_diagonal_(0)
    assert advice(rows, 0.01, distance)[0].kind == "settled"


def test_a_small_step_late_in_the_run_is_not_called_a_movement():
    late = [r | {"velocity": 0.0011} for r in settled([1.0, 0.8, 0.6, 0.4, 0.2, 0.05])]
    (quiet,) = advice([r | {"lr": 0.05 if t < 5 else 1e-4} for t, r in enumerate(late)])
    assert (quiet.kind, quiet.epoch) == ("not known yet", 6)
    assert "hardly moves, by a kernel distance of 0.0011" in quiet.text
    assert "near to where it is now at epoch 4.67, late in the run" in quiet.text
    assert "If it stays, that is known at epoch 8." in quiet.text
    assert "learning rate (lr) has fallen from 0.05 to 0.0001" in quiet.text
    assert advice(settled([1.0, 0.8, 0.6, 0.4, 0.2, 0.05]))[0].kind == "moving"


@pytest.mark.parametrize(("last", "told"), [(0.004, True), (0.006, False), (math.nan, False)])
def test_steps_that_became_small_are_told_beside_a_settled_kernel(last, told):
    rows = [r | {"lr": 0.05 if t < 6 else last} for t, r in enumerate(settled([1.0, 0.5, 0.05, 0.01, 0.0, 0.0]))]
    (still,) = advice(rows)
    assert still.kind == "settled"
    assert ("stand still because the steps became small" in still.text) == told


@pytest.mark.parametrize("distances", [[1.0, 0.5], [1.0, 0.5, 0.05, 0.01, 0.0, 0.0], [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]])
def test_where_the_initial_weights_were_not_recorded_that_is_told(distances):
    rows = settled(distances)
    assert "first record:" not in advice(rows)[0].text
    (later,) = advice([r | {"epoch": r["epoch"] + 1} for r in rows])
    assert "measured from epoch 1, the first record: record the initial weights as epoch 0" in later.text


def test_rows_of_an_earlier_version_are_not_judged():
    assert advice(path([0.001] * 9), 0.01)[0].kind == "moving"


def test_a_collapsed_kernel_is_told_before_all_else():
    (collapse,) = advice(path([0.1, 0.9, 0.0, 0.0], rank=[9, 8, 1.0, 1.0, 1.0]), 0.01)
    assert (collapse.kind, collapse.epoch) == ("collapsed", 2)


STEADY = [0.87, 0.88, 0.86, 0.87, 0.86, 0.87, 0.87]


def with_cosines(cosines, rank=None):
    rows = path([0.02] * (len(cosines) - 1), rank=rank)
    return [r | {"adversarial_cosine": c} for r, c in zip(rows, cosines, strict=True)]


def test_the_alarm_names_the_epoch_at_which_tangents_part_once():
    """It goes on for a few epochs with a flicker, is made good, and comes again."""
    rows = with_cosines([*STEADY, 0.85, 0.77, 0.84, 0.70, 0.71, 0.87, 0.88, 0.60])
    rows = [r | {"one_step_accuracy": 0.5, "robust_accuracy": 0.4} for r in rows]
    for row in (rows[8], rows[-1]):
        row |= {"one_step_accuracy": 0.95, "robust_accuracy": 0.1}
    first, second = overfitting_alarm(rows)
    assert (first.kind, first.epoch, second.epoch) == ("catastrophic overfitting", 8, 14)
    assert "mean cosine is 0.77, after 0.88 at epoch 1" in first.text
    assert "under the one-step attack went from 50 % to 95 %, and under PGD from 40 % to 10 %" in first.text
    assert [a.kind for a in advice(rows, 0.01, one_step=True)] == ["catastrophic overfitting"] * 2 + ["moving"]
    assert [a.kind for a in advice(rows, 0.01)] == ["moving"], "it is for one-step training alone"


@pytest.mark.parametrize(
    "rows",
    [
        with_cosines([*STEADY, 0.86, 0.87]),  # nothing happens
        with_cosines([0.6, *STEADY, 0.95]),  # they come together
        with_cosines([0.99, 0.98, 0.98, 0.97, 0.93, 0.88, 0.85], rank=[1.0, 1.1, 1.2, 1.3, 2.2, 5.0, 6.0]),  # it begins
        with_cosines([0.9, 0.7, 0.5]),  # the first epochs of any training
        with_cosines([math.nan, *STEADY, math.nan]),
        path([0.02] * 9),  # a tracker without an attack
        [
            r | {"one_step_accuracy": 0.5, "robust_accuracy": 0.4} for r in with_cosines([*STEADY, 0.7])
        ],  # accuracies stay
    ],
)
def test_no_alarm(rows):
    assert overfitting_alarm(rows) == []


def test_a_kernel_of_zeros_has_collapsed():
    rows = [r | {"trace": 0.0 if t > 1 else 9.0} for t, r in enumerate(path([0.9, math.nan], rank=[9.0, 8.0, 0.0]))]
    (collapse,) = advice(rows, 0.01)
    assert (collapse.kind, collapse.epoch) == ("collapsed", 2)
    assert "Since epoch 2 the kernel has been zero: no weight changes any output" in collapse.text
