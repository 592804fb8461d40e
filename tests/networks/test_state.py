"""Weights from checkpoints of other training code."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from ntklens.errors import InputError
from ntklens.networks import build, epoch_of, load_state


def net(width: int = 4) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(build("fc1", (1, 8, 8), 2, width=width), nn.BatchNorm1d(2))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


SAVED = {
    "state.safetensors": lambda s, path: save_file(s, path),
    "state.pt": lambda s, path: torch.save(s, path),
    "lightning.ckpt": lambda s, path: torch.save(
        {"epoch": 3, "state_dict": {f"model.{k}": v for k, v in s.items()} | {"metric.total": torch.ones(1)}}, path
    ),
    "parallel.pth": lambda s, path: torch.save({f"module.{k}": v for k, v in s.items()}, path),
    "compiled.bin": lambda s, path: torch.save({f"_orig_mod.{k}": v for k, v in s.items()}, path),
    "both.ckpt": lambda s, path: torch.save({"state_dict": {f"model._orig_mod.{k}": v for k, v in s.items()}}, path),
    "loop.pt": lambda s, path: torch.save({"model_state_dict": s, "optimiser": {"lr": 0.1}}, path),
}


@pytest.mark.parametrize("name", SAVED)
def test_files_of_many_trainings(name, tmp_path):
    SAVED[name](net().state_dict(), tmp_path / name)
    empty = build("fc1", (1, 8, 8), 2, width=4)
    other = nn.Sequential(empty, nn.BatchNorm1d(2)).train()
    before = {k: v.clone() for k, v in other.state_dict().items()}
    filled = load_state(other, tmp_path / name)
    assert same(filled, net())
    assert not filled.training
    assert other.training
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


def test_weights_that_are_shared_are_written_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    save_model(Tied(1), tmp_path / "tied.safetensors")
    filled = load_state(Tied(2), tmp_path / "tied.safetensors")
    assert same(filled, Tied(1))
    assert filled.a.weight is filled.b.weight


class Harmful:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path(self.mark),))


def test_nothing_in_a_file_runs(tmp_path):
    harmful = Harmful()
    harmful.mark = str(tmp_path / "ran")
    (tmp_path / "a.pt").write_bytes(pickle.dumps(harmful))
    torch.save({"state_dict": harmful}, tmp_path / "b.ckpt")
    for name in ("a.pt", "b.ckpt"):
        with pytest.raises(InputError, match="holds more than tensors"):
            load_state(net(), tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_files_that_do_not_fit(tmp_path):
    save_file(net(5).state_dict(), tmp_path / "wide.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    torch.save({"0.1.weight": torch.ones(4, 64)}, tmp_path / "part.pt")
    for name, message in {
        "none.pt": "does not exist",
        "wide.safetensors": "of a network of other sizes: size mismatch",
        "text.safetensors": "is not a safetensors file",
        "tensor.pt": "expected a state dict in .*got an object of type Tensor",
        "part.pt": r"it lacks 0\.1\.bias, 0\.3\.bias, 0\.3\.weight",
    }.items():
        with pytest.raises(InputError, match=message):
            load_state(net(), tmp_path / name)


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("epoch-3.safetensors", 3),
        ("epoch=12-step=240.ckpt", 12),
        ("resnet18_epoch_7.pt", 7),
        ("checkpoint-0040.pt", 40),
        ("v2-run-5.pth", 5),
        ("Epoch_3_step_120.pt", 3),
        ("7.pt", 7),
        ("last.ckpt", None),
        ("last-v1.ckpt", None),
        ("best-acc-0.93.ckpt", None),
        ("resnet18.pt", None),
        ("step=1200.ckpt", None),
    ],
)
def test_epochs_in_names(name, epoch):
    assert epoch_of(Path(name)) == epoch
