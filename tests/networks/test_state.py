"""Weights from checkpoints of other training code."""

import argparse
import contextlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from ntklens.errors import InputError
from ntklens.networks import build, epoch_of, load_state
from ntklens.networks.state import fill


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


class Untied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)


def test_shared_and_separate_weights_are_told_apart(tmp_path):
    """A file of two values is of another network; a file with one, of which the other name is known, is read."""

    class Tied(Untied):
        def __init__(self) -> None:
            super().__init__()
            self.b.weight = self.a.weight

    save_file(Untied().state_dict(), tmp_path / "two.safetensors")
    with pytest.raises(InputError, match=r"in which a\.weight and b\.weight are one tensor"):
        load_state(Tied(), tmp_path / "two.safetensors")
    tied = Tied()
    save_model(tied, tmp_path / "one.safetensors")
    filled = load_state(Untied(), tmp_path / "one.safetensors")
    assert torch.equal(filled.b.weight, tied.a.weight)


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


STATE = linear(7).state_dict()


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + k: v for k, v in STATE.items()}


class Scheduler(dict):
    """Training code with a dictionary of its own."""


FITTING = {
    **{
        key: {key: STATE, "acc": 93.1, "epoch": 3}
        for key in (
            "net",
            "model_state_dict",
            "weight",
            "weights",
            "params",
            "model_state",
            "ema",
            "module",
            "generator",
        )
    },
    **{p: prefixed(p) for p in ("module._orig_mod.", "model.net.", "_forward_module.", "module.backbone.0.")},
    "compiled within": {k.replace("0.", "0._orig_mod."): v for k, v in STATE.items()},
    "averaged": prefixed("module.") | {"n_averaged": torch.tensor(3)},
    "list": {"models": [STATE]},
    "two levels": {"state": {"network": STATE}, "step": 4},
    "the same twice": {"model": STATE, "state_dict": {k: v.clone() for k, v in STATE.items()}},
    "optimiser": {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(3, 4)}}, "momentum": STATE}},
    "loss and metrics": {
        "state_dict": prefixed("model.")
        | {"weight": torch.ones(2), "loss_fn.net.weight": torch.ones(3, 3), "val_acc.tp": torch.ones(2).long()}
    },
    "numpy": {
        "state_dict": STATE,
        "best": np.float64(0.9),
        "rng": np.random.default_rng(0).bytes(3),
        "a": np.arange(3),
    },
    "other objects": {"state_dict": STATE, "args": argparse.Namespace(lr=0.1), "path": Path("x"), "s": Scheduler(a=1)},
    "a dictionary of its own": Scheduler(STATE),
    "half": {k: v.half() for k, v in STATE.items()},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", FITTING)
def test_every_nesting_and_prefix_gives_the_same_network(name, legacy, tmp_path):
    torch.save(FITTING[name], tmp_path / "a.pth.tar", _use_new_zipfile_serialization=not legacy)
    filled = load_state(linear(), tmp_path / "a.pth.tar")
    x = torch.rand(5, 4)
    torch.testing.assert_close(filled(x), linear(7)(x), rtol=0, atol=1e-2 if name == "half" else 0)


BIGGER = STATE | {"4.weight": torch.ones(2, 2), "4.bias": torch.ones(2)}
MISFITS = {
    "one layer more": (BIGGER, r"it also has 4\.weight, 4\.bias \(2 tensors\), for which the network has no place"),
    "a head beside": (
        prefixed("model.") | {"head.weight": torch.ones(2, 2), "head.bias": torch.ones(2)},
        r"it also has head\.weight, head\.bias",
    ),
    "a head in another entry": (
        {"backbone": STATE, "head": {"weight": torch.ones(2, 2)}},
        r"it also has head\.weight \(1 tensor\)",
    ),
    "normalisation beside": (prefixed("net.") | {"mean": torch.zeros(1, 3, 1, 1)}, "it also has mean"),
    "an average too": (
        {"model": STATE, "ema": linear(8).state_dict()},
        "holds several weights that fit the network, under `model`, `ema`; save the ones you mean",
    ),
    "a teacher too": (
        {"state_dict": prefixed("student.") | {"teacher." + k: v + 1 for k, v in STATE.items()}},
        "under `state_dict` with the prefix `student.`, `state_dict` with the prefix `teacher.`",
    ),
    "one layer less": (
        {"net": {k: v for k, v in STATE.items() if k[0] == "0"}, "acc": 1.0},
        r"it lacks 2\.weight, 2\.bias \(2 of 4 tensors\)\. It holds `net` \(2 tensors: 0\.weight, 0\.bias\), `acc`",
    ),
    "another width": (
        STATE | {"2.weight": torch.ones(5, 3), "2.bias": torch.ones(5)},
        r"`2\.weight` has shape \(5, 3\) where the network has \(2, 3\) \(2 such\)",
    ),
    "whole numbers": ({k: v.to(torch.int8) for k, v in STATE.items()}, r"numbers of type torch\.int8 where .*float32"),
    "complex numbers": ({k: v + 0j for k, v in STATE.items()}, "numbers of type torch.complex64"),
    "arrays": (
        {k: v.numpy() for k, v in STATE.items()},
        r"It holds `0\.weight` \(numpy\._core\.multiarray\._reconstruct\)",
    ),
    "a whole module": (linear(7), "It holds an object of type torch.nn.modules.container.Sequential"),
    "an empty file": ({}, "it lacks .*It holds nothing"),
    "a tensor": (torch.ones(3), "It holds an object of type Tensor"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_weights_of_another_network_are_refused(name, tmp_path):
    content, message = MISFITS[name]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=message):
        load_state(linear(), tmp_path / "a.pt")


def test_batch_norm_without_its_counter(tmp_path):
    """Files of old versions of torch lack the number of batches, on which no output depends."""
    trained = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    trained(torch.rand(9, 4))
    torch.save({k: v for k, v in trained.state_dict().items() if "num_batches" not in k}, tmp_path / "old.pth")
    filled = load_state(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), tmp_path / "old.pth")
    assert torch.equal(filled[1].running_mean, trained[1].running_mean)


