"""A user's own network from a file, and the errors for one that does not load."""

import pickle
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ntklens.errors import InputError
from ntklens.networks import load_network

SOURCE = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5))

def number():
    return 3

def broken():
    raise RuntimeError("no such thing")
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "model.py").write_text(SOURCE)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5)).eval()
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    return tmp_path, net


def test_a_factory_with_weights_in_eval_mode(files):
    folder, net = files
    loaded = load_network(f"{folder}/model.py:build", folder / "model.safetensors")
    x = torch.rand(5, 1, 2, 2)
    assert not loaded.training
    torch.testing.assert_close(loaded(x), net(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_and_an_exported_program(files):
    folder, net = files
    x = torch.rand(5, 1, 2, 2)
    torch.jit.script(net).save(folder / "model.pt")
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: batch},)), folder / "model.pt2")
    for name in ("model.pt", "model.pt2"):
        loaded = load_network(folder / name)
        torch.testing.assert_close(loaded(x[:3]), net(x[:3]))
        z = x.clone().requires_grad_()
        assert torch.autograd.grad(loaded(z).sum(), z)[0].shape == x.shape


@pytest.mark.parametrize(
    ("where", "weights", "message"),
    [
        ("model.onnx", None, "file.py:factory, or a .pt2"),
        ("net.pth.tar", None, "holds weights alone. Give the network as file.py:factory"),
        ("missing.pt", None, "does not exist"),
        ("missing.py:build", None, "does not exist; give a Python file"),
        ("model.py:make", None, "has no function make"),
        ("model.py:number", None, "expected a torch.nn.Module from number.*got int"),
        ("model.py:broken", None, "no such thing"),
        ("model.py:build", "missing.safetensors", "does not exist; give a file with the weights"),
        ("model.py:build", "model.py", "cannot be read: it is damaged"),
        ("model.py:build", "other.safetensors", r"does not fit the network: it lacks 1\.weight, 1\.bias"),
        ("bad.pt", None, "does not load as TorchScript"),
        ("bad.pt", "model.safetensors", "holds its own weights"),
    ],
)
def test_what_does_not_load_is_one_sentence(files, where, weights, message):
    folder, _ = files
    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")
    (folder / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=message):
        load_network(f"{folder}/{where}", None if weights is None else folder / weights)


def test_a_file_finds_its_neighbours(files, monkeypatch):
    folder, _ = files
    (folder / "neighbour_of_wrap.py").write_text(SOURCE)
    (folder / "wrap.py").write_text("from neighbour_of_wrap import build\n")
    monkeypatch.chdir("/")
    assert isinstance(load_network(f"{folder}/wrap.py:build"), nn.Sequential)
    assert str(folder) not in sys.path


def test_a_file_with_a_dataclass(files):
    folder, _ = files
    (folder / "data.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n\n"
        "@dataclass\nclass How:\n    width: int = 3\n\ndef build():\n    return nn.Linear(2, How().width)\n"
    )
    assert isinstance(load_network(f"{folder}/data.py:build"), nn.Linear)


def test_weights_in_the_place_of_a_network_and_the_other_way_round(files):
    folder, net = files
    for content in (net.state_dict(), net):
        torch.save(content, folder / "weights.pt")
        with pytest.raises(InputError, match=r"is a file of torch\.save, not TorchScript\. Give .*its weights"):
            load_network(folder / "weights.pt")
    with pytest.raises(InputError, match=r"net\.pt2 is an exported program, a whole network"):
        load_network(f"{folder}/model.py:build", exported(net, folder / "net.pt2"))


def test_weights_are_those_of_exactly_this_network(files):
    """What `load_state` reads and refuses, `load_network` does too."""
    folder, net = files
    prefixed = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"net": prefixed, "acc": 0.9}, folder / "w.pth.tar")
    x = torch.rand(5, 1, 2, 2)
    assert torch.equal(load_network(f"{folder}/model.py:build", folder / "w.pth.tar")(x), net(x))
    torch.save(net.state_dict() | {"4.weight": torch.ones(3, 3)}, folder / "more.pth")
    with pytest.raises(InputError, match=r"more\.pth does not fit the network: it also has 4\.weight"):
        load_network(f"{folder}/model.py:build", folder / "more.pth")


def exported(net, path):
    torch.export.save(torch.export.export(net, (torch.rand(2, 1, 2, 2),)), path)
    return path


def test_an_exported_program_moves_like_a_module(files):
    folder, net = files
    loaded = load_network(exported(net, folder / "net.pt2"))
    x = torch.rand(2, 1, 2, 2)
    assert len(list(loaded.parameters())) == 2
    torch.testing.assert_close(loaded.to(torch.float64)(x.double()).float(), net(x))


class Bomb:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


@pytest.mark.parametrize("where", ["weights", "constants"])
def test_pickles_in_an_exported_program_are_not_run(files, where, monkeypatch):
    """What `torch.export.load` would unpickle: a payload in place of a weight, and a legacy file."""
    folder, net = files
    monkeypatch.chdir(folder)
    whole = exported(net, folder / "net.pt2")
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / "evil.pt2", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if where == "weights" and name.endswith("model_weights_config.json"):
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            if where == "weights" and name.endswith("weight_0"):
                content = pickle.dumps(Bomb())
            new.writestr(name, content)
        if where == "constants":
            new.writestr(f"{name.partition('/')[0]}/data/constants/model.pt", pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"pickled objects|of tensors alone"):
        load_network(folder / "evil.pt2")
    assert not (folder / "ran").exists()
