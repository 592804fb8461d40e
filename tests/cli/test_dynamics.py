import json
from typing import get_args

from cli.process import MODEL, ntklens
from ntklens.dynamics.advice import Kind


def test_dynamics_ends_with_what_the_path_says(tmp_path):
    small = ["--train", "60", "--test", "30", "--probe", "20", "--epochs", "3", "--steps", "2", "--linear-from", "1"]
    process = ntklens("dynamics", *small, "--machine-train", "30", "--out", tmp_path / "out", "--json")
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout)
    assert {r["training"] for r in results["settling"]} == {"standard", "PGD"}
    assert {r["kind"] for r in results["advice"]} <= set(get_args(Kind))
    assert [r["training"] for r in results["kernel_machines"]] == ["none", "standard", "PGD"]
    assert "How training moves the kernel" in (tmp_path / "out" / "report.html").read_text()


def test_dynamics_watches_checkpoints(tmp_path):
    import torch

    from ntklens.networks import build

    (tmp_path / "model.py").write_text(MODEL)
    for epoch in range(4):
        torch.manual_seed(epoch)
        state = build("fc1", (1, 28, 28), 2).state_dict() if epoch == 3 else torch.nn.Linear(784, 2).state_dict()
        torch.save({f"model.1.{k}": v for k, v in state.items()}, tmp_path / f"epoch-{epoch}.pt")
    which = ["--watch", tmp_path, "--model", tmp_path / "model.py:build", "--classes", "2,4", "--probe", "20"]
    other = ntklens("dynamics", *which, "--out", tmp_path / "out")
    assert other.returncode == 2
    assert "epoch-3.pt does not fit the network" in " ".join(other.stderr.split())
    (tmp_path / "epoch-3.pt").unlink()
    process = ntklens("dynamics", *which, "--out", tmp_path / "out", "--resume", "--json")
    assert process.returncode == 0, process.stderr
    assert {r["training"] for r in json.loads(process.stdout)["settling"]} == {"watched"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("The attack is PGD with 5 steps at ε = 8/255 in ℓ∞.") >= 2
    fewer = ntklens("dynamics", *which, "--classes", "2,4,6", "--out", tmp_path / "other")
    assert fewer.returncode == 2
    assert "the network has 2 outputs, and the data have 3 classes" in " ".join(fewer.stderr.split())
    assert not (tmp_path / "other").exists()
