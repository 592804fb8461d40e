"""Features as functions: their outputs at held-out images, eigenspaces that are compared, and what chance gives."""

import numpy as np
import pytest
import torch

import ntklens as nl
from ntklens.errors import InputError
from ntklens.features import (
    chance_of_outputs,
    common_spaces,
    feature_outputs,
    output_agreement,
    output_cosine,
    principal_cosines,
    random_features,
)
from ntklens.kernels import RBFKernel
from ntklens.study.claims.base import decide
from ntklens.vocabulary import CONTRADICTED, SEEN


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def basis(n, k, seed=0):
    return torch.linalg.qr(torch.randn(n, k, generator=seeded(seed), dtype=torch.float64))[0]


def test_outputs_add_up_to_the_machine(binary):
    """With the weights v_iᵀ Y the scalars of all features are the outputs of the machine."""
    features, data = binary
    x = data.test.x.double()
    outputs = feature_outputs(features, x, len(features))
    torch.testing.assert_close(outputs @ features.weights, features.machine.outputs(x), rtol=1e-7, atol=1e-8)


def test_on_the_training_images_outputs_are_eigenvectors(binary):
    features, data = binary
    outputs = feature_outputs(features, data.train.x.double(), 5)
    torch.testing.assert_close(outputs, features.eigenvectors[:, :5], rtol=1e-7, atol=1e-8)


DISTINCT = torch.tensor([16.0, 8.0, 4.0, 2.0], dtype=torch.float64)


def test_spaces_are_pairs_where_eigenvalues_are_apart():
    a = basis(30, 4)
    assert common_spaces(a, a[:, [1, 0, 3, 2]], DISTINCT, DISTINCT) == [([0], [1]), ([1], [0]), ([2], [3]), ([3], [2])]


@pytest.mark.parametrize("degenerate", ["first", "second"])
def test_neighbours_on_either_side_are_one_space(degenerate):
    a, close = basis(30, 4), torch.tensor([16.0, 8.0, 7.9, 2.0], dtype=torch.float64)
    values = (close, DISTINCT) if degenerate == "first" else (DISTINCT, close)
    assert common_spaces(a, a, *values) == [([0], [0]), ([1, 2], [1, 2]), ([3], [3])]


def test_a_rotation_within_an_eigenspace_changes_nothing():
    outputs = torch.randn(50, 4, generator=seeded(), dtype=torch.float64)
    turned = outputs.clone()
    turned[:, 1:3] = outputs[:, 1:3] @ torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    spaces = [([0], [0]), ([1, 2], [1, 2]), ([3], [3])]
    assert float(output_cosine(outputs, turned, spaces)) == pytest.approx(1.0, abs=1e-6)
    apart = [([i], [i]) for i in range(4)]
    assert float(output_cosine(outputs, turned, apart)) < 0.95


def test_cosines_are_those_of_the_principal_angles():
    a, b = (torch.randn(50, 3, generator=seeded(s), dtype=torch.float64) for s in (0, 1))
    places = [0, 1, 2]
    expected = principal_cosines(torch.linalg.qr(a)[0], torch.linalg.qr(b)[0]).mean()
    assert float(output_cosine(a, b, [(places, places)])) == pytest.approx(float(expected), abs=1e-6)


def test_counts_are_repeated_images():
    a, b = (torch.randn(12, 2, generator=seeded(s), dtype=torch.float64) for s in (0, 1))
    counts = torch.tensor([[2.0] * 6 + [1.0] * 6])
    spaces = [([0], [1]), ([1], [0])]
    twice = [torch.cat([side, side[:6]]) for side in (a, b)]
    torch.testing.assert_close(output_cosine(a, b, spaces, counts), output_cosine(*twice, spaces))


def test_random_features_lie_where_the_spectrum_is_large():
    values = torch.tensor([100.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    draws = torch.stack([random_features(values, 2, seeded(s)) for s in range(300)])
    torch.testing.assert_close(draws[0].T @ draws[0], torch.eye(2, dtype=torch.float64))
    weight = draws.square().mean(0)
    # The share of a heavy coordinate in a Gaussian vector: E[100 ξ² / (100 ξ² + χ²₃)], 0.826 by ten million draws of numpy.
    assert float(weight[0, 0]) == pytest.approx(0.826, abs=0.04)
    assert float(weight[4].max()) == pytest.approx(0.0, abs=1e-20)


def judged(first, other, x, x_other, k=6):
    """The agreement of two sets of features, and the verdict as the rule of C4 makes it."""
    rank = first.rank
    outputs = feature_outputs(first, x, rank)
    values = [f.eigenvalues[:k] for f in (first, other)]
    spaces = common_spaces(first.eigenvectors[:, :k], other.eigenvectors[:, :k], *values)
    found = output_agreement(outputs[:, :k], feature_outputs(other, x_other, k), spaces, seeded(1))
    draws = chance_of_outputs(outputs, first.eigenvalues[:rank], values[1], 100, seeded(2))
    return found, decide(found, float(np.quantile(draws, 0.975)))


def test_kernels_of_like_width_agree_and_of_other_images_do_not():
    x, y, x_test = (torch.rand(60, 8, generator=seeded(s), dtype=torch.float64) for s in (0, 1, 2))
    labels = (y[:, 0] > 0.5).long()
    near, far = (nl.eigenfeatures(nl.KernelMachine(RBFKernel(g)).fit(x, labels)) for g in (0.05, 0.06))
    assert judged(near, far, x_test, x_test)[1] == SEEN
    # A kernel that sees other images in the place of these has the same spectrum, and features of its own.
    order = torch.randperm(60, generator=seeded(3))
    other = nl.eigenfeatures(nl.KernelMachine(RBFKernel(0.05)).fit(x[order], labels))
    found, verdict = judged(near, other, x_test, x_test[order])
    assert verdict == CONTRADICTED
    assert found.value < 0.6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, x: feature_outputs(f, x, 1000), "count from 1 to 90, the number of features; got 1000"),
        (lambda f, x: output_agreement(x[:3, :4], x[:3, :4], [], seeded()), "at more images than features"),
        (lambda f, x: random_features(torch.ones(3), 4, seeded()), "k from 1 to 3, the number of eigenvalues; got 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(binary, call, message):
    features, data = binary
    x = data.test.x if "count" in message else data.test.x.flatten(1)
    with pytest.raises(InputError, match=message):
        call(features, x)
