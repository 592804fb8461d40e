"""Arguments and models that no attack can work with are refused in a sentence."""

import pytest
import torch
from torch import Tensor

from ntklens.attacks import evaluate, fgsm, pgd
from ntklens.errors import InputError


def linear(x: Tensor) -> Tensor:
    return x @ torch.tensor([[1.0, -2.0, 0.5], [-1.0, 2.0, -0.5]]).to(x).T


def grey(n: int = 4, **options) -> Tensor:
    return torch.full((n, 3), 0.5, **options)


SILENT = {
    "detached": lambda z: linear(z).detach(),
    "constant": lambda z: torch.ones(len(z), 2, requires_grad=True),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_model_without_a_gradient_is_named(name):
    with pytest.raises(InputError, match="no gradient in the images"):
        fgsm(SILENT[name], grey(), torch.zeros(4, dtype=torch.long), 0.1)


def test_a_gradient_that_is_not_finite_is_named():
    def kinked(z: Tensor) -> Tensor:
        return linear((z - 0.5).abs().sqrt())

    with pytest.raises(InputError, match="gradient of the loss is not finite"):
        fgsm(kinked, grey(), torch.zeros(4, dtype=torch.long), 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": float("nan")}, "step_size"),
        ({"step_size": -0.1}, "step_size above 0"),
        ({"step_size": 0.0}, "step_size above 0"),
        ({"bounds": (1, 0)}, "bounds as"),
        ({"batch_size": 0}, "batch_size as a whole number of 1 or more"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        pgd(linear, grey(), torch.zeros(4, dtype=torch.long), 0.1, **options)


@pytest.mark.parametrize(
    ("x_adv", "eps", "message"),
    [
        (grey() + 0.2, 0.1, "outside the radius"),
        (grey() + 0.1, float("nan"), "ε of 0 or more"),
        (grey() + 0.7, 0.9, "expected pixels of x_adv between"),
        (grey(3), 0.1, "like the clean ones"),
        (grey(dtype=torch.float64), 0.1, "like the clean ones"),
    ],
)
def test_scores_of_images_that_no_attack_may_give(x_adv, eps, message):
    with pytest.raises(InputError, match=message):
        evaluate(linear, grey(), x_adv, torch.zeros(4, dtype=torch.long), eps)


def test_arrays_and_lists_are_attacked_like_tensors(untyped):
    expected = fgsm(linear, grey(), torch.zeros(4, dtype=torch.long), 0.1)
    assert torch.equal(fgsm(linear, grey().numpy(), [0] * 4, 0.1), expected)


@pytest.mark.parametrize(
    ("norm", "eps", "largest"), [("linf", 8, "did you mean 8/255"), ("l2", 8, "at most 1.73205 in l2")]
)
def test_a_radius_beyond_the_range_of_the_pixels_is_a_mistake(norm, eps, largest):
    with pytest.raises(InputError, match=largest):
        fgsm(linear, grey(), torch.zeros(4, dtype=torch.long), eps, norm)
    assert fgsm(linear, 100 * grey(), torch.zeros(4, dtype=torch.long), eps, norm, bounds=(0, 255)).isfinite().all()
