import json

import pytest

from cli.process import MODEL, SMALL, ntklens


def test_attack_ends_with_a_report(finished_attack):
    folder, process = finished_attack
    assert process.returncode == 0, process.stderr
    assert "report.html" in process.stdout
    assert (folder / "report.html").stat().st_size > 20_000
    assert json.loads((folder / "record.json").read_text())["kind"] == "attack"


def test_json_for_programs(tmp_path):
    process = ntklens("attack", *SMALL, "--out", tmp_path / "run", "--json")
    rows = json.loads(process.stdout)["attack_curve"]
    assert {r["attack"] for r in rows} == {"noise", "fgsm", "pgd"}
    assert all(r["accuracy_low"] <= r["accuracy"] <= r["accuracy_high"] for r in rows)


def test_an_existing_run_is_kept(finished_attack):
    folder, _ = finished_attack
    before = (folder / "record.json").read_text()
    process = ntklens("attack", *SMALL, "--out", folder)
    assert process.returncode == 2
    assert "pass --overwrite" in process.stderr
    assert (folder / "record.json").read_text() == before


def test_a_radius_of_zero_changes_nothing(tmp_path):
    process = ntklens("attack", *SMALL, "--eps", "0", "--out", tmp_path / "out", "--json")
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout)["attack_curve"]
    assert len({r["accuracy"] for r in rows}) == 1


def test_images_outside_the_unit_interval(tmp_path):
    import numpy as np

    x, y = np.full((4, 8, 8), 7.0), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    process = ntklens("attack", "--data", tmp_path / "mine.npz", "--out", tmp_path / "out")
    assert process.returncode == 2
    assert "expected pixels in [0, 1]" in process.stderr


def write_png(folder, name) -> None:
    from PIL import Image

    (folder / name).mkdir(parents=True)
    for i in range(6):
        Image.new("L", (8, 8), 40 * i).save(folder / name / f"{i}.png")


def test_a_folder_of_images_is_attacked(tmp_path):
    for name in ("cat", "dog"):
        write_png(tmp_path / "pets", name)
    options = ["--ridge", "0.01", "--out", str(tmp_path / "out")]
    process = ntklens("attack", "--data", tmp_path / "pets", *options)
    assert process.returncode == 0, process.stderr


def test_a_network_of_ones_own_is_attacked_without_a_look_inside(tmp_path):
    import numpy as np
    import torch
    from safetensors.torch import save_file

    import ntklens as nl
    from ntklens.networks import train

    (tmp_path / "model.py").write_text(MODEL)
    data = nl.load_dataset("fashion-mnist-mini", classes=[2, 4])
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2))
    options = {"epochs": 5, "batch_size": 50, "learning_rate": 0.05, "generator": torch.Generator().manual_seed(0)}
    net = train(net, data.train.x, data.train.y, **options)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    victim = ["--victim", tmp_path / "model.py:build", "--weights", tmp_path / "w.safetensors", "--classes", "2,4"]
    options = ["--sample", "200", "--test", "100", "--eps", "16/255", "--out", tmp_path / "out", "--json"]
    process = ntklens("attack", *victim, "--surrogate", "fc1", *options)
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout)["attacks"]
    assert rows["fc1"]["accuracy"] < rows["noise"]["accuracy"] - 0.1
    assert rows["fc1"]["gradient_evaluations"] == 1000  # of the surrogate
    before = sorted(tmp_path.glob("out/**/*"))
    wrong = ntklens("attack", *victim, "--surrogate", "net:nope", *options, "--overwrite")
    assert wrong.returncode == 2
    assert sorted(tmp_path.glob("out/**/*")) == before  # and nothing is lost
    with np.load(tmp_path / "out" / "arrays" / "victim.npz") as arrays:
        x = torch.from_numpy(arrays["x_adv"])
        assert float((net(x).argmax(1).numpy() == arrays["y"]).mean()) == rows["fc1"]["accuracy"]
        assert float(np.abs(arrays["x_adv"] - arrays["x"]).max()) <= 16 / 255 + 1e-6
    assert (tmp_path / "out" / "adversarial.png").stat().st_size > 10_000


WIDER = """
from torch import nn

def untrained(outputs):
    last = nn.Linear(784, outputs)
    nn.init.constant_(last.weight, 1e-4)
    nn.init.constant_(last.weight[-1], 2e-4)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Flatten(), last)

def ten():
    return untrained(10)

def one():
    return untrained(1)
"""


@pytest.mark.parametrize("factory", ["ten", "one"])
def test_networks_with_more_outputs_than_classes_and_with_one(tmp_path, factory):
    """Neither was trained: the checks say that what is attacked is no better than chance."""
    (tmp_path / "wide.py").write_text(WIDER)
    small = ["--classes", "2,4", "--test", "30", "--train", "150", "--steps", "2"]
    process = ntklens(
        "attack", "--victim", f"{tmp_path}/wide.py:{factory}", *small, "--out", tmp_path / "out", "--json"
    )
    assert process.returncode == 0, process.stderr
    checks = {r["check"]: r for r in json.loads(process.stdout)["victim_checks"]}
    assert checks["clean accuracy"]["passed"] is False
    assert "are its weights loaded" in (tmp_path / "out" / "report.html").read_text()


def test_a_saved_machine_is_a_victim(tmp_path):
    import ntklens as nl
    from ntklens.networks import build

    data = nl.load_dataset("fashion-mnist-mini", classes=[2, 4])
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 1)))
    machine.fit(data.train.x[:100], data.train.y[:100]).save(tmp_path / "machine.safetensors")
    options = ["--classes", "2,4", "--test", "40", "--method", "fgsm", "--out", tmp_path / "out", "--json"]
    process = ntklens("attack", "--victim", tmp_path / "machine.safetensors", *options)
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout)["attacks"]
    x_adv = nl.fgsm(machine, data.test.x[:40], data.test.y[:40], 8 / 255)
    assert rows["white-box"]["accuracy"] == machine.score(x_adv, data.test.y[:40])
    other = ntklens("attack", "--victim", tmp_path / "machine.safetensors", *options, "--arch", "fc2", "--overwrite")
    assert other.returncode == 2
    assert "was saved with; got one with other values" in " ".join(other.stderr.split())
