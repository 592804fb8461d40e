import pytest
import torch

from ntklens.errors import InputError
from ntklens.targets import class_logits, class_targets, regression_targets


def test_two_classes_have_one_column_of_signs():
    assert class_targets(torch.tensor([0, 1]), 2).tolist() == [[-1.0], [1.0]]


def test_more_classes_are_one_hot():
    assert class_targets(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_cross_entropy_of_the_two_logits_is_the_binary_cross_entropy_of_f():
    f, y = torch.randn(20, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    ours = torch.nn.functional.cross_entropy(class_logits(f), y)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(f[:, 0], y.double())
    torch.testing.assert_close(ours, theirs)


def test_class_indices_and_float_targets_of_a_regression():
    assert torch.equal(regression_targets(torch.tensor([1, 0]), 2), class_targets(torch.tensor([1, 0]), 2))
    assert torch.equal(regression_targets(torch.tensor([2, 0]), 2), class_targets(torch.tensor([2, 0]), 3))
    y = torch.tensor([[0.5], [2.0]])
    assert torch.equal(regression_targets(y, 2), y.double())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1]), "expected y as 3 class indices"),
        (torch.tensor([True, False, True]), "expected y as 3 class indices"),
        (torch.tensor([0, 0, 0]), "at least two classes; got the classes 0"),
        (torch.tensor([-1, 0, 1]), "class indices from 0 on, of at least two classes; got the classes -1, 0, 1"),
        (torch.zeros(2, 2), r"expected y as float targets of shape \(3, outputs\); got \(2, 2\)"),
        (torch.full((3, 1), torch.nan), r"y without NaN and infinite values; got nan at y\[0, 0\]"),
    ],
)
def test_targets_that_do_not_fit(y, message):
    with pytest.raises(InputError, match=message):
        regression_targets(y, 3)
