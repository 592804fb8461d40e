"""Checkpoints that other trainings write."""

import threading
import time

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ntklens as nl
from ntklens.dynamics import checkpoints, watch
from ntklens.networks import build


@pytest.fixture
def data():
    return nl.load_dataset("digits", classes=[3, 8]).first(40, 20)


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build("fc1", (1, 8, 8), 2, width=4)


def tracker(data, folder=None):
    return nl.KernelTracker(data.test.x, data.test.y, folder=folder)


def test_checkpoints_in_the_order_of_their_epochs(tmp_path):
    for name in ("epoch-10.pt", "epoch-9.safetensors", "epoch=2-step=77.ckpt", "notes.txt", "last.ckpt"):
        (tmp_path / name).write_bytes(b"")
    for name in ("last-v1.ckpt", "best-acc-0.93.ckpt", "resnet18.pt", "step=1200.ckpt"):
        (tmp_path / name).write_bytes(b"")
    assert [(e, p.name) for e, p in checkpoints(tmp_path)] == [
        (3, "epoch=2-step=77.ckpt"),
        (9, "epoch-9.safetensors"),
        (10, "epoch-10.pt"),
    ]
    (tmp_path / "epoch-9.pt").write_bytes(b"")
    with pytest.raises(nl.InputError, match=r"epoch-9.pt and epoch-9.safetensors are both of epoch 9"):
        checkpoints(tmp_path)
    with pytest.raises(nl.InputError, match="is not a folder"):
        checkpoints(tmp_path / "none")


def test_checkpoints_of_lightning_are_of_the_epoch_that_they_have_ended(data, tmp_path):
    """It counts from 0: its epoch 0 is no longer the initial network, which somebody may have saved beside it."""
    state = net(0).state_dict()
    for epoch in (0, 1):
        content = {"state_dict": state, "epoch": epoch, "pytorch-lightning_version": "2.5.0"}
        torch.save(content, tmp_path / f"epoch={epoch}-step={24 * epoch + 24}.ckpt")
    torch.save({"state_dict": state}, tmp_path / "epoch=7.ckpt")  # by somebody else's code
    torch.save({"state_dict": state}, tmp_path / "epoch_0.pt")
    (tmp_path / "epoch=8-step=9.ckpt").write_bytes((tmp_path / "epoch_0.pt").read_bytes()[:99])  # not whole yet
    assert [epoch for epoch, _ in checkpoints(tmp_path)] == [0, 1, 2, 7, 9]


def test_what_is_there_is_measured_once(data, tmp_path):
    for epoch in (0, 3):
        save_file(net(epoch).state_dict(), tmp_path / f"epoch-{epoch}.safetensors")
    torch.save({"state_dict": {f"model.{k}": v for k, v in net(5).state_dict().items()}}, tmp_path / "epoch-5.ckpt")
    found = tracker(data, tmp_path / "track")
    assert watch(found, net(9), tmp_path, scores=lambda n: {"bias": n[1].bias[0].item()}) == 3
    assert found.epochs == [0, 3, 5]
    for epoch, kernel in zip((0, 3, 5), found.kernels, strict=True):
        assert torch.equal(kernel, nl.empirical_kernel(net(epoch).eval())(data.test.x))
    assert found.scalars[1]["bias"] == pytest.approx(net(3)[1].bias[0].item())
    again = tracker(data, tmp_path / "track")
    assert watch(again, net(9), tmp_path) == 0
    assert torch.equal(again.kernels, found.kernels)


def test_a_training_that_is_still_writing(data, tmp_path):
    """Checkpoints come one by one, the second first in half."""
    seen = []

    def write() -> None:
        for epoch in range(3):
            target = tmp_path / f"epoch-{epoch}.safetensors"
            save_file(net(epoch).state_dict(), tmp_path / "whole")
            whole = (tmp_path / "whole").read_bytes()
            target.write_bytes(whole[: len(whole) // 2] if epoch == 1 else whole)
            time.sleep(0.3)
            target.write_bytes(whole)

    thread = threading.Thread(target=write)
    thread.start()
    found = tracker(data)
    count = watch(found, net(9), tmp_path, patience=3.0, poll=0.05, on_record=seen.append)
    thread.join()
    assert count == 3
    assert seen == found.epochs == [0, 1, 2]
    assert torch.equal(found.kernels[1], nl.empirical_kernel(net(1).eval())(data.test.x))


def test_checkpoints_that_vanish_are_passed_over(data, tmp_path, monkeypatch):
    """As Lightning removes the ones that are no longer the best."""
    for epoch in range(3):
        save_file(net(epoch).state_dict(), tmp_path / f"epoch-{epoch}.safetensors")
    found = tracker(data)

    def measured(epoch: float) -> None:
        (tmp_path / "epoch-1.safetensors").unlink(missing_ok=True)

    assert watch(found, net(9), tmp_path, on_record=measured) == 2
    assert found.epochs == [0, 2]


def test_checkpoints_of_another_network_are_refused(data, tmp_path):
    """A layer more than the network has would be left out, and another network measured than was trained."""
    for epoch in (1, 2):
        state = nn.Sequential(net(epoch), nn.Linear(2, 2)).state_dict()
        torch.save({"state_dict": state}, tmp_path / f"checkpoint_{epoch}.pth.tar")
    with pytest.raises(nl.InputError, match=r"it also has 1\.weight, 1\.bias"):
        watch(tracker(data), net(0), tmp_path)


def test_folders_without_or_with_damaged_checkpoints(data, tmp_path):
    with pytest.raises(nl.InputError, match="holds no checkpoint with an epoch in its name"):
        watch(tracker(data), net(0), tmp_path)
    (tmp_path / "epoch-1.safetensors").write_bytes(b"half")
    with pytest.raises(nl.InputError, match="is not a safetensors file"):
        watch(tracker(data), net(0), tmp_path)
