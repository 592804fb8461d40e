"""Data and models that several tests of transfer share."""

import pytest

import ntklens as nl
from ntklens.transfer import Surrogate, TrainingRecipe, surrogate


@pytest.fixture(scope="session")
def data():
    return nl.load_dataset("fashion-mnist-mini").first(600, 150)


@pytest.fixture(scope="session")
def two_classes():
    return nl.load_dataset("fashion-mnist-mini", classes=[2, 4]).first(200, 60)


@pytest.fixture(scope="session")
def fitted(data):
    """A surrogate by name, fitted or trained on the first half of the training images."""
    x, y = data.train.x[:300], data.train.y[:300]

    def fit(name: str, **options) -> Surrogate:
        return surrogate(name, x, y, 10, training=TrainingRecipe(epochs=6, width=32), **options)

    return fit
