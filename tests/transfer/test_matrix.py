"""Surrogates by name, and who is fooled by whom."""

import pytest
import torch

import ntklens as nl
from ntklens.errors import InputError
from ntklens.networks import build
from ntklens.transfer import Training, match_time, search_time, surrogate, transfer_matrix

EPS = 16 / 255


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini").first(600, 150)


def made(name: str, data, **options):
    return surrogate(name, data.train.x[:300], data.train.y[:300], 10, training=Training(epochs=6, width=32), **options)


def images(source, data, **options):
    g = torch.Generator().manual_seed(0)
    return source.images(data.test.x, data.test.y, EPS, loss="margin", generator=g, **options)


def test_untrained_kernels_fool_a_network_more_than_noise_and_a_linear_kernel(data):
    how = Training(epochs=8, width=32)
    victim = how.network("fc2", data.train.x, data.train.y, 10, seed=5)
    names = ["noise", "linear", "ntk:fc1", "net:fc2"]
    sources = {name: images(made(name, data), data, steps=3) for name in names}
    rows = {r.source: r for r in transfer_matrix(sources, {"fc2": victim}, data.test.x, data.test.y)}
    accuracy = {name: rows[name].accuracy.value for name in ["clean", *names]}
    assert accuracy["clean"] > 0.6
    assert accuracy["ntk:fc1"] < accuracy["linear"] - 0.02
    assert accuracy["ntk:fc1"] < accuracy["noise"] - 0.03
    row = rows["ntk:fc1"]
    before = victim(data.test.x).argmax(1) == data.test.y
    assert row.fooled.n == int(before.sum())
    assert row.fooled.value == pytest.approx(float((before & ~row.right).sum() / before.sum()))
    assert rows["clean"].fooled.value == 0.0


def test_what_is_trained_counts_its_gradients_and_what_is_fitted_has_none(data):
    assert made("ntk:fc1", data).gradient_evaluations == 0
    assert made("rbf", data).gradient_evaluations == 0
    assert made("net:fc1", data).gradient_evaluations == 6 * 300


def test_variants_share_a_model_and_change_the_images(data):
    models = {}
    plain, variant = (made(name, data, models=models) for name in ("net:small-cnn", "net:small-cnn+mi+di+ti"))
    assert plain.model is variant.model
    assert not torch.equal(images(plain, data, steps=3), images(variant, data, steps=3))


def test_the_same_seed_is_the_same_network(data):
    first, second, other = (made("net:fc1", data, seed=seed).model[1].weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["fc1", "ntk:", "noise+mi", "ntk:fc1+xi", "svm"])
def test_a_name_that_says_nothing(data, name):
    with pytest.raises(InputError, match="is not known: give noise, linear"):
        made(name, data)


def test_an_unknown_architecture(data):
    with pytest.raises(InputError, match="architecture"):
        made("ntk:vgg", data)


def test_the_time_is_searched_by_effect(data):
    """Of a convolutional network the machine with the likest outputs is a very early one, which fools it less."""
    victim = Training(epochs=12, width=32).network("small-cnn", data.train.x, data.train.y, 10, seed=5)
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc3", data.shape, 10)))
    machine.fit(data.train.x[:400], data.train.y[:400])
    aside = data.train.x[500:], data.train.y[500:]
    searched, matched = search_time(machine, victim, *aside, EPS, "linf"), match_time(machine, victim, aside[0])
    assert searched.queries == 1100
    x, y = data.test.x, data.test.y
    left = {}
    for name, found in (("search", searched), ("match", matched)):
        attacked = nl.fgsm(machine.refilter(found.filter), x, y, EPS, loss="margin")
        left[name] = float((victim(attacked).argmax(1) == y).double().mean())
    assert left["search"] <= left["match"]
    assert searched.fooled > 0.05


def test_outputs_of_more_classes_than_the_data_have(data):
    victim = Training(epochs=2, width=16).network("fc1", data.train.x, data.train.y, 10, seed=5)
    few = nl.load_dataset("fashion-mnist-mini", classes=[0, 1, 2]).first(100, 20)
    machine = nl.KernelMachine(nl.LinearKernel(), nl.Ridge(0.1)).fit(few.train.x, few.train.y)
    assert match_time(machine, victim, few.test.x).correlation > 0
