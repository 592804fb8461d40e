"""The tracker in a real training."""

import math

import pytest
import torch

import ntklens as nl
from ntklens.dynamics import measures, settling
from ntklens.dynamics.path import NAMES
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
    path = settling([measures.centred_cosine(k) for k in kernels], tracked.epochs)
    assert tracked.settling().distance == pytest.approx(path.distance, rel=1e-4, abs=1e-6, nan_ok=True)
    assert [r["distance_to_end"] for r in rows] == pytest.approx(tracked.settling().distance, nan_ok=True)
    assert tracked.settling().epoch is None, "five records are too few"


def test_the_kernel_is_the_empirical_one_of_the_network_then(data):
    net = build("fc1", (1, 8, 8), 2).train()
    tracker = nl.KernelTracker(data.test.x, data.test.y)
    state = torch.random.get_rng_state()
    kernel = tracker.record(net, 0)
    assert net.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(kernel, nl.empirical_kernel(net)(data.test.x))


def test_a_network_in_training_mode_is_measured_in_eval_mode(data):
    net = torch.nn.Sequential(build("fc1", (1, 8, 8), 8), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(8)).train()
    statistics = net[2].running_mean.clone()
    kernel = nl.KernelTracker(data.test.x, data.test.y).record(net, 0)
    assert net.training
    assert torch.equal(net[2].running_mean, statistics)
    assert torch.equal(kernel, nl.empirical_kernel(net.eval())(data.test.x))


def test_saved_and_restored(tracked, data, tmp_path):
    tracked.save(tmp_path / "track")
    again = nl.KernelTracker(data.test.x, data.test.y, top_k=4).restore(tmp_path / "track")
    assert torch.equal(again.kernels, tracked.kernels)
    for mine, theirs in zip(again.rows(), tracked.rows(), strict=True):
        assert mine == pytest.approx(theirs, nan_ok=True)
    again.record(build("small-cnn", (1, 8, 8), 2, width=8), 5)
    assert again.epochs == [0, 1, 2, 3, 4, 5]
    assert math.isnan(again.rows()[5]["loss"])
    repeated = again.record(build("small-cnn", (1, 8, 8), 2, width=8), 5)
    assert again.epochs == [0, 1, 2, 3, 4, 5]
    assert torch.equal(again.kernels[5], repeated)


def test_what_is_saved_is_what_a_tracker_writes_into_its_folder(tracked, data, tmp_path):
    """One format: a tracker of the folder reads it, and a restored tracker with a folder writes it there."""
    tracked.save(tmp_path / "saved")
    assert nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "saved").epochs == [0, 1, 2, 3, 4]
    own = nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "own")
    own.record(build("small-cnn", (1, 8, 8), 2, width=8), 7)
    own.restore(tmp_path / "saved").record(build("small-cnn", (1, 8, 8), 2, width=8), 6)
    again = nl.KernelTracker(data.test.x, data.test.y, top_k=4, folder=tmp_path / "own")
    assert again.epochs == own.epochs == [0, 1, 2, 3, 4, 6]
    assert torch.equal(again.kernels, own.kernels)
    assert own.restore(tmp_path / "own").epochs == own.epochs
    tracked.save(tmp_path / "own")
    assert nl.KernelTracker(data.test.x, data.test.y).restore(tmp_path / "own").epochs == tracked.epochs


def test_the_second_series_is_of_attacked_images(data):
    """Cosines and trace from the kernel between all images and all attacked ones; the first series is as without it."""
    net, x, y = build("small-cnn", (1, 8, 8), 2, width=8).eval(), data.test.x, data.test.y

    def attack(network, images, classes):
        return nl.fgsm(network, images, classes, 0.1)

    tracker = nl.KernelTracker(x, y, attack=attack)
    kernel = tracker.record(net, 0)
    adv, own = nl.fgsm(net, x, y, 0.1), nl.empirical_kernel(net)
    assert torch.equal(kernel, own(x))
    across, there = own(x, adv).diagonal(), own(adv).diagonal()
    row = tracker.row()
    assert row["adversarial_cosine"] == pytest.approx(float((across / (own(x).diagonal() * there).sqrt()).mean()), 1e-4)
    assert row["adversarial_trace"] == pytest.approx(float(there.sum()), 1e-4)
    still = nl.KernelTracker(x, y, attack=lambda network, images, classes: images)
    still.record(net, 0)
    assert still.row()["adversarial_cosine"] == pytest.approx(1)


