"""The black-box search: what it may do, what it sees, and that it finds what a gradient finds."""

import pytest
import torch
from torch import nn

from ntklens.attacks import correct, pgd, square
from ntklens.attacks.run import Counted
from ntklens.errors import InputError


def task(n: int = 40, side: int = 8):
    """A linear classifier of images and images that it gets right, most of them by little."""
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(side * side, 3, bias=False))
    model[1].weight.data = torch.randn(3, side * side, generator=g)
    x = torch.rand(n, 1, side, side, generator=g)
    return model, x, model(x).argmax(1)


def run(model, x, y, norm, eps, **options):
    return square(model, x, y, eps, norm, generator=torch.Generator().manual_seed(1), **options)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.4)])
def test_it_stays_in_the_ball_and_fools_without_a_gradient(norm, eps):
    model, x, y = task()
    x_adv = run(lambda z: model(z).detach(), x, y, norm, eps, queries=300)
    change = (x_adv - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert float(size.max()) <= eps + 1e-6
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1
    by_search, by_gradient = correct(model, x_adv, y), correct(model, pgd(model, x, y, eps, norm, 20), y)
    assert int(by_search.sum()) < len(x)
    assert int((by_gradient & ~by_search).sum()) <= 1  # of a linear model the gradient finds all there is
    assert int(by_search.sum()) <= int(by_gradient.sum()) + 0.25 * len(x)


def test_an_image_is_left_alone_once_it_is_fooled_and_queries_are_counted():
    model, x, y = task()
    counted = Counted(model)
    run(counted, x, y, "linf", 0.05, queries=50)
    assert counted.gradients == 0
    assert len(x) < counted.queries < 50 * len(x)
    wrong = (y + 1) % 3
    counted = Counted(model)
    run(counted, x, wrong, "linf", 0.0, queries=50)
    assert counted.queries == len(x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batches_change_nothing_and_vectors_are_images_of_one_row(norm):
    model, x, y = task()
    whole = run(model, x, y, norm, 0.1, queries=30)
    assert torch.equal(whole, run(model, x, y, norm, 0.1, queries=30, batch_size=7))
    flat = run(model[1], x.flatten(1), y, norm, 0.1, queries=30)
    assert flat.shape == (40, 64)
    assert float((flat - x.flatten(1)).abs().max()) > 0


def test_numbers_that_do_not_fit():
    model, x, y = task()
    with pytest.raises(InputError, match="queries of 1 or more"):
        run(model, x, y, "linf", 0.1, queries=0)
    with pytest.raises(InputError, match="share"):
        run(model, x, y, "linf", 0.1, share=1.5)


def test_images_that_are_wrong_as_they_come_are_left_as_they_are():
    model, x, y = task()
    wrong = (y + 1) % 3
    assert torch.equal(run(model, x, wrong, "linf", 0.3, queries=20), x)
    assert run(model, x[:0].flatten(1), y[:0], "linf", 0.3, queries=3).shape == (0, 64)
