"""Sets of features: their machines, what they carry of the labels, what is learned when, and data made of them."""

import math
from functools import partial

import numpy as np
import pytest
import torch

import ntklens as nl
from ntklens.features import (
    attribution,
    bands,
    class_shares,
    half_learned,
    match,
    over_bands,
    predicted_share,
    principal_cosines,
    random_dataset,
    random_match,
    robust_dataset,
    scalar_pictures,
    share_learned,
    subsets,
)
from ntklens.networks import Centred, build, gradient_descent, ntk_parametrize


def features_of(classes):
    data = nl.load_dataset("fashion-mnist-mini", classes=classes).first(90, 40)
    outputs = 1 if classes is not None and len(classes) == 2 else 10
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, outputs)))
    return nl.eigenfeatures(machine.fit(data.train.x.double(), data.train.y)), data


@pytest.fixture(scope="module")
def binary():
    return features_of([2, 4])


@pytest.fixture(scope="module")
def ten():
    return features_of(None)


def test_sets_cover_the_features_and_their_complements_add_up_to_the_machine(binary):
    features, data = binary
    names = ["robust and useful", "useful non-robust", "not useful"] * 30
    sets = subsets(names)
    assert sorted(sets["robust and useful"] + sets["all but the robust"]) == list(range(90)) == sets["all"]
    assert len(sets["useful non-robust"]) == 30
    x = data.test.x.double()
    parts = features.keep(sets["useful non-robust"]).outputs(x) + features.keep(
        sets["all but the useful non-robust"]
    ).outputs(x)
    torch.testing.assert_close(parts, features.machine.outputs(x), rtol=1e-7, atol=1e-8)