def test_networks_of_another_precision(data):
    net = build("fc1", (1, 8, 8), 2, width=8).double()
    seen = []

    def attack(network, images, classes):
        seen.append(images.dtype)
        return images + 0.1 * torch.rand_like(images)

    state = torch.random.get_rng_state()
    tracker = nl.KernelTracker(data.test.x, data.test.y, attack=attack)
    tracker.record(net, 0)
    assert seen == [torch.float64]
    assert torch.equal(state, torch.random.get_rng_state()), "also when the attack draws"
    expected = (net(data.test.x.double()).argmax(1) == data.test.y).double().mean()
    assert tracker.row()["probe_accuracy"] == pytest.approx(float(expected))


def test_a_network_without_tangents_is_recorded(data):
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2, bias=False)
    )
    with torch.no_grad():
        net[1].bias.fill_(-1e6)
    tracker = nl.KernelTracker(data.test.x, data.test.y)
    tracker.record(net, 0)
    assert (tracker.row()["trace"], tracker.row()["effective_rank"]) == (0, 0)


def test_classes_that_a_network_does_not_have(data, untyped):
    with pytest.raises(
        nl.InputError, match="expected probe classes from 0 to 1, for which the network has outputs; got 4"
    ):
        nl.KernelTracker(data.test.x, 3 + data.test.y).record(build("fc1", (1, 8, 8), 2), 0)
    with pytest.raises(nl.InputError, match="expected probe classes from 0 on; got -1"):
        nl.KernelTracker(data.test.x, 2 * data.test.y - 1)


def test_the_probe_is_kept(data):
    x = data.test.x.clone()
    tracker = nl.KernelTracker(x, data.test.y)
    x.zero_()
    assert torch.equal(tracker.probe_x, data.test.x)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"text"])
def test_folders_without_records_are_named(data, tmp_path, damage):
    tracker = nl.KernelTracker(data.test.x, data.test.y)
    with pytest.raises(nl.InputError, match="holds no records"):
        tracker.restore(tmp_path)
    (tmp_path / "record-000000.npz").write_bytes(damage)
    with pytest.raises(nl.InputError, match=r"record-000000\.npz is not a record"):
        tracker.restore(tmp_path)
    with pytest.raises(nl.InputError, match=r"record-000000\.npz is not a folder"):
        tracker.restore(tmp_path / "record-000000.npz")


def test_a_diverged_network_is_named(data):
    net = build("fc1", (1, 8, 8), 2)
    with torch.no_grad():
        net[1].weight.fill_(float("inf"))
    with pytest.raises(nl.NumericalFailure, match="kernel at epoch 1 is not finite"):
        nl.KernelTracker(data.test.x, data.test.y).record(net, 1)


def test_what_does_not_fit(tracked, data, tmp_path, untyped):
    with pytest.raises(nl.InputError, match="expected epochs in ascending order; got 2 after 4"):
        tracked.record(build("fc1", (1, 8, 8), 2), 2)
    with pytest.raises(nl.InputError, match="expected one label per probe image"):
        nl.KernelTracker(data.test.x, data.test.y[:5])
    with pytest.raises(nl.InputError, match="nothing is recorded"):
        nl.KernelTracker(data.test.x, data.test.y).rows()
    with pytest.raises(nl.InputError, match="nothing is recorded"):
        nl.KernelTracker(data.test.x, data.test.y).save(tmp_path / "none")
    with pytest.raises(nl.InputError, match="is not a folder"):
        nl.KernelTracker(data.test.x, data.test.y).restore(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(nl.InputError, match="file is a file"):
        tracked.save(tmp_path / "file")
    with pytest.raises(nl.InputError, match="file is a file"):
        nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "file")
    tracked.save(tmp_path / "track")
    others = [(data.test.x[:20], data.test.y[:20], "trace"), (1 - data.test.x, data.test.y, "trace")]
    for x, y, outputs in [*others, (data.test.x, data.test.y, "pseudo")]:
        other = nl.KernelTracker(x, y, outputs=outputs)
        with pytest.raises(nl.InputError, match="with other probe images, classes or outputs"):
            other.restore(tmp_path / "track")
        other.record(build("fc1", (1, 8, 8), 2), 0)
        with pytest.raises(nl.InputError, match="with other probe images, classes or outputs"):
            other.save(tmp_path / "track")
    with pytest.raises(nl.InputError, match="one value per pair"):
        nl.KernelTracker(data.test.x, data.test.y, outputs="full")


