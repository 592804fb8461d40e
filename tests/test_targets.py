import torch

from ntklens.targets import class_logits, class_targets


def test_two_classes_have_one_column_of_signs():
    assert class_targets(torch.tensor([0, 1]), 2).tolist() == [[-1.0], [1.0]]


def test_more_classes_are_one_hot():
    assert class_targets(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_cross_entropy_of_the_two_logits_is_the_binary_cross_entropy_of_f():
    f, y = torch.randn(20, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    ours = torch.nn.functional.cross_entropy(class_logits(f), y)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(f[:, 0], y.double())
    torch.testing.assert_close(ours, theirs)
