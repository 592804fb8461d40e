"""Accuracy against ε where the radius at which each image falls is known in closed form."""

import functools

import pytest
import torch
from torch import Tensor, nn

from ntklens.attacks import accuracy, accuracy_curve, fgsm, pgd
from ntklens.errors import InputError

RADII = (0.0, 0.01, 0.03, 0.1)


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    """Its boundary passes through the middle of the images."""
    model = nn.Linear(6, 2).double().requires_grad_(False)
    nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    model.bias.copy_(-0.5 * model.weight.sum(1))
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return 0.25 + 0.5 * torch.rand(200, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("attack", [fgsm, functools.partial(pgd, steps=3)])
def test_an_image_of_a_linear_model_falls_at_its_distance_from_the_boundary(linear, images, norm, dual, attack):
    y = linear(images).argmax(1)
    w = linear.weight[1] - linear.weight[0]
    scores = images @ w + linear.bias[1] - linear.bias[0]
    distance = scores.abs() / torch.linalg.vector_norm(w, ord=dual)
    curve = accuracy_curve(linear, images, y, RADII, attack, norm)
    for point in curve:
        assert torch.equal(point.correct, distance > point.eps)
    values = [point.accuracy.value for point in curve]
    assert values[0] == 1 > values[1] > values[2] > values[3]


def test_the_first_point_is_the_clean_accuracy_and_progress_ends_at_one(linear, images):
    y = torch.arange(200) % 2
    seen: list[float] = []
    curve = accuracy_curve(linear, images, y, RADII, batch_size=64, progress=seen.append)
    assert curve[0].accuracy == accuracy(linear, images, y)
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_an_attack_that_leaves_the_ball_is_refused(linear, images):
    def careless(model, x, y, eps, norm, *, bounds, batch_size):
        return fgsm(model, x, y, 2 * eps, norm, bounds=bounds, batch_size=batch_size)

    with pytest.raises(InputError, match=r"outside the radius 0\.01"):
        accuracy_curve(linear, images, torch.zeros(200, dtype=torch.long), [0.01], careless)
