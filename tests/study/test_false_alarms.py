"""The rules on features see nothing where there is nothing: the short version of `benchmarks.false_alarms`."""

import pytest
from benchmarks.false_alarms import CLASSES, of_outputs, verdicts

from ntklens.data import load_dataset
from ntklens.vocabulary import SEEN


@pytest.fixture(scope="module")
def whole():
    return load_dataset("fashion-mnist-mini", classes=CLASSES)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_seen_in_shuffled_labels(whole, seed):
    assert SEEN not in verdicts(80, 120, seed, shuffled=True, whole=whole, steps=3).values()


def test_with_labels_of_their_own_the_rules_see(whole):
    """The head and its order are seen on 400 test images; the tail may take more."""
    found = verdicts(150, 400, 0, shuffled=False, whole=whole, steps=3)
    assert found["C5"] == SEEN


def test_only_kernels_that_see_the_same_images_agree(whole):
    found = of_outputs(100, 120, 0, whole, k=10)
    assert found["fc1 and fc3"] == SEEN
    assert SEEN not in (found["a kernel that sees other images"], found["random features of the same spectrum"])
