"""The command line as a user meets it: a process, its exit code, its one sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.test_datasets import cifar_archive

SMALL = ["--classes", "2,4", "--train", "40", "--test", "20", "--steps", "2"]


def ntklens(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ntklens.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    return folder, ntklens("attack", *SMALL, "--out", folder)


def test_attack_ends_with_a_report(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    assert (folder / "report.html").stat().st_size > 20_000
    assert json.loads((folder / "record.json").read_text())["kind"] == "attack"


def test_json_for_programs(tmp_path):
    done = ntklens("attack", *SMALL, "--out", tmp_path / "run", "--json")
    rows = json.loads(done.stdout)["attack_curve"]
    assert {r["attack"] for r in rows} == {"noise", "fgsm", "pgd"}
    assert all(r["low"] <= r["accuracy"] <= r["high"] for r in rows)


def test_report_renders_again(finished, tmp_path):
    folder, _ = finished
    done = ntklens("report", folder, "--out", tmp_path / "again.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.html").read_text() == (folder / "report.html").read_text()


def test_data_lists_what_there_is():
    done = ntklens("data", "--json")
    rows = {r["name"]: r for r in json.loads(done.stdout)}
    assert rows["fashion-mnist-mini"]["files"] == "with the package"
    assert set(rows) >= {"digits", "mnist", "fashion-mnist", "cifar10"}


@pytest.mark.parametrize(
    "verb", ["demo", "data", "attack", "transfer", "features", "dynamics", "paper", "run", "report"]
)
def test_help_has_an_example(verb):
    done = ntklens(verb, "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout


def write_png(folder: Path, name: str) -> None:
    from PIL import Image

    (folder / name).mkdir(parents=True)
    for i in range(6):
        Image.new("L", (8, 8), 40 * i).save(folder / name / f"{i}.png")


WRONG = {
    "unknown data set": (["attack", "--data", "imagenet"], "is not known; give one of"),
    "missing file": (["attack", "--data", "missing.npz"], "missing.npz does not exist"),
    "unknown class": (["attack", "--classes", "0,77"], "has no class 77"),
    "one class": (["attack", "--classes", "3"], "two or more different classes"),
    "unknown architecture": (["attack", "--arch", "vit"], "is not known; choose one of"),
    "negative radius": (["attack", "--eps", "-1"], "`attack.eps` does not fit"),
    "radius in pixel steps": (["attack", "--eps", "8"], "pixels lie in [0, 1]"),
    "endless radius": (["attack", "--eps", "inf"], "should be a finite number"),
    "radius not a number": (["attack", "--eps", "big"], "a number or a fraction such as 8/255"),
    "unknown norm": (["attack", "--norm", "l1"], "`attack.norm` does not fit"),
    "more images than there are": (["attack", "--train", "99999"], "from 1 to 4000"),
    "no cuda": (["attack", "--device", "cuda"], "use --device cpu"),
    "no run": (["report", "nowhere"], "does not exist; give the folder"),
    "unknown surrogate": (["transfer", "--surrogates", "svm"], "is not known: give noise, linear"),
    "unknown victim": (["transfer", "--victims", "vit"], "is not known; choose one of"),
    "a victim that is not there": (["attack", "--victim", "nowhere.py:build"], "nowhere.py does not exist"),
    "a surrogate without a victim": (["attack", "--surrogate", "fc3"], "belong to a --victim"),
    "an option without a victim": (["attack", "--method", "square"], "are those of an attack on a --victim"),
    "an export of nothing": (["features", "--export", "a.npz"], "--export writes what --robust-networks"),
    "ranks of nothing": (["features", "--ranks", "5"], "--ranks are those of the data that --robust-networks"),
    "no ranks": (["features", "--robust-networks", "fc1", "--ranks", "some"], "--ranks takes whole numbers"),
    "a watch that would train": (
        ["dynamics", "--watch", ".", "--model", "m.py:f", "--epochs", "3", "--network", "fc1"],
        "architecture, epochs would have no effect; leave them out",
    ),
    "a watch without a network": (["dynamics", "--watch", "."], "give both or neither"),
    "no epochs": (["dynamics", "--linear-from", "first"], "--linear-from takes whole numbers"),
    "an epoch too late": (["dynamics", "--epochs", "5", "--linear-from", "9"], "takes epochs from 0 to 5"),
    "unknown training": (["dynamics", "--trainings", "TRADES"], "`dynamics.trainings.0` does not fit"),
    "more probes than images": (
        ["dynamics", "--test", "50", "--probe", "80"],
        "`probe` asks for 80 test images; there are 50",
    ),
    "more top eigenvectors than probes": (["dynamics", "--probe", "8"], "give more probe images"),
    "unknown network": (["dynamics", "--network", "vit"], "is not known; choose one of"),
    "no such paper": (["paper", "diffusion"], "must be one of transfer, features"),
    "a time of nothing": (["attack", "--victim", "a.pt", "--time", "5"], "--time is that of a --surrogate"),
    "no time": (["attack", "--victim", "a.pt", "--surrogate", "fc1", "--time", "soon"], "a number from 0 was expected"),
    "no experiment": (["run", "nowhere.toml"], "nowhere.toml does not exist"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence_and_exit_code_2(name, tmp_path):
    arguments, message = WRONG[name]
    out = (
        ["--out", str(tmp_path / "out")]
        if arguments[0] in ("attack", "run", "transfer", "features", "dynamics", "paper")
        else []
    )
    done = ntklens(*arguments, *out)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_existing_run_is_kept(finished):
    folder, _ = finished
    before = (folder / "record.json").read_text()
    done = ntklens("attack", *SMALL, "--out", folder)
    assert done.returncode == 2
    assert "pass --overwrite" in done.stderr
    assert (folder / "record.json").read_text() == before


def test_images_outside_the_unit_interval(tmp_path):
    import numpy as np

    x, y = np.full((4, 8, 8), 7.0), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    done = ntklens("attack", "--data", tmp_path / "mine.npz", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "pixels in [0, 1] were expected" in done.stderr


def test_a_folder_of_images_is_attacked(tmp_path):
    for name in ("cat", "dog"):
        write_png(tmp_path / "pets", name)
    options = ["--ridge", "0.01", "--out", str(tmp_path / "out")]
    done = ntklens("attack", "--data", tmp_path / "pets", *options)
    assert done.returncode == 0, done.stderr


MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
"""


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
    done = ntklens("attack", *victim, "--surrogate", "fc1", *options)
    assert done.returncode == 0, done.stderr
    rows = {r["attack"]: r for r in json.loads(done.stdout)["victim"]}
    assert rows["pgd"]["accuracy"] < rows["noise"]["accuracy"] - 0.1
    assert rows["pgd"]["gradient_evaluations"] == 1000  # of the surrogate
    before = sorted(tmp_path.glob("out/**/*"))
    wrong = ntklens("attack", *victim, "--surrogate", "net:nope", *options, "--overwrite")
    assert wrong.returncode == 2
    assert sorted(tmp_path.glob("out/**/*")) == before  # and nothing is lost
    with np.load(tmp_path / "out" / "arrays" / "victim.npz") as made:
        x = torch.from_numpy(made["x_adv"])
        assert float((net(x).argmax(1).numpy() == made["y"]).mean()) == rows["pgd"]["accuracy"]
        assert float(np.abs(made["x_adv"] - made["x"]).max()) <= 16 / 255 + 1e-6
    assert (tmp_path / "out" / "adversarial.png").stat().st_size > 10_000


