"""Records on disk, as a training leaves them that is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ntklens as nl
from ntklens.networks import build

TRAINING = """
import sys, time, torch
torch.set_num_threads(1)
import ntklens as nl
from ntklens.networks import build, train

folder, stop = sys.argv[1:]
data = nl.load_dataset("digits").first(300, 60)
torch.manual_seed(0)
net = build("small-cnn", (1, 8, 8), 10, width=8)
tracker = nl.KernelTracker(data.test.x, data.test.y, top_k=5, folder=folder + "/track")

def on_epoch(epoch, model, loss):
    tracker.record(model, epoch, loss=loss)
    print(epoch, flush=True)
    if str(epoch) == stop:
        time.sleep(600)

options = dict(epochs=6, batch_size=30, learning_rate=0.05, generator=torch.Generator().manual_seed(1))
train(net, data.train.x, data.train.y, on_epoch=on_epoch, checkpoint=folder + "/training.safetensors", **options)
"""


def training(folder: Path, stop: str = "") -> list[str]:
    """Run it to its end, or until it has told this epoch and is killed; what it told."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", TRAINING, str(folder), stop]
    told = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            told.append(line.strip())
            if told[-1] == stop:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == (-signal.SIGKILL if stop else 0)
    return told


def test_a_training_that_is_killed_goes_on_to_the_same_numbers(tmp_path):
    """SIGKILL after the tracker has kept epoch 3 and before the training has: that epoch is trained and measured again."""
    training(tmp_path / "whole")
    training(tmp_path / "cut", "3")
    assert len(list((tmp_path / "cut" / "track").glob("record-*.npz"))) == 4
    assert training(tmp_path / "cut") == ["3", "4", "5", "6"]
    for number in range(7):
        name = f"record-{number:06d}.npz"
        with np.load(tmp_path / "whole" / "track" / name) as one, np.load(tmp_path / "cut" / "track" / name) as two:
            assert float(one["epoch"]) == number
            for array in one.files:
                np.testing.assert_array_equal(one[array], two[array])


@pytest.fixture
def data():
    return nl.load_dataset("digits", classes=[3, 8]).first(40, 20)


@pytest.fixture
def tracker(data, tmp_path):
    tracker = nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track")
    for epoch in range(4):
        torch.manual_seed(epoch)
        tracker.record(build("fc1", (1, 8, 8), 2, width=4), epoch, loss=float(epoch))
    return tracker


def again(data, tmp_path, **options):
    return nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track", **options)


def test_another_tracker_takes_up_what_is_there(tracker, data, tmp_path):
    other = again(data, tmp_path)
    assert torch.equal(other.kernels, tracker.kernels)
    assert [r["loss"] for r in other.rows()] == [0, 1, 2, 3]
    assert other.rows()[1:] == tracker.rows()[1:]  # the first has no velocity


def test_rewinding_forgets_on_disk_too(tracker, data, tmp_path):
    tracker.rewind(2)
    assert tracker.epochs == again(data, tmp_path).epochs == [0, 1]
    tracker.record(build("fc1", (1, 8, 8), 2, width=4), 1.5)
    assert again(data, tmp_path).epochs == [0, 1, 1.5]


def test_records_of_other_images_or_outputs_are_refused(tracker, data, tmp_path):
    with pytest.raises(nl.InputError, match="with other probe images, classes or outputs"):
        again(data, tmp_path, outputs="pseudo")
    with pytest.raises(nl.InputError, match="with other probe images, classes or outputs"):
        nl.KernelTracker(1 - data.test.x, data.test.y, folder=tmp_path / "track")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"text"])
def test_damaged_records_are_named(tracker, data, tmp_path, damage):
    (tmp_path / "track" / "record-000002.npz").write_bytes(damage)
    with pytest.raises(nl.InputError, match=r"record-000002\.npz is not a record"):
        again(data, tmp_path)
