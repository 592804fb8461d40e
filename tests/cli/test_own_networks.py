"""The user's own network in every command: a factory with its weights, and kernels of it."""

import json

import pytest
import torch

import ntklens as nl
from cli.process import ntklens
from ntklens.errors import NtklensError
from ntklens.networks import build
from ntklens.study import Spec, run

_SMALL = ["--classes", "2,4", "--train", "60", "--test", "30"]
_NETWORKS = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x):
        h = self.stem(x)
        return self.head(torch.relu(h + self.block(h)))

def resnet():
    return Residual()

def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.GELU(), nn.Linear(8, 1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    (folder / "nets.py").write_text(_NETWORKS)
    namespace: dict = {}
    exec(compile(_NETWORKS, "nets.py", "exec"), namespace)
    torch.manual_seed(0)
    torch.save(namespace["resnet"]().state_dict(), folder / "resnet.pt")
    torch.save(namespace["mlp"]().state_dict(), folder / "mlp.pt")
    return folder


def _tables(process, folder):
    assert process.returncode == 0, process.stderr
    return json.loads((folder / "record.json").read_text())["tables"]


def test_features_of_the_tangent_kernel_of_a_trained_network(folder, tmp_path):
    out = tmp_path / "run"
    which = ["--arch", f"{folder}/nets.py:resnet", "--weights", folder / "resnet.pt", "--kernel", "empirical"]
    others = ["--compare", f"{folder}/nets.py:mlp@{folder}/mlp.pt", "--robust-networks", f"{folder}/nets.py:mlp"]
    tables = _tables(ntklens("features", *_SMALL, *which, *others, "--scored", "20", "--out", out), out)
    assert [row["kernel"] for row in tables["side_by_side"]] == ["nets.py:resnet@resnet.pt", "nets.py:mlp@mlp.pt"]
    assert {row["network"] for row in tables["robust_data"]} == {"nets.py:mlp"}
    # The eigenvalues are those of the kernel that Python gives.
    data = nl.load_dataset("fashion-mnist-mini", classes=(2, 4), train=60, test=30)
    network = nl.load_network(f"{folder}/nets.py:resnet", folder / "resnet.pt")
    theta = nl.empirical_kernel(network)(data.train.x.double())
    first = [row["eigenvalue"] for row in tables["features"]]
    assert first == pytest.approx(torch.linalg.eigvalsh(theta).flip(0)[:20].tolist(), rel=1e-6)


def test_a_layer_without_a_rule_is_refused_with_the_command_that_works(folder, tmp_path):
    process = ntklens("features", *_SMALL, "--arch", f"{folder}/nets.py:resnet", "--out", tmp_path / "run")
    assert process.returncode == 2
    assert "MaxPool2d" in process.stderr
    assert process.stderr.rstrip().endswith("--kernel empirical")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernel": {"architecture": "nets.py:mlp", "weights": "mlp.pt"}}, "kernel, which does not depend on them"),
        ({"features": {"compare": ["nets.py:mlp@mlp.pt"]}}, "kernel, which does not depend on them"),
        ({"kernel": {"architecture": "machine.safetensors", "ridge": 0.1}}, "ridge would have no effect"),
        ({"kernel": {"architecture": "machine.safetensors"}}, "does not exist"),
        ({"kernel": {"architecture": "nets.py:mlp@mlp.pt", "weights": "mlp.pt"}}, "expected one file of weights"),
        ({"kernel": {"architecture": "fc3", "weights": "mlp.pt"}}, "fc3 takes no weights"),
        ({"kernel": {"architecture": "nets.py:nothing"}}, "has no function nothing"),
        ({"kernel": {"architecture": "nets.py:resnet"}}, "MaxPool2d"),
        ({"features": {"compare": ["fc0"]}}, 'got "fc0"'),
        ({"kernel": {"kind": "neural"}}, "neural"),
        ({"features": {"robust_networks": ["machine.safetensors"]}}, "a saved machine"),
        ({"transfer": {"victims": ["nets.py:mlp@resnet.pt"]}}, "does not fit the network"),
        ({"transfer": {"surrogates": ["entk:victim.pt2"]}}, "its parameters"),
        ({"dynamics": {"architecture": "victim.pt2"}}, "a saved program"),
        ({"lazy": {}, "kernel": {"architecture": "nets.py:mlp"}}, "networks of several widths"),
    ],
    ids=str,
)
def test_networks_that_do_not_fit_are_refused_before_the_run(folder, tmp_path, monkeypatch, values, message):
    monkeypatch.chdir(folder)
    data = {"name": "fashion-mnist-mini", "classes": [2, 4], "train": 60, "test": 30}
    with pytest.raises(NtklensError, match=message):
        run(Spec.parse({"data": data} | values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_own_networks_as_surrogates_and_as_victims(folder, tmp_path):
    out = tmp_path / "run"
    resnet, mlp = f"{folder}/nets.py:resnet@{folder}/resnet.pt", f"{folder}/nets.py:mlp"
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", (1, 28, 28), 1)), nl.GradientFlow(2.0))
    data = nl.load_dataset("fashion-mnist-mini", classes=(2, 4), train=60, test=30)
    machine.fit(data.train.x, data.train.y).save(tmp_path / "machine.safetensors")
    options = ["--sample", "30", "--epochs", "1", "--seeds", "2", "--steps", "2"]
    which = ["--surrogates", f"entk:{resnet},ntk:{mlp},net:{mlp},net:{resnet}+mi,ntk:{tmp_path}/machine.safetensors"]
    victims = ["--victims", f"{resnet},{mlp},{tmp_path}/machine.safetensors"]
    tables = _tables(ntklens("transfer", *_SMALL, *options, *which, *victims, "--out", out), out)
    seeds = {row["victim"]: row["seeds"] for row in tables["transfer_means"]}
    assert seeds == {"nets.py:resnet@resnet.pt": 1, "nets.py:mlp": 2, "machine.safetensors": 1}
    sources = {row["surrogate"] for row in tables["transfer_means"]}
    assert {"entk:nets.py:resnet@resnet.pt", "ntk:nets.py:mlp", "ntk:machine.safetensors"} <= sources
    given = tables["transfer_meta"][0]["given"]
    assert given == "nets.py:resnet@resnet.pt, machine.safetensors"
    clean = next(
        r for r in tables["transfer_means"] if (r["surrogate"], r["victim"]) == ("clean", "machine.safetensors")
    )
    assert clean["accuracy"] == machine.score(data.test.x, data.test.y)
    assert "tangent kernel of nets.py:resnet@resnet.pt with its own weights" in (out / "report.html").read_text()


def test_dynamics_train_an_own_network_from_its_weights(folder, tmp_path):
    out = tmp_path / "run"
    which = ["--arch", f"{folder}/nets.py:mlp", "--weights", folder / "mlp.pt", "--epochs", "2", "--probe", "20"]
    tables = _tables(ntklens("dynamics", *_SMALL, *which, "--trainings", "standard", "--out", out), out)
    assert tables["dynamics_meta"][0]["architecture"] == "nets.py:mlp@mlp.pt"
    # Epoch 0 has the accuracy of the weights that were given.
    data = nl.load_dataset("fashion-mnist-mini", classes=(2, 4), train=60, test=30)
    f = nl.load_network(f"{folder}/nets.py:mlp", folder / "mlp.pt")(data.test.x)[:, 0]
    assert tables["dynamics"][0]["accuracy"] == pytest.approx(float(((f > 0).long() == data.test.y).double().mean()))


def test_a_saved_machine_brings_its_kernel_and_its_filter(tmp_path):
    data = nl.load_dataset("fashion-mnist-mini", classes=(2, 4), train=60, test=30)
    kernel = nl.analytic_kernel(build("fc2", (1, 28, 28), 1), 1.3, 0.2)
    machine = nl.KernelMachine(kernel, nl.GradientFlow(5.0)).fit(data.train.x, data.train.y)
    machine.save(tmp_path / "machine.safetensors")
    out = tmp_path / "run"
    process = ntklens("features", *_SMALL, "--arch", tmp_path / "machine.safetensors", "--compare", "fc1", "--out", out)
    tables = _tables(process, out)
    spectrum = machine.factorisation.spectrum.eigenvalues.tolist()
    assert [row["eigenvalue"] for row in tables["features"]] == pytest.approx(spectrum, rel=1e-9)
    assert [row["kernel"] for row in tables["side_by_side"]] == ["machine.safetensors", "fc1"]
