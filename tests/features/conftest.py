"""Features of real images with two classes and with ten, which several tests share."""

import pytest

import ntklens as nl
from ntklens.networks import build


def features_of(classes):
    data = nl.load_dataset("fashion-mnist-mini", classes=classes).first(90, 40)
    outputs = 1 if classes is not None and len(classes) == 2 else 10
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, outputs)))
    return nl.eigenfeatures(machine.fit(data.train.x.double(), data.train.y)), data


@pytest.fixture(scope="session")
def binary():
    return features_of([2, 4])


@pytest.fixture(scope="session")
def ten():
    return features_of(None)
