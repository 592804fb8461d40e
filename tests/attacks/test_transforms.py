"""Momentum, diversity of inputs, translation, targets, early stop, several radii."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ntklens.attacks import correct, fgsm, pgd, transforms
from ntklens.attacks.run import Counted
from ntklens.errors import InputError


def task(n: int = 30):
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 4))
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=g) / 4
    x = torch.rand(n, 2, 8, 8, generator=g)
    return model, x, model(x).argmax(1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_momentum_is_the_published_recurrence():
    """g <- μ g + ∇ / |∇|_1, x <- clip(x + α sign g) (Dong et al. 2018, algorithm 1), written out for two steps."""
    model, x, y = task(3)
    eps, alpha, expected, g = 0.1, 0.04, x, torch.zeros_like(x)
    for _ in range(2):
        z = expected.clone().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(z), y, reduction="sum"), z)
        g = 0.9 * g + grad / grad.flatten(1).abs().sum(1).reshape(-1, 1, 1, 1)
        expected = torch.minimum(torch.maximum(expected + alpha * g.sign(), x - eps), x + eps).clamp(0, 1)
    x_adv = pgd(model, x, y, eps, steps=2, step_size=alpha, momentum=0.9)
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-7)


def test_translation_is_a_weighted_sum_over_shifts():
    gradient = torch.zeros(1, 2, 7, 7)
    gradient[0, 1, 3, 3] = 1.0
    smooth = transforms.translated(gradient, 3)
    assert not smooth[0, 0].any()
    window = smooth[0, 1, 2:5, 2:5]
    assert float(window.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(window, window.flip(0).flip(1))
    assert float(window[0, 1] / window[1, 1]) == pytest.approx(float(torch.exp(torch.tensor(-4.5))))


def test_diversity_shrinks_into_a_frame_and_can_do_nothing():
    x = torch.ones(2, 1, 20, 20)
    numbers = torch.tensor([[0.9, 0.0, 0.5, 0.5], [0.1, 0.0, 0.5, 0.5]])
    shown = transforms.diverse(x, 0.5, numbers)
    torch.testing.assert_close(shown[0], x[0])
    assert float(shown[1].sum()) == pytest.approx(transforms.SMALLEST**2 * 400, rel=0.01)
    assert not shown[1, 0, 0].any()
    torch.testing.assert_close(shown[1], shown[1].flip(-1))  # in the middle


@pytest.mark.parametrize(
    "options", [{"momentum": 1.0}, {"diversity": 0.7}, {"translation": 3}, {"loss": "dlr"}, {"early_stop": True}]
)
def test_every_variant_fools_stays_in_the_ball_and_ignores_batches(options):
    model, x, y = task()

    def run(**more):
        return pgd(model, x, y, 0.15, generator=seeded(), **options, **more)

    x_adv = run()
    assert float((x_adv - x).abs().max()) <= 0.15 + 1e-6
    assert float(correct(model, x_adv, y).double().mean()) < 0.5
    torch.testing.assert_close(x_adv, run(batch_size=7), rtol=0, atol=1e-6)


def test_targets_are_reached():
    model, x, y = task()
    wanted = (y + 1) % 4
    x_adv = pgd(model, x, wanted, 0.5, targeted=True)
    assert float((model(x_adv).argmax(1) == wanted).double().mean()) > 0.8
    one = fgsm(model, x, wanted, 0.01, targeted=True)
    before, after = (F.cross_entropy(model(z).detach(), wanted) for z in (x, one))
    assert float(after) < float(before)


def test_early_stop_asks_less_and_keeps_the_first_success():
    model, x, y = task()
    counted, plain = Counted(model), Counted(model)
    stopped = pgd(counted, x, y, 0.15, steps=20, early_stop=True)
    last = pgd(plain, x, y, 0.15, steps=20)
    assert counted.gradients < plain.gradients == 20 * len(x)
    assert int(correct(model, stopped, y).sum()) <= int(correct(model, last, y).sum()) + 1
    assert float((stopped - x).abs().mean()) < float((last - x).abs().mean())


def test_several_radii_are_several_calls():
    model, x, y = task(8)
    radii = [0.02, 0.1]
    counted = Counted(model)
    together = fgsm(counted, x, y, radii)
    assert counted.gradients == len(x)
    torch.testing.assert_close(together, torch.stack([fgsm(model, x, y, e) for e in radii]))
    torch.testing.assert_close(
        pgd(model, x, y, radii, steps=3), torch.stack([pgd(model, x, y, e, steps=3) for e in radii])
    )
    relative = pgd(model, x, y, 0.1, steps=3, relative_step=0.5)
    torch.testing.assert_close(relative, pgd(model, x, y, 0.1, steps=3, step_size=0.05))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diversity": 0.5}, "needs a generator"),
        ({"diversity": 1.5, "generator": seeded()}, "probability"),
        ({"translation": 4}, "odd number"),
        ({"momentum": -1.0}, "momentum"),
        ({"loss": "hinge"}, "cross-entropy, margin, dlr"),
        ({"step_size": 0.1, "relative_step": 0.1}, "got both"),
    ],
)
def test_options_that_do_not_fit(options, message):
    model, x, y = task(2)
    with pytest.raises(InputError, match=message):
        pgd(model, x, y, 0.1, **options)


def test_transforms_need_images():
    x = torch.rand(2, 4)
    with pytest.raises(InputError, match="for diversity and translation"):
        pgd(nn.Linear(4, 2), x, torch.zeros(2, dtype=torch.long), 0.1, translation=3)


def test_no_radius():
    model, x, y = task(2)
    with pytest.raises(InputError, match="at least one"):
        fgsm(model, x, y, [])


def test_dlr_of_two_classes():
    x = torch.rand(2, 4)
    with pytest.raises(InputError, match="three classes"):
        fgsm(nn.Linear(4, 2), x, torch.zeros(2, dtype=torch.long), 0.1, loss="dlr")


def test_the_options_change_what_pgd_does():
    model, x, y = task(12)
    plain = pgd(model, x, y, 0.1, steps=4)
    smooth = pgd(model, x, y, 0.1, steps=4, translation=5)
    varied = pgd(model, x, y, 0.1, steps=4, diversity=0.7, generator=seeded())
    for other in (smooth, varied):
        assert 0.02 < float((other != plain).double().mean()) < 0.98
    rough, fine = (float((z - x).diff(dim=-1).abs().mean()) for z in (plain, smooth))
    assert fine < rough  # a smoothed gradient has fewer changes of sign
    assert torch.equal(varied, pgd(model, x, y, 0.1, steps=4, diversity=0.7, generator=seeded()))


def test_restarts_keep_the_start_that_comes_nearest_to_the_target():
    model, x, y = task(20)
    target = (y + 1) % 4
    options = {"targeted": True, "random_start": True, "steps": 2, "loss": "margin"}
    one, many = (pgd(model, x, target, 0.05, restarts=n, generator=seeded(), **options) for n in (1, 6))
    reached = [float((model(z).argmax(1) == target).double().mean()) for z in (one, many)]
    loss = [float(F.cross_entropy(model(z), target).detach()) for z in (one, many)]
    assert reached[1] >= reached[0]
    assert loss[1] < loss[0]
    stopped = pgd(model, x, target, 0.05, steps=8, targeted=True, early_stop=True)
    whole = pgd(model, x, target, 0.05, steps=8, targeted=True)
    there = [model(z).argmax(1) == target for z in (stopped, whole)]
    assert bool((there[0] | ~there[1]).all())
