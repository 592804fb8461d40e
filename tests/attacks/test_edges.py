"""Where attacks go wrong quietly: saturated models, models without a gradient, ties, float32, other pixel ranges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ntklens.attacks import correct, evaluate, fgsm, logits_of, noise, pgd
from ntklens.attacks.balls import ascend, lengths, project

LINEAR = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 2.0, -0.5]])


def linear(x: Tensor) -> Tensor:
    return x @ LINEAR.to(x).T


def grey(n: int = 4, **options) -> Tensor:
    return torch.full((n, 3), 0.5, **options)


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1.0, 1e25, 1e38])
def test_the_l2_direction_does_not_depend_on_the_size_of_the_gradient(scale):
    g = torch.tensor([[3.0, -4.0, 0.0]])
    torch.testing.assert_close(ascend(g / 4 * scale, "l2"), g / 5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_saturated_model_is_still_attacked(norm):
    """Softmax gives the other class exp(-80): the squared gradient is 0 in float32, the gradient is not."""
    x, y = grey(), torch.zeros(4, dtype=torch.long)

    def confident(z: Tensor) -> Tensor:
        return linear(z) + torch.tensor([80.0, 0.0])

    step = fgsm(confident, x, y, 0.25, norm) - x
    down = ascend(LINEAR[1:].expand(4, -1), norm)
    torch.testing.assert_close(step, 0.25 * down)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10_000), st.floats(1e-3, 3.0), st.floats(1e-2, 1e4), st.sampled_from([(0.0, 1.0), (0.0, 255.0)]))
def test_the_l2_projection_in_float32_is_the_float64_one(seed, eps, reach, bounds):
    g, width = torch.Generator().manual_seed(seed), bounds[1]
    x = width * torch.rand(3, 40, generator=g).round(decimals=1)  # many pixels on a bound
    far = x + reach * torch.randn(3, 40, generator=g)
    near = project(far, x, eps, "l2", bounds)
    exact = project(far.double(), x.double(), eps, "l2", bounds)
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=2e-6 * width + 1e-5 * eps)
    assert ((near >= 0) & (near <= width)).all()
    assert (lengths(near - x) <= eps * (1 + 1e-6) + 1e-6 * width).all()


def test_the_l2_projection_reaches_the_sphere_wherever_the_box_leaves_room():
    x = torch.tensor([[0.0, 0.5, 0.5]], dtype=torch.float64)
    far = x + torch.tensor([[-5.0, 0.3, 0.4]])  # the first pixel cannot move: all of ε goes to the others
    torch.testing.assert_close(project(far, x, 0.25, "l2", (0, 1)), x + torch.tensor([[0.0, 0.15, 0.2]]).double())
    clipped = torch.tensor([[0.9, 0.5, 0.5]], dtype=torch.float64)
    x_adv = project(clipped + torch.tensor([[5.0, 5.0, 0.0]]), clipped, 0.25, "l2", (0, 1))
    torch.testing.assert_close(x_adv, torch.tensor([[1.0, 0.5 + (0.25**2 - 0.1**2) ** 0.5, 0.5]]).double())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_pixel_range_is_only_a_unit(norm, dtype):
    x = torch.rand(8, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    y = torch.arange(8) % 2
    small = pgd(linear, x, y, 0.2, norm, steps=4)
    wide = pgd(lambda z: linear(z / 255), 255 * x, y, 0.2 * 255, norm, steps=4, bounds=(0, 255))
    assert small.dtype == dtype
    torch.testing.assert_close(wide / 255, small)
    assert evaluate(lambda z: linear(z / 255), 255 * x, wide, y, 0.2 * 255, norm, (0, 255)).linf.max() > 0


def test_restarts_count_a_tie_as_the_classifier_does():
    """Equal logits go to the lower class: the image of class 1 is fooled, though its loss is lower than elsewhere."""
    tie, right = torch.tensor([1.0, 1.0, -9.0]), torch.tensor([0.0, 0.1, 0.0])

    def steps(z: Tensor) -> Tensor:
        return torch.where(z[:, :1] > 0.5, tie, right) + 0 * z

    x, y = grey(64), torch.ones(64, dtype=torch.long)
    g = torch.Generator().manual_seed(0)
    x_adv = pgd(steps, x, y, 0.1, steps=1, restarts=12, random_start=True, generator=g)
    assert not correct(steps, x_adv, y).any()


def test_an_attack_runs_where_gradients_are_switched_off_and_leaves_none_behind():
    x, y = grey(), torch.zeros(4, dtype=torch.long)
    model = nn.Linear(3, 2)
    with torch.no_grad():
        x_adv = pgd(model, x, y, 0.1)
    assert not torch.equal(x_adv, x)
    assert not x_adv.requires_grad
    assert torch.equal(x, grey())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_images_give_no_images(norm):
    x, y = grey(0), torch.zeros(0, dtype=torch.long)
    g = torch.Generator().manual_seed(0)
    assert pgd(linear, x, y, 0.1, norm, restarts=2, random_start=True, generator=g).shape == (0, 3)
    assert logits_of(linear, x).shape == (0, 2)
    assert noise(x, 0.1, norm, generator=g).shape == (0, 3)
    assert evaluate(linear, x, x, y, 0.1, norm).robust_accuracy.n == 0


def test_sizes_of_a_change_by_hand():
    x, y = grey(1), torch.zeros(1, dtype=torch.long)
    score = evaluate(linear, x, x + torch.tensor([[0.3, 0.0, -0.4]]), y, 0.5, "l2")
    assert [float(v) for v in (score.l0, score.l1, score.l2, score.linf)] == pytest.approx([2, 0.7, 0.5, 0.4])
    assert score.margins.item() == pytest.approx(2 * (0.8 - 2 * 0.5 + 0.5 * 0.1))
