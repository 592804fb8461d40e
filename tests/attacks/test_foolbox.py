"""Another library as an oracle: foolbox on the same trained network and on the kernel machine."""

import warnings

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.networks import build, train

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")

EPS = 8 / 255


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini", classes=[2, 4]).first(200, 100)


@pytest.fixture(scope="module", params=["network", "machine"])
def model(request, data) -> nn.Module:
    if request.param == "machine":
        kernel = nl.analytic_kernel(build("fc1", (1, 28, 28), 1))
        return nl.KernelMachine(kernel).fit(data.train.x, data.train.y).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build("small-cnn", (1, 28, 28), 2, width=16)
    options = {"epochs": 15, "batch_size": 20, "learning_rate": 0.05, "generator": torch.Generator().manual_seed(0)}
    return train(net, data.train.x, data.train.y, **options).eval()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_finds_what_foolbox_finds(model, data, norm):
    x, y = data.test.x, data.test.y
    attacks = {"linf": (foolbox.attacks.LinfPGD, EPS), "l2": (foolbox.attacks.L2PGD, 1.0)}
    make, eps = attacks[norm]
    theirs = make(steps=10, abs_stepsize=eps / 4, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, found, _ = theirs(wrapped, x, y, epsilons=eps)
    ours = nl.pgd(model, x, y, eps, norm, steps=10, step_size=eps / 4)
    robust = [float((model(z).argmax(1) == y).double().mean()) for z in (ours, found)]
    clean = float((model(x).argmax(1) == y).double().mean())
    assert robust[0] < clean - 0.1
    assert robust[0] == pytest.approx(robust[1], abs=0.02)
    if norm == "linf":  # in l2 the libraries meet the pixel bounds in different ways
        same = ((ours - found).abs() < 1e-5).double().mean()
        assert same > 0.97  # the sign of a gradient that is zero to rounding may differ


def test_one_step_is_foolboxs(model, data):
    x, y = data.test.x, data.test.y
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, found, _ = foolbox.attacks.LinfFastGradientAttack(random_start=False)(wrapped, x, y, epsilons=EPS)
    agree = ((nl.fgsm(model, x, y, EPS) - found).abs() < 1e-6).double().mean()
    assert agree > 0.99


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_away_from_the_pixel_bounds_every_image_is_foolboxs(model, data, norm):
    x, y, wide = data.test.x, data.test.y, (-10.0, 10.0)
    make, eps = {"linf": (foolbox.attacks.LinfPGD, EPS), "l2": (foolbox.attacks.L2PGD, 1.0)}[norm]
    wrapped = foolbox.PyTorchModel(model, bounds=wide, device="cpu")
    _, found, _ = make(steps=10, abs_stepsize=eps / 4, random_start=False)(wrapped, x, y, epsilons=eps)
    ours = nl.pgd(model, x, y, eps, norm, steps=10, step_size=eps / 4, bounds=wide)
    assert ((ours - found).abs() < 1e-5).double().mean() > (0.97 if norm == "linf" else 0.999)
