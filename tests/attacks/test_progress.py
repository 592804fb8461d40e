"""Attacks tell what share of their work is done, and are the same attacks."""

from functools import partial

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.attacks.run import METHODS

EPS = 8 / 255


@pytest.fixture(scope="module")
def task():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, 1, 6, 6, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).requires_grad_(False)
    return model, x, torch.arange(30) % 3


@pytest.mark.parametrize(
    ("attack", "reports"),
    [
        (partial(nl.fgsm, batch_size=10), 3),
        (partial(nl.pgd, steps=4), 4),
        (partial(nl.pgd, steps=4, batch_size=10), 12),
        (partial(nl.pgd, steps=4, restarts=2, random_start=True), 8),
    ],
)
def test_shares_grow_to_one_by_step_and_batch(task, attack, reports):
    shares, seeded = [], {}
    if "restarts" in attack.keywords:
        seeded = {"generator": torch.Generator().manual_seed(1)}
    x_adv = attack(*task, EPS, progress=shares.append, **seeded)
    assert shares == pytest.approx([(done + 1) / reports for done in range(reports)])
    if not seeded:
        assert torch.equal(x_adv, attack(*task, EPS))


def test_several_radii_are_parts_of_the_whole(task):
    shares = []
    nl.pgd(*task, [EPS, 2 * EPS], steps=2, progress=shares.append)
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_search_tells_its_queries(task):
    shares = []
    nl.square(*task, 1e-6, queries=5, generator=torch.Generator().manual_seed(0), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_receiver(task, method):
    generator = {"generator": torch.Generator().manual_seed(0)} if method in ("noise", "square") else {}
    shares = []
    result = nl.attack(*task, EPS, method, progress=shares.append, **generator)
    assert len(result.x_adv) == len(task[1])
    assert shares == sorted(shares)


def test_checks_tell_their_progress_and_how_many_images_each_looked_at(task):
    shares = []
    options = {"generator": torch.Generator().manual_seed(0), "steps": 2, "queries": 3}
    checks = nl.diagnose(*task, EPS, attacked=5, progress=shares.append, **options)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [check.images for check in checks] == [30] * 6 + [5] * 2
    assert [check.images for check in nl.diagnose(*task, EPS, **options)] == [30] * 8


def test_the_number_of_attacked_images_is_a_number(task):
    with pytest.raises(nl.InputError, match="attacked"):
        nl.diagnose(*task, EPS, attacked=0, generator=torch.Generator())