def test_bands_part_the_spectrum_and_their_machines_add_up(binary):
    features, data = binary
    parts = bands((0, 1, 10, 100), len(features))
    assert [i for part in parts for i in part] == list(range(90))
    assert len(parts) == 3
    x = data.test.x.double()
    whole = sum(features.keep(part).outputs(x) for part in parts)
    torch.testing.assert_close(whole, features.machine.outputs(x), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("fixture", ["binary", "ten"])
def test_attribution_adds_up_to_the_label_energy(request, fixture):
    features, data = request.getfixturevalue(fixture)
    chosen = [1, 2, 7, 30]
    shares = attribution(features, chosen)
    assert float(shares.sum()) == pytest.approx(float(features.label_energy[chosen].sum()))
    torch.testing.assert_close(attribution(features, range(90)), torch.full((90,), 1 / 90, dtype=torch.float64))
    by_class = class_shares(shares, data.train.y)
    assert float(by_class.sum()) == pytest.approx(float(shares.sum()))
    assert float(by_class[1]) == pytest.approx(float(shares[data.train.y == 1].sum()))
    assert attribution(features, []).abs().sum() == 0


@pytest.mark.parametrize("fixture", ["binary", "ten"])
def test_what_a_machine_has_learned_of_each_feature_is_its_filter(request, fixture):
    features, data = request.getfixturevalue(fixture)
    flow = nl.GradientFlow(3.0, 0.02)
    shares = share_learned(features, features.machine.refilter(flow).outputs(data.train.x.double()))
    strong = features.label_energy > 1e-4
    torch.testing.assert_close(shares[strong], predicted_share(features, flow)[strong], rtol=1e-6, atol=1e-8)
    bands = over_bands(features, shares, (0, 5, 200))
    assert [(first, last) for first, last, _, _ in bands] == [(0, 4), (5, 89)]
    assert bands[0][2] > bands[1][2]
    assert sum(energy for *_, energy in bands) == pytest.approx(1)


def test_a_wide_network_learns_the_features_in_the_kernels_order(binary):
    features, data = binary
    rate = 1 / float(features.eigenvalues[0])
    x = data.train.x.double()
    net = ntk_parametrize(build("fc1", data.shape, 1, width=1024), generator=torch.Generator().manual_seed(0)).double()
    trained = gradient_descent(Centred(net), x, features.machine.targets, steps=60, learning_rate=rate)
    with torch.no_grad():
        seen = over_bands(features, share_learned(features, trained(x)), (1, 10, 40))
    kernel = over_bands(features, predicted_share(features, nl.GradientDescent(60, rate)), (1, 10, 40))
    shares = [s for _, _, s, _ in seen]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx([s for _, _, s, _ in kernel], abs=0.08)


def test_the_time_at_which_half_is_learned():
    shares = torch.tensor([[0.6, 0.49, 0.0], [0.9, 0.5, 0.49]], dtype=torch.float64)
    assert half_learned(shares, [3, 10]).tolist() == [3, 10, math.inf]


def test_labels_projected_on_features_train_their_machine(binary):
    """A machine fitted on V Vᵀ Y is the machine of these features."""
    features, data = binary
    chosen = [1, 3, 8]
    made = robust_dataset(features, chosen, "labels")
    x = data.test.x.double()
    refit = nl.KernelMachine(features.machine.kernel).fit(made.x, made.targets)
    torch.testing.assert_close(refit.outputs(x), features.keep(chosen).outputs(x), rtol=1e-6, atol=1e-8)
    assert made.rank == 3
    assert torch.equal(made.x, data.train.x.double())


def test_images_projected_on_features_vary_in_as_many_directions(ten):
    features, data = ten
    made = robust_dataset(features, range(4), "images")
    assert float(made.x.min()) >= 0
    assert float(made.x.max()) <= 1
    assert torch.equal(made.y, data.train.y)
    every = robust_dataset(features, range(90), "images")
    torch.testing.assert_close(every.x, data.train.x.double(), rtol=0, atol=1e-9)
    spread = torch.linalg.svdvals(made.x.flatten(1) - made.x.flatten(1).mean(0))
    assert float(spread[5:].square().sum() / spread.square().sum()) < 0.05  # clipping adds a little
    control = random_dataset(features, 4, "labels", torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(control.targets) == 4


def test_a_projected_set_is_read_back_as_data(ten, tmp_path):
    features, data = ten
    made = robust_dataset(features, range(4), "images")
    made.save(tmp_path / "robust.npz", (data.test.x, data.test.y))
    read = nl.load_dataset(str(tmp_path / "robust.npz"))
    torch.testing.assert_close(read.train.x.double(), made.x, rtol=0, atol=1e-6)
    assert torch.equal(read.train.y, made.y)
    with np.load(tmp_path / "robust.npz") as file:
        assert file["targets"].shape == (90, 10)


def test_a_pixel_that_is_the_same_in_all_images_stays_so(binary):
    features, data = binary
    x = data.train.x.double().clone()
    x[..., 3, 3] = 0.5
    machine = nl.KernelMachine(features.machine.kernel).fit(x, data.train.y)
    made = robust_dataset(nl.eigenfeatures(machine), [0, 4], "images")
    assert torch.allclose(made.x[..., 3, 3], x[..., 3, 3], rtol=0, atol=1e-12)


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
        (np.arange(90) < 3, "whole numbers"),
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


@pytest.mark.parametrize("rank", [0, -1, 91])
def test_a_random_subspace_has_a_dimension(binary, rank):
    with pytest.raises(nl.InputError, match="from 1 to 90"):
        random_dataset(binary[0], rank, "labels", torch.Generator())


def test_duplicate_images_lower_the_rank(binary):
    features, data = binary
    x, y = data.train.x.double(), data.train.y
    machine = nl.KernelMachine(features.machine.kernel, nl.Ridge(1e-3)).fit(
        torch.cat([x, x[:2]]), torch.cat([y, y[:2]])
    )
    assert features.rank == 90
    assert nl.eigenfeatures(machine).rank == 90


def test_projections_that_make_no_sense(binary, untyped):
    features, _ = binary
    with pytest.raises(nl.InputError, match="at least one feature"):
        robust_dataset(features, [])
    with pytest.raises(nl.InputError, match='"labels" or "images"'):
        robust_dataset(features, [1], "sounds")


def test_matching_undoes_a_permutation_and_signs():
    q, _ = torch.linalg.qr(torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    order, cosines = match(q, q[:, [2, 0, 3, 1]] * torch.tensor([1.0, -1, 1, -1], dtype=torch.float64))
    assert order.tolist() == [1, 3, 0, 2]
    assert cosines.tolist() == pytest.approx([-1, -1, 1, 1])
    squares = torch.tensor(
        [[0.6, 0.4], [0.4, 0.0]], dtype=torch.float64
    )  # by |cosines|, the other pairs would be better
    rest = torch.linalg.cholesky(torch.eye(2, dtype=torch.float64) - squares.T @ squares).T
    tilted = torch.cat([squares, rest])
    assert match(torch.eye(4, 2, dtype=torch.float64), tilted)[0].tolist() == [0, 1]
    low, high = random_match(30, 4, 40, torch.Generator().manual_seed(1))
    assert 0.02 < low < high < 0.2
    assert (low + high) / 2 > 1 / 30  # the best of several random pairs, not a mean one


def test_principal_cosines_are_those_of_the_angles():
    e, angle = torch.eye(4, dtype=torch.float64), 0.3
    turned = torch.stack([e[:, 0], math.cos(angle) * e[:, 1] + math.sin(angle) * e[:, 2]], 1)
    assert principal_cosines(e[:, :2], turned).tolist() == pytest.approx([1, math.cos(angle)])


def test_scalar_pictures_are_gradients(binary):
    features, data = binary
    x = data.test.x[:2].double().requires_grad_()
    v = features.eigenvectors[:, 3:5]
    value = features.machine.kernel(x, features.machine.double_inputs) @ v
    expected = torch.stack([torch.autograd.grad(value[:, i].sum(), x, retain_graph=True)[0] for i in range(2)])
    torch.testing.assert_close(scalar_pictures(features, x.detach(), v), expected, rtol=1e-9, atol=1e-12)
