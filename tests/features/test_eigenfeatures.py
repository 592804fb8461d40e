"""Identities of the features on real images, and the closed forms of the linear kernel."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.features import Threat, attribution, linear_robust_radius, robust_dataset


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini", classes=[2, 4]).first(90, 50)


@pytest.fixture(scope="module")
def features(data):
    kernel = nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 1)))
    return nl.eigenfeatures(nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y))


@pytest.fixture(scope="module")
def ten():
    data = nl.load_dataset("fashion-mnist-mini").first(80, 40)
    kernel = nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 1)))
    return nl.eigenfeatures(nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y)), data


def test_features_add_up_to_the_machine_at_infinite_time(features, data):
    x = data.test.x.double()
    total = sum((features.outputs(x, i) for i in range(len(features))), torch.zeros(1, dtype=x.dtype))
    torch.testing.assert_close(total, features.machine.outputs(x), rtol=1e-7, atol=1e-8)


def test_early_stopping_weighs_the_features(features, data):
    """f_t = Σ_i (1 - exp(-η λ_i t)) f^(i)."""
    x, rate, time = data.test.x.double(), 0.02, 3.0
    learned = 1 - torch.exp(-rate * time * features.eigenvalues)
    parts = torch.stack([features.outputs(x, i) for i in range(len(features))])
    early = features.machine.refilter(nl.GradientFlow(time, rate))
    torch.testing.assert_close((learned[:, None, None] * parts).sum(0), early.outputs(x), rtol=1e-7, atol=1e-8)


def test_features_are_orthogonal_on_the_training_set(features, data):
    x = data.train.x.double()
    f = torch.stack([features.outputs(x, i)[:, 0] for i in range(len(features))])
    gram = f @ f.T
    torch.testing.assert_close(gram, torch.diag(features.weights[:, 0] ** 2), rtol=0, atol=1e-7)
    assert features.label_energy.sum() == pytest.approx(1)


def test_keep_is_refilter_by_a_band(features, data):
    kept, band = features.keep([0, 3]), features.machine.refilter(nl.Band([0, 3]))
    assert torch.equal(kept.outputs(data.test.x), band.outputs(data.test.x))


@pytest.mark.parametrize("fixture", ["features", "ten"])
def test_usefulness_in_one_pass_is_each_features_own_accuracy(request, data, fixture):
    features = request.getfixturevalue(fixture)
    features, own = features if fixture == "ten" else (features, data)
    x, y = own.test.x.double(), own.test.y
    indices = [0, 1, 5, 17, 60]
    scores = features.usefulness(x, y, indices)
    expected = [float((features.predict(x, i) == y).double().mean()) for i in indices]
    assert scores.values.tolist() == pytest.approx(expected)
    assert all(s.low <= s.value <= s.high for s in scores.estimates)


def test_robustness_is_the_accuracy_of_the_feature_under_its_own_attack(features, data):
    x, y, eps = data.test.x, data.test.y, 8 / 255
    seen = []
    scores = features.robustness(x, y, lambda m, a, b: nl.fgsm(m, a, b, eps), [1, 30], progress=seen.append)
    machine = features.keep(30)
    attacked = nl.fgsm(machine, x, y, eps)
    assert scores[30].value == pytest.approx(machine.score(attacked, y))
    assert seen == [0.5, 1.0]
    none = features.robustness(x, y, 0.0, [1])
    assert none[1].value == features.usefulness(x, y, [1])[1].value


def test_pictures_are_gradients_of_the_feature(features, data):
    x = data.test.x[:3].double().requires_grad_()
    (expected,) = torch.autograd.grad(features.outputs(x, 4).sum(), x)
    torch.testing.assert_close(features.picture(x.detach(), 4), expected, rtol=1e-9, atol=1e-12)


def test_the_picture_of_several_features_is_the_sum_of_theirs(features, data):
    x, y = data.test.x[:4].double(), torch.tensor([0, 1, 1, 0])
    each = sum(features.picture(x, i, y) for i in (2, 3, 7))
    torch.testing.assert_close(features.picture(x, [2, 3, 7], y), each, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.long, torch.uint8, torch.int8])
def test_pictures_of_a_class_are_of_its_output(untyped, features, data, dtype):
    """With two classes the first one's output is the second's turned round, as in the machine's own logits."""
    x = data.test.x[:4].double().requires_grad_()
    y = torch.tensor([0, 1, 1, 0])
    logits = features.keep(4)(x)
    (expected,) = torch.autograd.grad(2 * logits.gather(1, y[:, None]).sum(), x)
    torch.testing.assert_close(features.picture(x.detach(), 4, y.to(dtype)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("y", "message"),
    [([0, 1, 2, 0], "classes from 0 to 1"), ([0, -1, 1, 0], "classes from 0 to 1"), ([0, 1], "4 class")],
)
def test_pictures_of_classes_that_are_not_there(untyped, features, data, y, message):
    with pytest.raises(nl.InputError, match=message):
        features.picture(data.test.x[:4], 4, torch.tensor(y))


def test_pictures_of_many_classes_need_the_class(ten):
    features, data = ten
    x, y = data.test.x[:3].double(), data.test.y[:3]
    tracked = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(features.outputs(tracked, 2).gather(1, y[:, None]).sum(), tracked)
    torch.testing.assert_close(features.picture(x, 2, y), expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(nl.InputError, match="needs y"):
        features.picture(x, 2)


def test_robust_radius_of_linear_features_in_closed_form(data):
    """Just inside |uᵀx| / |u|_1 the one-step attack fails, just outside it succeeds (docs/formulas.md)."""
    x, y = data.train.x[:40].double(), data.train.y[:40]
    features = nl.eigenfeatures(nl.KernelMachine(nl.LinearKernel(), nl.Ridge(1e-6)).fit(x, y))
    z = 0.5 + 0.2 * (data.test.x[:10].double() - 0.5)  # away from the pixel bounds
    for index in (0, 1, 5):
        feature = features.keep(index)
        direction = features.picture(z[:1], index).flatten()
        labels = feature.predict(z)
        radius = linear_robust_radius(z.flatten(1), direction)
        for scale, flips in ((0.999, False), (1.001, True)):
            for i, r in enumerate(radius * scale):
                if r > 0.3:  # such a step would meet the pixel bounds
                    continue
                found = nl.fgsm(feature, z[i : i + 1], labels[i : i + 1], float(r))
                assert bool(feature.predict(found) != labels[i : i + 1]) is flips
                for steps in (1, 10):
                    made = features.outcomes(z[i : i + 1], labels[i : i + 1], Threat(float(r), steps=steps), [index])
                    assert bool(made.clean)
                    assert bool(made.attacked) is not flips


def test_the_leading_features_alone_are_the_first_of_all(data):
    machine = nl.KernelMachine(nl.LinearKernel(), nl.Ridge(1e-3)).fit(data.train.x.double(), data.train.y)
    some = nl.eigenfeatures(machine, 6)  # by Lanczos: nothing has asked for the whole spectrum yet
    x, y = data.test.x.double(), data.test.y
    outputs = some.keep([0, 5]).outputs(x)
    assert machine.factorisation._spectrum is None
    every = nl.eigenfeatures(machine)
    torch.testing.assert_close(some.eigenvalues, every.eigenvalues[:6], rtol=1e-9, atol=0)
    torch.testing.assert_close(outputs, every.keep([0, 5]).outputs(x), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(some.label_energy, every.label_energy[:6], rtol=1e-7, atol=1e-12)
    assert len(some) == 6
    with pytest.raises(nl.InputError, match="from 0 to 5"):
        some.usefulness(x, y, [6])
    with pytest.raises(nl.InputError, match="from 1 to 90"):
        nl.eigenfeatures(machine, 91)


@pytest.mark.parametrize("time", [0.0, 2.0, math.inf])
def test_label_energy_learned_by_a_time_is_what_the_machine_fits(features, data, time):
    flow, y = nl.GradientFlow(time, 0.05), features.machine.targets
    fitted = features.machine.refilter(flow).outputs(data.train.x.double())
    expected = 1 - float((y - fitted).square().sum() / y.square().sum())
    assert features.learned(flow) == pytest.approx(expected, abs=1e-8)


def test_indices_that_are_not_there(features, data):
    with pytest.raises(nl.InputError, match="from 0 to 89"):
        features.usefulness(data.test.x, data.test.y, [90])
    with pytest.raises(nl.InputError, match="from 0 to 89"):
        features.keep(90)


def test_the_identities_hold_for_two_thousand_images():
    """Sum, orthogonality on the training set and time, to 1e-6 in float64, on ten classes of real images."""
    data = nl.load_dataset("fashion-mnist-mini").first(2000, 50)
    kernel = nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 1)))
    features = nl.eigenfeatures(nl.KernelMachine(kernel).fit(data.train.x.double(), data.train.y))
    x, values, weights = data.test.x.double(), features.eigenvalues, features.weights
    scalars = (
        kernel(x, features.machine.double_inputs) @ features.eigenvectors / values
    )  # f^(i) is a column times weights_i
    for i in (0, 3, 1999):
        torch.testing.assert_close(scalars[:, i : i + 1] * weights[i], features.outputs(x, i), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scalars @ weights, features.machine.outputs(x), rtol=1e-6, atol=1e-6)
    flow = nl.GradientFlow(40.0, 1e-3)
    early = features.machine.refilter(flow).outputs(x)
    learned = 1 - torch.exp(-0.04 * values)
    torch.testing.assert_close((scalars * learned) @ weights, early, rtol=1e-6, atol=1e-6)
    train = kernel(features.machine.double_inputs) @ features.eigenvectors / values
    torch.testing.assert_close(train.T @ train, torch.eye(2000, dtype=torch.float64), rtol=0, atol=1e-6)


