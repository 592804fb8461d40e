"""The threat model: its steps, its ball, and values that no attack can have."""

import pytest
import torch

import ntklens as nl
from ntklens.attacks import Threat
from ntklens.attacks.balls import lengths


@pytest.mark.parametrize(
    ("threat", "length"),
    [
        (Threat(0.2), 0.2),
        (Threat(0.2, steps=10), 0.05),
        (Threat(0.2, steps=10, step_size=0.01), 0.01),
        (Threat(0.2, step_size=0.01), 0.01),
        (Threat(0.0, steps=10), 0.0),
    ],
    ids=str,
)
def test_a_step_is_as_long_as_stated_or_as_the_radius_says(threat, length):
    assert threat.step_length == pytest.approx(length)


def test_a_projection_is_on_the_ball_and_within_the_bounds():
    x = torch.full((1, 2), 0.5)
    far = x + torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(Threat(0.1).project(far, x), x + 0.1)
    torch.testing.assert_close(Threat(0.1, "l2").project(far, x), x + torch.tensor([[0.06, 0.08]]))
    torch.testing.assert_close(Threat(0.75, bounds=(0, 0.75)).project(far, x), torch.full((1, 2), 0.75))
    start = Threat(0.1, "l2").random_start(x.expand(50, 2), torch.Generator().manual_seed(0))
    assert 0.05 < float(lengths(start - x).max()) <= 0.1 + 1e-6


def test_the_names_at_the_top_and_in_the_features_are_the_same_class():
    assert nl.Threat is Threat is nl.features.Threat


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eps": -1.0}, "ε of 0 or more"),
        ({"norm": "l7"}, "expected the norm"),
        ({"bounds": (1, 0)}, "bounds as"),
        ({"steps": 0}, "steps as a whole number"),
        ({"steps": 2.5}, "steps as a whole number"),
        ({"step_size": -0.1}, "step_size above 0"),
        ({"step_size": 0.0}, "step_size above 0"),
        ({"step_size": float("nan")}, "step_size above 0"),
    ],
)
def test_a_threat_that_would_not_attack(untyped, values, message):
    with pytest.raises(nl.InputError, match=message):
        Threat(**({"eps": 8 / 255} | values))