def test_features_end_with_a_data_set_of_their_own(tmp_path):
    small = ["--classes", "2,4", "--train", "80", "--test", "40", "--compare", "", "--scored", "20"]
    robust = ["--robust-networks", "fc1", "--ranks", "5", "--export", tmp_path / "robust.npz", "--frames", "2"]
    done = ntklens("features", *small, *robust, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["subsets"][0]["features"] == "all"
    assert {r["trained_on"] for r in made["robust_data"]} >= {"original", "features: first 5", "random"}
    assert (tmp_path / "out" / "features.gif").exists()
    again = ntklens("attack", "--data", tmp_path / "robust.npz", "--ridge", "0.1", "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr


def test_a_radius_of_zero_changes_nothing(tmp_path):
    done = ntklens("attack", *SMALL, "--eps", "0", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["attack_curve"]
    assert len({r["accuracy"] for r in rows}) == 1


def test_the_papers_features_on_a_stand_in_of_cifar10(tmp_path):
    """The command of the README on an archive of noise: colour images, chosen features, all of them scored."""
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", each=60)
    which = ["--data", "cifar10", "--data-dir", tmp_path, "--classes", "airplane,automobile", "--eps", "8/255"]
    options = ["--pictured", "0,1,2", "--compare", "", "--ridge", "0.01", "--out", tmp_path / "out", "--json"]
    done = ntklens("features", *which, *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["picture_rows"]
    assert [r["index"] for r in rows] == [0, 1, 2]
    assert all(0 <= r["robustness"] <= r["usefulness"] <= 1 for r in rows)


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
    options = [
        "--classes",
        "2,4",
        "--test",
        "30",
        "--train",
        "150",
        "--steps",
        "2",
        "--out",
        tmp_path / "out",
        "--json",
    ]
    done = ntklens("attack", "--victim", f"{tmp_path}/wide.py:{factory}", *options)
    assert done.returncode == 0, done.stderr
    checks = {r["check"]: r for r in json.loads(done.stdout)["victim_checks"]}
    assert checks["right before"]["passed"] == "no"
    assert "are its weights loaded" in (tmp_path / "out" / "report.html").read_text()


def test_transfer_ends_with_who_is_fooled_by_whom(tmp_path):
    small = ["--classes", "2,4", "--train", "100", "--test", "40", "--sample", "60", "--epochs", "2", "--seeds", "2"]
    which = ["--surrogates", "noise,ntk:fc1", "--victims", "fc1"]
    done = ntklens("transfer", *small, *which, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["transfer_means"]
    assert [r["surrogate"] for r in rows] == ["clean", "noise", "ntk:fc1", "white-box"]
    assert all(r["seeds"] == 2 for r in rows)
    assert "Who is fooled" in (tmp_path / "out" / "report.html").read_text()


def test_a_saved_machine_is_a_victim(tmp_path):
    import ntklens as nl
    from ntklens.networks import build

    data = nl.load_dataset("fashion-mnist-mini", classes=[2, 4])
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 1)))
    machine.fit(data.train.x[:100], data.train.y[:100]).save(tmp_path / "machine.safetensors")
    options = ["--classes", "2,4", "--test", "40", "--method", "fgsm", "--out", tmp_path / "out", "--json"]
    done = ntklens("attack", "--victim", tmp_path / "machine.safetensors", *options)
    assert done.returncode == 0, done.stderr
    rows = {r["attack"]: r for r in json.loads(done.stdout)["victim"]}
    found = nl.fgsm(machine, data.test.x[:40], data.test.y[:40], 8 / 255)
    assert rows["fgsm"]["accuracy"] == machine.score(found, data.test.y[:40])
    other = ntklens("attack", "--victim", tmp_path / "machine.safetensors", *options, "--arch", "fc2", "--overwrite")
    assert other.returncode == 2
    assert "was saved with another kernel" in " ".join(other.stderr.split())


def test_dynamics_ends_with_what_the_path_says(tmp_path):
    small = ["--train", "60", "--test", "30", "--probe", "20", "--epochs", "3", "--steps", "2", "--linear-from", "1"]
    done = ntklens("dynamics", *small, "--machine", "30", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert {r["training"] for r in made["lazy_epochs"]} == {"standard", "PGD"}
    assert {r["kind"] for r in made["advice"]} <= {"moving", "lazy", "plateau", "dead", "overfitting"}
    assert [r["training"] for r in made["kernel_machines"]] == ["none", "standard", "PGD"]
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
    done = ntklens("dynamics", *which, "--out", tmp_path / "out", "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert {r["training"] for r in json.loads(done.stdout)["lazy_epochs"]} == {"watched"}