@pytest.mark.parametrize("last", [torch.sigmoid, lambda f: 1 / (1 + (-f).exp())])
def test_accuracy_of_a_probability_is_no_number(last):
    class Probability(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)
            torch.nn.init.constant_(self.layer.weight, 3.0)

        def forward(self, x):
            return last(self.layer(x - 0.5))

    torch.manual_seed(0)
    tracker = nl.KernelTracker(torch.rand(6, 3), torch.tensor([0, 1, 0, 1, 0, 1]), top_k=2)
    with pytest.warns(UserWarning, match="a probability, as a sigmoid gives it"):
        tracker.record(Probability(), 0)
    tracker.record(Probability(), 1)  # a second warning would be an error
    assert math.isnan(tracker.row()["probe_accuracy"])
    assert math.isnan(tracker.row()["probe_loss"])


def fc(width=16):
    return build("fc1", (1, 8, 8), 2, width=width)


@pytest.mark.parametrize("name", ["velocity", "trace", "probe_loss", "adversarial_cosine", "settled"])
def test_a_figure_with_the_name_of_a_measure_is_refused(data, name):
    tracker = nl.KernelTracker(data.test.x, data.test.y)
    with pytest.raises(nl.InputError, match=f"other names than the measures; got {name}"):
        tracker.record(fc(), 0, **{name: 3.0})
    assert tracker.epochs == []


def test_the_reserved_names_are_those_of_the_row(tracked):
    assert tuple(tracked._path.row(0)) == NAMES


def test_another_network_does_not_go_on_in_the_records_of_one(data, tmp_path):
    nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "a").record(fc(), 0)
    tracker = nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "a")
    tracker.record(torch.nn.ModuleDict({"inside": fc()})["inside"], 1)
    tracker.record(torch.nn.DataParallel(fc()), 2)
    with pytest.raises(
        nl.InputError, match="expected the module with parameters of the shapes that were recorded before"
    ):
        tracker.record(fc(8), 3)
    assert tracker.epochs == [0, 1, 2]
    tracker.rewind(0)
    tracker.record(fc(8), 0)


def test_a_fresh_tracker_keeps_the_earlier_records_aside(data, tmp_path):
    folder = tmp_path / "track"
    for epochs, names in (([0, 1], []), ([0], ["track.before"]), ([0, 1, 2], ["track.before", "track.before-2"])):
        tracker = nl.KernelTracker(data.test.x, data.test.y, folder=folder, fresh=True)
        assert tracker.epochs == []
        assert sorted(p.name for p in tmp_path.glob("track.*")) == names
        for epoch in epochs:
            tracker.record(fc(), epoch)
        (folder / "notes.txt").write_text("mine")
    assert nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track.before").epochs == [0, 1]
    assert nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track.before-2").epochs == [0]
    assert not (tmp_path / "track.before" / "notes.txt").exists()


def test_what_is_logged_says_whether_the_kernel_has_settled(data):
    tracker, same = nl.KernelTracker(data.test.x, data.test.y), fc()
    for epoch in range(6):
        tracker.record(same, epoch, lr=0.1)
        assert tracker.logged()["settled"] == (epoch == 5), "it takes six records"
    assert not any(name.startswith(("distance", "radius", "epoch")) for name in tracker.logged())
    assert tracker.logged()["lr"] == 0.1
