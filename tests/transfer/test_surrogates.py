"""Surrogates by name: what they cost, what variants share, and names that are refused."""

import pytest
import torch

from ntklens.errors import InputError
from ntklens.transfer import surrogate


def images(source, data):
    g = torch.Generator().manual_seed(0)
    return source.images(data.test.x, data.test.y, 16 / 255, steps=3, loss="margin", generator=g)


def test_what_is_trained_counts_its_gradients_and_what_is_fitted_has_none(fitted):
    assert fitted("ntk:fc1").gradient_evaluations == 0
    assert fitted("rbf").gradient_evaluations == 0
    assert fitted("net:fc1").gradient_evaluations == 6 * 300


def test_variants_share_a_model_and_change_the_images(data, fitted):
    models = {}
    plain, variant = (fitted(name, models=models) for name in ("net:small-cnn", "net:small-cnn+mi+di+ti"))
    assert plain.model is variant.model
    assert variant.name == "net:small-cnn+mi+di+ti"
    assert not torch.equal(images(plain, data), images(variant, data))


def test_the_same_seed_is_the_same_network(fitted):
    first, second, other = (fitted("net:fc1", seed=seed).model[1].weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["ntk:", "noise+mi", "ntk:fc1+xi", "svm"])
def test_a_name_that_says_nothing(fitted, name):
    with pytest.raises(InputError, match="expected noise, linear"):
        fitted(name)


def test_an_unknown_architecture(fitted):
    with pytest.raises(InputError, match="architecture"):
        fitted("ntk:vgg")


def test_surrogates_have_an_output_for_classes_without_images(two_classes):
    x, y, test = two_classes.train.x[:40], two_classes.train.y[:40], two_classes.test.x[:3]
    assert surrogate("ntk:fc1", x, y, 5).model(test).shape == (3, 5)
    assert surrogate("linear", x, y, 2).model(test).shape == (3, 2)
