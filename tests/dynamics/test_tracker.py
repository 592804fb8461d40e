"""The tracker in a real training."""

import pytest
import torch

import ntklens as nl
from ntklens.dynamics import measures
from ntklens.networks import build, train


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("digits", classes=[3, 8]).first(120, 30)


@pytest.fixture(scope="module")
def tracked(data):
    tracker = nl.KernelTracker(data.test.x, data.test.y, top_k=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build("small-cnn", (1, 8, 8), 2, width=8)
    options = {"epochs": 4, "batch_size": 20, "learning_rate": 0.1, "generator": torch.Generator().manual_seed(0)}
    train(net, data.train.x, data.train.y, on_epoch=lambda e, m, loss: tracker.record(m, e, loss=loss), **options)
    return tracker


def test_rows_say_what_the_measures_say(tracked):
    rows, kernels = tracked.rows(), tracked.kernels
    assert [r["epoch"] for r in rows] == [0, 1, 2, 3, 4]
    assert rows[3]["velocity"] == pytest.approx(measures.kernel_distance(kernels[2], kernels[3]))
    assert rows[-1]["radius"] == pytest.approx(1)
    assert rows[2]["trace"] == pytest.approx(float(kernels[2].double().trace()), rel=1e-5)
    assert rows[1]["loss"] > rows[4]["loss"]
    assert torch.equal(tracked.distance(), measures.distance_map(kernels))


def test_the_kernel_is_the_empirical_one_of_the_network_then(data):
    net = build("fc1", (1, 8, 8), 2).train()
    tracker = nl.KernelTracker(data.test.x, data.test.y)
    state = torch.random.get_rng_state()
    kernel = tracker.record(net, 0)
    assert net.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(kernel, nl.empirical_kernel(net)(data.test.x))


def test_saved_and_taken_up_again(tracked, data, tmp_path):
    tracked.save(tmp_path / "track.npz")
    again = nl.KernelTracker(data.test.x, data.test.y, top_k=4).restore(tmp_path / "track.npz")
    assert torch.equal(again.kernels, tracked.kernels)
    assert again.rows()[2] == pytest.approx(tracked.rows()[2], nan_ok=True)
    again.record(build("fc1", (1, 8, 8), 2), 5)
    assert again.epochs == [0, 1, 2, 3, 4, 5]


def test_what_does_not_fit(tracked, data, tmp_path, untyped):
    with pytest.raises(nl.InputError, match="recorded in order"):
        tracked.record(build("fc1", (1, 8, 8), 2), 2)
    with pytest.raises(nl.InputError, match="as many classes as probe images"):
        nl.KernelTracker(data.test.x, data.test.y[:5])
    with pytest.raises(nl.InputError, match="nothing is recorded"):
        nl.KernelTracker(data.test.x, data.test.y).rows()
    with pytest.raises(nl.InputError, match="does not exist"):
        nl.KernelTracker(data.test.x, data.test.y).restore(tmp_path / "none.npz")
    tracked.save(tmp_path / "track.npz")
    with pytest.raises(nl.InputError, match="kernels of 30 images"):
        nl.KernelTracker(data.test.x[:20], data.test.y[:20]).restore(tmp_path / "track.npz")