def test_a_compiled_and_a_parallel_network_take_the_weights_of_the_plain_one(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    x = torch.rand(3, 4)
    for wrapped in (nn.DataParallel(linear()), torch.compile(linear(), backend="eager")):
        assert torch.equal(load_state(wrapped, tmp_path / "a.pt")(x), linear(7)(x))
    inside = linear()
    inside[0] = torch.compile(inside[0], backend="eager")
    fill(inside, tmp_path / "a.pt")
    assert torch.equal(inside[0]._orig_mod.weight, STATE["0.weight"])


def test_weights_in_several_files(tmp_path):
    places = {k: f"part-{k[0]}.safetensors" for k in STATE}
    for part in set(places.values()):
        save_file({k: v for k, v in STATE.items() if places[k] == part}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for path in (index, tmp_path):
        assert same(load_state(linear(), path), linear(7))
    (tmp_path / "part-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"names part-2\.safetensors, which does not exist beside it"):
        load_state(linear(), index)
    save_file({"2.bias": STATE["2.bias"]}, tmp_path / "part-2.safetensors")
    with pytest.raises(InputError, match=r"names 2\.weight, which is in none of its files"):
        load_state(linear(), index)
    index.write_text("[]")
    with pytest.raises(InputError, match="is not an index of files of weights"):
        load_state(linear(), index)


class Harmful:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path(self.mark),))


class System:
    def __reduce__(self) -> tuple:
        return (os.system, (f"touch {self.mark}",))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", [Harmful, System])
def test_nothing_in_a_file_runs(kind, legacy, tmp_path):
    harmful = kind()
    harmful.mark = str(tmp_path / "ran")
    (tmp_path / "a.pt").write_bytes(pickle.dumps(harmful))
    torch.save({"state_dict": harmful}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=not legacy)
    for name in ("a.pt", "b.ckpt"):
        with pytest.raises(InputError, match=r"holds more than tensors|It holds `state_dict` \(\w"):
            load_state(linear(), tmp_path / name)
    torch.save({"state_dict": STATE, "more": harmful}, tmp_path / "c.ckpt", _use_new_zipfile_serialization=not legacy)
    with contextlib.suppress(InputError):
        load_state(linear(), tmp_path / "c.ckpt")
    assert not (tmp_path / "ran").exists()


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "text.safetensors").write_text("no")
    (tmp_path / "text.pt").write_text("no")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    torch.jit.script(linear()).save(tmp_path / "script.pt")
    for name, message in {
        "none.pt": "does not exist",
        "text.safetensors": "is not a safetensors file",
        "text.pt": "cannot be read: it is damaged",
        "empty.pth": "cannot be read: it is damaged",
        "script.pt": "is a TorchScript program, a whole network; give it in the network's place",
        "folder": "is a folder; give the file of weights in it",
    }.items():
        with pytest.raises(InputError, match=message):
            load_state(linear(), tmp_path / name)


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
        ("checkpoint_epoch_3.pth.tar", 3),
        ("checkpoint_12.pth.tar", 12),
        ("model_best.pth.tar", None),
        ("last.ckpt", None),
        ("last-v1.ckpt", None),
        ("best-acc-0.93.ckpt", None),
        ("resnet18.pt", None),
        ("step=1200.ckpt", None),
    ],
)
def test_epochs_in_names(name, epoch):
    assert epoch_of(Path(name)) == epoch