def test_images_and_labels_that_cannot_be_scored(features, data, untyped):
    x, y = data.test.x[:6], data.test.y[:6]
    with pytest.raises(nl.InputError, match="6 class indices"):
        features.usefulness(x, y[:5])
    with pytest.raises(nl.InputError, match="x without NaN"):
        features.usefulness(x * torch.nan, y)
    with pytest.raises(nl.InputError, match="expected y as classes from 0 to 1; got 7 to 7"):
        features.usefulness(x, torch.full_like(y, 7))
    with pytest.raises(nl.InputError, match="got none"):
        features.usefulness(x[:0], y[:0])
    with pytest.raises(nl.InputError, match="uint8"):
        features.usefulness((255 * x).to(torch.uint8), y)
    with pytest.raises(nl.InputError, match="got Linear"):
        nl.eigenfeatures(torch.nn.Linear(2, 2))


def test_scores_are_a_sequence_of_estimates_by_index(features, data):
    scores = features.usefulness(data.test.x[:6], data.test.y[:6], [3, 1])
    assert len(scores) == 2
    assert list(scores)[1] is scores[1]
    with pytest.raises(nl.InputError, match="got feature 2"):
        scores[2]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1, 1], "chosen once"),
        ([-1], "from 0 to 89"),
        ([90], "from 0 to 89"),
        ([1.5], "whole numbers"),
        ("01", "whole numbers"),
        ([True, False], "got a mask"),
        (torch.arange(90) < 3, "got a mask"),
        (np.arange(90) < 3, "got a mask"),
    ],
)
def test_features_are_chosen_by_their_places(binary, untyped, indices, message):
    features, _ = binary
    for choose in (features.keep, partial(robust_dataset, features), partial(attribution, features)):
        with pytest.raises(nl.InputError, match="once" if message == "chosen once" else message):
            choose(indices).outputs(features.machine.train_inputs[:1])


def test_one_place_stands_for_itself(binary):
    features, data = binary
    one = features.usefulness(data.test.x, data.test.y, 3)
    assert one.indices == (3,)
    assert one[3] == features.usefulness(data.test.x, data.test.y, np.array([2, 3]))[3]


def test_duplicate_images_lower_the_rank(binary):
    features, data = binary
    x, y = data.train.x.double(), data.train.y
    machine = nl.KernelMachine(features.machine.kernel, nl.Ridge(1e-3)).fit(
        torch.cat([x, x[:2]]), torch.cat([y, y[:2]])
    )
    assert features.rank == 90
    assert nl.eigenfeatures(machine).rank == 90
