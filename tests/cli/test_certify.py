"""`ntklens certify`: the figures of the library, for networks and for saved machines."""

import csv
import json

import pytest

import ntklens as nl
from cli.process import ntklens

SMALL = ["--classes", "2,4", "--train", "60", "--test", "12", "--size", "14"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The folder of a small run, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("certify") / "run"
    options = ["--top", "5", "--eps", "4/255", "--steps", "10", "--radius", "--quick", "--json"]
    process = ntklens("certify", "fc2", *SMALL, *options, "--out", folder)
    assert process.returncode == 0, process.stderr
    return folder, json.loads(process.stdout)


def test_the_figures_are_those_of_the_library(told):
    folder, printed = told
    data = nl.load_dataset("fashion-mnist-mini", classes=["2", "4"], train=60, test=12, size=14)
    with (folder / "images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["class"]) for row in rows] == data.test.y.tolist()
    assert printed["images"] == len(rows) == 12
    for tier in ("wrong", "attacked", "undecided", "linear"):
        assert printed[tier] == sum(row["tier"] == tier for row in rows)
    proved = [row for row in rows if float(row["bound"]) > 0]
    assert printed["certified_accuracy"] == len(proved) / 12
    assert all(float(row["radius"]) >= 0.9 * 4 / 255 for row in proved)
    assert all(float(row["bound"]) <= float(row["attacked_margin"]) + 1e-9 for row in rows)
    assert 0 < printed["certified_accuracy"] <= printed["attacked_accuracy"] <= printed["clean_accuracy"] <= 1
    kept = json.loads((folder / "certificates.json").read_text())
    assert kept == {name: value for name, value in printed.items() if name != "run"}
    assert kept["filter"] == "Band(indices=(0, 1, 2, 3, 4))"


def test_a_saved_machine_is_certified_as_it_is(tmp_path):
    fitted = ntklens("fit", "fc1", *SMALL, "--ridge", "0.5", "--out", tmp_path / "fit")
    assert fitted.returncode == 0, fitted.stderr
    machine = tmp_path / "fit" / "machine.safetensors"
    same = [*SMALL[:2], *SMALL[4:]]  # without --train, which cannot change a machine
    process = ntklens("certify", machine, *same, "--eps", "2/255", "--out", tmp_path / "run", "--json")
    assert process.returncode == 0, process.stderr
    printed = json.loads(process.stdout)
    data = nl.load_dataset("fashion-mnist-mini", classes=["2", "4"], train=60, test=12, size=14)
    found = nl.certify(nl.KernelMachine.load(machine), data.test.x, data.test.y, 2 / 255)
    assert printed["certified_accuracy"] == found.certified_accuracy.value
    assert printed["attacked_accuracy"] == found.attacked_accuracy.value
    assert printed["filter"] == "Ridge(rho=0.5)"
    refused = ntklens("certify", machine, *same, "--ridge", "0.1", "--out", tmp_path / "other")
    assert refused.returncode == 2
    assert "--ridge cannot change a saved machine" in refused.stderr
    of_ten = ntklens("certify", machine, "--size", "14", "--out", tmp_path / "other")
    assert of_ten.returncode == 2
    assert "expected a machine of 10 classes" in of_ten.stderr
    assert not (tmp_path / "other").exists()
    # Other classes than those of the fit, of which a machine's own file knows the number alone.
    shirts = ["--classes", "0,6", *SMALL[2:]]
    other = ntklens("certify", machine, *shirts, "--eps", "2/255", "--quick", "--out", tmp_path / "shirts")
    assert other.returncode == 2
    assert "--train cannot change a saved machine" in other.stderr
    other = ntklens("certify", machine, *shirts[:2], *shirts[4:], "--quick", "--out", tmp_path / "shirts")
    assert other.returncode == 0, other.stderr
    assert "the machine was fitted on the classes Pullover, Coat, and the data has T-shirt/top, Shirt" in other.stderr


def test_sentences_say_what_is_proved_and_about_what(tmp_path):
    process = ntklens("certify", "fc1", *SMALL, "--ridge", "1", "--eps", "2/255", "--out", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    assert "12 test images, ε = 2/255 in ℓ∞:" in process.stdout
    assert "proved right in the ball" in process.stdout
    assert "not about a finite network" in process.stdout
    again = ntklens("certify", "fc1", *SMALL, "--ridge", "1", "--eps", "2/255", "--out", tmp_path / "run")
    assert again.returncode == 2
    assert "holds a finished certification" in again.stderr


def test_networks_without_a_proof_and_two_filters_are_refused(tmp_path):
    convolution = ntklens("certify", "conv2", *SMALL, "--out", tmp_path / "run")
    assert convolution.returncode == 2
    assert "no certificate for" in convolution.stderr
    both = ntklens("certify", "fc1", *SMALL, "--ridge", "1", "--top", "3", "--out", tmp_path / "run")
    assert both.returncode == 2
    assert "--ridge and --top exclude each other" in both.stderr
    assert not (tmp_path / "run").exists()


def test_the_kernel_with_weights_is_not_offered_where_it_has_no_proof_either(tmp_path):
    process = ntklens("features", "--arch", "conv2", *SMALL, "--certified", "4", "--out", tmp_path / "run")
    assert process.returncode == 2
    assert "no certificate for" in process.stderr
    assert "--kernel empirical" not in process.stderr
