"""Training sets that keep some features only."""

import numpy as np
import pytest
import torch

import ntklens as nl
from ntklens.features import random_dataset, robust_dataset


def test_labels_projected_on_features_train_their_machine(binary):
    """A machine fitted on V Vᵀ Y is the machine of these features."""
    features, data = binary
    chosen = [1, 3, 8]
    projected = robust_dataset(features, chosen, "labels")
    x = data.test.x.double()
    refit = nl.KernelMachine(features.machine.kernel).fit(projected.x, projected.targets)
    torch.testing.assert_close(refit.outputs(x), features.keep(chosen).outputs(x), rtol=1e-6, atol=1e-8)
    assert projected.rank == 3
    assert torch.equal(projected.x, data.train.x.double())


def test_images_projected_on_features_vary_in_as_many_directions(ten):
    features, data = ten
    projected = robust_dataset(features, range(4), "images")
    assert float(projected.x.min()) >= 0
    assert float(projected.x.max()) <= 1
    assert torch.equal(projected.y, data.train.y)
    every = robust_dataset(features, range(90), "images")
    torch.testing.assert_close(every.x, data.train.x.double(), rtol=0, atol=1e-9)
    spread = torch.linalg.svdvals(projected.x.flatten(1) - projected.x.flatten(1).mean(0))
    assert float(spread[5:].square().sum() / spread.square().sum()) < 0.05  # clipping adds a little
    control = random_dataset(features, 4, "labels", torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(control.targets) == 4


def test_a_projected_set_is_read_back_as_data(ten, tmp_path):
    features, data = ten
    projected = robust_dataset(features, range(4), "images")
    projected.save(tmp_path / "robust.npz", (data.test.x, data.test.y))
    read = nl.load_dataset(str(tmp_path / "robust.npz"))
    torch.testing.assert_close(read.train.x.double(), projected.x, rtol=0, atol=1e-6)
    assert torch.equal(read.train.y, projected.y)
    with np.load(tmp_path / "robust.npz") as file:
        assert file["targets"].shape == (90, 10)


def test_a_pixel_that_is_the_same_in_all_images_stays_so(binary):
    features, data = binary
    x = data.train.x.double().clone()
    x[..., 3, 3] = 0.5
    machine = nl.KernelMachine(features.machine.kernel).fit(x, data.train.y)
    projected = robust_dataset(nl.eigenfeatures(machine), [0, 4], "images")
    assert torch.allclose(projected.x[..., 3, 3], x[..., 3, 3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rank", [0, -1, 91])
def test_a_random_subspace_has_a_dimension(binary, rank):
    with pytest.raises(nl.InputError, match=r"expected a rank from 1 to 90|expected rank as a whole number"):
        random_dataset(binary[0], rank, "labels", torch.Generator())


def test_projections_that_make_no_sense(binary, untyped):
    features, _ = binary
    with pytest.raises(nl.InputError, match="at least one feature"):
        robust_dataset(features, [])
    with pytest.raises(nl.InputError, match='"labels" or "images"'):
        robust_dataset(features, [1], "sounds")
