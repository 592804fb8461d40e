"""Records of trainings that trackers followed, made of their folders."""

import pytest
import torch

import ntklens as nl
from ntklens.errors import InputError
from ntklens.networks import build
from ntklens.report import render
from ntklens.study.compare import compare
from ntklens.study.tracker_folders import is_tracker_folder, opened, tracked_record


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("digits", classes=[3, 8]).first(40, 20)


def network(seed):
    torch.manual_seed(seed)
    return build("fc1", (1, 8, 8), 2, width=8)


def track(data, folder, first=0, epochs=3):
    tracker = nl.KernelTracker(data.test.x, data.test.y, top_k=4, folder=folder)
    with torch.random.fork_rng():
        for epoch in range(first, first + epochs):
            tracker.record(network(epoch), epoch, lr=0.1)
    return tracker


def test_the_tables_are_what_the_tracker_says(data, tmp_path):
    tracker = track(data, tmp_path / "mine")
    assert is_tracker_folder(tmp_path / "mine")
    with tracked_record([tmp_path / "mine"]) as record:
        rows, page = record.table("dynamics"), " ".join(render(record).split())
        distance = record.array("dynamics/distance_mine")
    assert [row["training"] for row in rows] == ["mine"] * 3
    for row, own in zip(rows, tracker.rows(), strict=True):
        measured = {name: value for name, value in own.items() if value == value}
        assert {name: row[name] for name in measured} == pytest.approx(measured)
        assert row["accuracy_low"] <= row["accuracy"] == own["probe_accuracy"] <= row["accuracy_high"]
    assert distance == pytest.approx(tracker.distance().numpy())
    assert "recorded by a KernelTracker over the training, on the same 20 clean probe images" in page
    assert "it takes 6 records, and there are 3" in page.partition("<nav")[0], "the answer comes first"
    assert "PGD" not in page


def test_several_trainings_on_one_page_and_against_each_other(data, tmp_path):
    for name, first in (("one", 0), ("two", 1)):
        track(data, tmp_path / name, first)
    with tracked_record([tmp_path / "one", tmp_path / "two"]) as record:
        texts = [str(row["text"]) for row in record.table("summary")]
        assert "over each training" in " ".join(render(record).split())
    assert [text[:5] for text in texts] == ["one: ", "two: "]
    assert "measured from epoch 1" in texts[1]
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        found = compare(one, two)
    assert [row["column"] for row in found.figures] == ["accuracy"]
    assert "centred_rank" in [row["column"] for row in found.measures]


def test_what_cannot_be_read(data, tmp_path):
    track(data, tmp_path / "a" / "same")
    nl.KernelTracker(data.test.x[:9], data.test.y[:9], top_k=4, folder=tmp_path / "other").record(network(0), 0)
    track(data, tmp_path / "b" / "same")
    for folders, message in (
        ([tmp_path / "a" / "same", tmp_path / "b" / "same"], "folders of different names"),
        ([tmp_path / "a" / "same", tmp_path / "other"], "same probe images"),
    ):
        with pytest.raises(nl.InputError, match=message), tracked_record(folders):
            pass
    (tmp_path / "other" / "probe.npz").unlink()
    with pytest.raises(nl.InputError, match="Make a KernelTracker with the same images"), opened(tmp_path / "other"):
        pass
    nl.KernelTracker(data.test.x[:9], data.test.y[:9], top_k=4, folder=tmp_path / "other")
    with opened(tmp_path / "other") as record:
        assert len(record.table("dynamics")) == 1, "a tracker of the same images has added the classes"
    with pytest.raises(nl.InputError, match="does not exist"), opened(tmp_path / "a"):
        pass


def test_figures_of_the_user_are_not_taken_for_columns_of_the_table(data, tmp_path):
    tracker = nl.KernelTracker(data.test.x, data.test.y, top_k=4, folder=tmp_path / "own")
    for epoch in range(3):
        tracker.record(network(epoch), epoch, accuracy=0.93, robust_accuracy=0.4, seed=7)
    with tracked_record([tmp_path / "own"]) as record:
        row = record.table("dynamics")[-1]
        assert "0.93" in render(record)
    assert (row["recorded_accuracy"], row["recorded_robust_accuracy"], row["recorded_seed"]) == (0.93, 0.4, 7)
    assert (row["seed"], row["accuracy"]) == (0, row["probe_accuracy"])
    assert "robust_accuracy" not in row


def test_probe_images_are_told_apart_by_more_than_their_classes(data, tmp_path):
    track(data, tmp_path / "one")
    other = nl.KernelTracker(data.test.x.flip(3), data.test.y, top_k=4, folder=tmp_path / "two")
    for epoch in range(3):
        other.record(network(epoch), epoch)
    with (
        pytest.raises(InputError, match="same probe images and outputs"),
        tracked_record([tmp_path / "one", tmp_path / "two"]),
    ):
        pass


def test_records_of_two_trackers_in_one_folder_are_refused(data, tmp_path):
    track(data, tmp_path / "mine")
    (tmp_path / "mine" / "record-000001.npz").unlink()
    with pytest.raises(InputError, match="records of one sequence"):
        nl.KernelTracker(data.test.x, data.test.y, top_k=4, folder=tmp_path / "mine")
