"""Attacks against closed forms, their laws, and the sentences for what does not fit."""

import math

import pytest
import torch
from torch import Tensor, nn

from ntklens.attacks import Evaluation, accuracy, correct, evaluate, fgsm, noise, pgd
from ntklens.errors import InputError

EPS = 0.03


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2))).double()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 3))).double()


def seeded(make) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def images(n: int = 20) -> Tensor:
    """Away from the edges, so that no bound cuts an attack short."""
    return 0.25 + 0.5 * torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def labels(n: int = 20, classes: int = 2) -> Tensor:
    return torch.arange(n) % classes


def gap(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Logit of the true class minus the other's."""
    logits = model(x)
    return logits.gather(1, y[:, None])[:, 0] - logits.gather(1, 1 - y[:, None])[:, 0]


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_on_a_linear_model_the_optimum_is_reached(linear, norm, dual, attack):
    x, y = images(), labels()
    w = (linear[1].weight[1] - linear[1].weight[0]).detach()
    drop = gap(linear, x, y) - gap(linear, attack(linear, x, y, EPS, norm), y)
    expected = torch.full_like(drop, EPS * float(torch.linalg.vector_norm(w, ord=dual)))
    torch.testing.assert_close(drop, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_steps_do_not_make_it_weaker(network, norm):
    x, y = images(), labels(classes=3)

    def loss(z: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(z), y)

    one, ten = fgsm(network, x, y, 0.2, norm), pgd(network, x, y, 0.2, norm, steps=10)
    assert loss(x) < loss(one) <= loss(ten) + 1e-9


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_results_stay_in_the_ball_and_the_bounds(network, norm):
    x, y = torch.rand(20, 3, 2, 2, generator=torch.Generator().manual_seed(2)).double(), labels(classes=3)
    g = torch.Generator().manual_seed(0)
    x_adv = pgd(network, x, y, 0.3, norm, steps=5, restarts=2, random_start=True, generator=g)
    score = evaluate(network, x, x_adv, y, 0.3, norm)
    assert isinstance(score, Evaluation)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


def test_batch_size_does_not_change_the_answer(network):
    x, y = images(), labels(classes=3)

    def run(size: int | None) -> Tensor:
        g = torch.Generator().manual_seed(3)
        return pgd(network, x, y, 0.1, steps=4, restarts=3, random_start=True, generator=g, batch_size=size)

    assert torch.allclose(run(None), run(7), rtol=0, atol=1e-12)
    assert torch.equal(run(7), run(7))


def test_restarts_keep_the_worst(network):
    x, y = images(), labels(classes=3)

    def loss(restarts: int) -> Tensor:
        g = torch.Generator().manual_seed(4)
        x_adv = pgd(network, x, y, 0.3, steps=1, restarts=restarts, random_start=True, generator=g)
        logits = network(x_adv)
        wrong = logits.argmax(1) != y
        return nn.functional.cross_entropy(logits, y, reduction="none") + 1e3 * wrong

    assert (loss(5) >= loss(1) - 1e-12).all()
    assert (loss(5) > loss(1) + 1e-9).any()


def test_zero_radius_and_zero_gradient_return_the_image():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    nn.init.zeros_(flat[1].weight)
    x, y = images(), labels()
    assert torch.equal(fgsm(flat, x, y, 0.1), x)
    assert torch.equal(pgd(flat, x, y, 0.1, "l2"), x)
    assert torch.equal(pgd(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2))).double(), x, y, 0.0), x)


def test_the_model_and_the_global_generator_are_left_alone(network):
    network.train()
    state = torch.random.get_rng_state()
    fgsm(network, images(), labels(classes=3), EPS)
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


def test_noise_is_as_large_as_the_attack():
    x, g = images(), torch.Generator().manual_seed(0)
    assert torch.allclose((noise(x, EPS, generator=g) - x).abs(), torch.full_like(x, EPS))
    sizes = (noise(x, EPS, "l2", generator=g) - x).flatten(1).norm(dim=1)
    assert torch.allclose(sizes, torch.full_like(sizes, EPS))


def test_evaluation_counts_again(network):
    x, y = images(), labels(classes=3)
    x_adv = pgd(network, x, y, 0.3)
    score = evaluate(network, x, x_adv, y, 0.3)
    before, after = correct(network, x, y), correct(network, x_adv, y)
    assert torch.equal(score.success, before & ~after)
    assert score.clean_accuracy == accuracy(network, x, y)
    assert torch.equal(score.margins < 0, ~after)
    with pytest.raises(InputError, match="outside the radius"):
        evaluate(network, x, x_adv, y, 0.1)


MISFITS = {
    "negative radius": ({"eps": -0.1}, "ε of 0 or more"),
    "radius not a number": ({"eps": math.nan}, "ε of 0 or more"),
    "unknown norm": ({"norm": "l1"}, 'expected the norm "linf" or "l2"'),
    "pixels out of bounds": ({"x": images() * 255}, "Rescale them"),
    "NaN pixels": ({"x": images() * math.nan}, r"x without NaN and infinite values; got nan at x\[0, 0, 0, 0\]"),
    "bytes": ({"x": (images() * 255).byte()}, "x as floating-point pixels"),
    "too few labels": ({"y": labels(19)}, "20 class indices"),
    "labels beyond the logits": ({"y": labels(20, 5)}, "because the model has 3 logits"),
    "no steps": ({"steps": 0}, "steps as a whole number of 1 or more"),
    "restarts from one point": ({"restarts": 3}, "restarts from one"),
    "no generator": ({"random_start": True}, "needs a generator"),
    "scalar model": ({"model": nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).double()}, "one scalar output"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_said_in_a_sentence(network, name, untyped):
    changed, message = MISFITS[name]
    arguments = {"model": network, "x": images(), "y": labels(classes=3), "eps": EPS} | changed
    model, x, y, eps = (arguments.pop(k) for k in ("model", "x", "y", "eps"))
    with pytest.raises(InputError, match=message):
        pgd(model, x, y, eps, **arguments)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        fgsm(lambda x: x.flatten(1)[:, :2] / 0, images(), labels(), EPS)
