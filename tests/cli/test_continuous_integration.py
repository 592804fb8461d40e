"""What a build server needs: exit codes, JSON with its origin, JUnit, images under the names of their files."""

import csv
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cli.process import ntklens

ROOT = Path(__file__).parents[2]
VICTIM = """
import torch
from torch import nn

class Interrupted(nn.Sequential):
    count = 0
    def forward(self, x):
        Interrupted.count += 1
        if Interrupted.count > 12:
            raise KeyboardInterrupt
        return super().forward(x)

def build():
    # The mean of the upper half minus that of the lower half.
    last = nn.Linear(64, 2)
    with torch.no_grad():
        last.weight[0] = torch.cat([torch.ones(32), -torch.ones(32)]) / 32
        last.weight[1] = -last.weight[0]
        last.bias.zero_()
    return nn.Sequential(nn.Flatten(), last)

def guessing():
    torch.manual_seed(0)
    last = nn.Linear(64, 2)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Flatten(), last)

def interrupted():
    return Interrupted(*build())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a victim and a folder of images in two classes: bright above, and bright below."""
    folder = tmp_path_factory.mktemp("ci")
    (folder / "net.py").write_text(VICTIM)
    rng = np.random.default_rng(0)
    for name, bright in (("above", slice(0, 4)), ("below", slice(4, 8))):
        (folder / "pets" / name).mkdir(parents=True)
        for i in range(60):
            pixels = rng.integers(60, 140, (8, 8))
            pixels[bright] += rng.integers(2, 40)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "pets" / name / f"photo {i}.bmp")
    return folder


def attack(place, factory, *options):
    victim = ["--victim", place / f"net.py:{factory}", "--data", place / "pets", "--steps", "2"]
    return ntklens("attack", *victim, "--time", "inf", "--sample", "40", "--surrogate", "fc1,white-box", *options)


def test_a_gate_that_fails(place, tmp_path):
    process = attack(
        place, "build", "--out", tmp_path / "run", "--no-checks", "--fail-under", "0.99", "--eps", "16/255", "--json",
        "--junit", tmp_path / "j.xml",
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    values = json.loads(process.stdout)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (values["seed"], values["n"], values["version"]) == (0, 24, record["provenance"]["versions"]["ntklens"])
    assert values["data_fingerprint"] == record["provenance"]["data"]
    assert values["victim_fingerprint"] == record["provenance"]["victim"]
    assert {len(sum_) for sum_ in values["victim_fingerprint"].values()} == {64}
    assert values["data_notes"] == "Every fifth image of each class is a test image."
    assert list(values["attacks"]) == ["clean", "noise", "fc1", "white-box"]
    gate = values["gate"]
    assert gate["fail_under"] == 0.99
    assert gate["passed"] is False
    assert gate["lowest"] == values["attacks"][gate["source"]]["accuracy"] < 0.99
    assert gate["lowest"] == min(row["accuracy"] for row in values["attacks"].values())
    assert f"under {gate['source']}, less than --fail-under 99.0 %" in process.stderr
    (suite,) = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    # The attacked images are files under the names of their sources, rounded to 8 bits.
    folder = tmp_path / "run" / "adversarial"
    with (folder / "files.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with np.load(tmp_path / "run" / "arrays" / "victim.npz") as arrays:
        assert [row["source_file"] for row in rows] == arrays["files"].tolist()
        for row, x, x_adv in zip(rows, arrays["x"], arrays["x_adv"], strict=True):
            source = np.asarray(Image.open(place / "pets" / row["source_file"]))
            assert (np.round(255 * x[0]) == source).all()
            assert (np.asarray(Image.open(folder / row["file"])) == np.round(255 * x_adv[0])).all()
            assert row["label"] == row["source_file"].partition("/")[0]
    assert {row["file"] for row in rows} == {row["source_file"].replace(".bmp", ".png") for row in rows}


def test_strict_is_about_checks(place, tmp_path):
    process = attack(
        place, "guessing", "--out", tmp_path / "run", "--strict", "--junit", tmp_path / "j.xml", "--no-png"
    )
    assert process.returncode == 1, process.stderr
    assert "--strict: failed checks: " in process.stdout
    assert "clean accuracy of the victim" in process.stdout
    (suite,) = ElementTree.parse(tmp_path / "j.xml").getroot()
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert cases["ntklens.victim", "clean accuracy"].find("failure") is not None
    assert cases["ntklens.victim", "eval mode"].find("failure") is None
    assert int(suite.get("failures")) == len(list(suite.iter("failure")))
    assert not (tmp_path / "run" / "adversarial").exists()


def test_an_interruption_says_how_to_go_on(place, tmp_path):
    process = attack(place, "interrupted", "--out", tmp_path / "run", "--no-checks")
    assert process.returncode == 130
    assert f"interrupted; the same command with --resume goes on in {tmp_path / 'run'}." in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("option", [["--fail-under", "50"], ["--sorrogate", "fc3"]])
def test_an_error_is_json_too(place, tmp_path, option):
    process = attack(place, "build", "--out", tmp_path / "run", "--json", *option)
    assert process.returncode == 2
    assert option[0] in json.loads(process.stdout)["error"]


@pytest.mark.skipif(shutil.which("sh") is None, reason="the example is a shell script")
def test_the_example_for_build_servers(place, tmp_path):
    command = tmp_path / "bin" / "ntklens"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from ntklens.cli import main; main()" "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "VICTIM": f"{place}/net.py:build",
        "DATA": f"{place}/pets",
        "SOURCES": "white-box",
        "TEST": "20",
        "EPS": "1/255",
        "FLOOR": "0.2",
    }
    script = [shutil.which("sh"), str(ROOT / "examples/ci/attack.sh")]
    process = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "robustness.json").read_text())["gate"]["passed"] is True
    assert ElementTree.parse(tmp_path / "robustness.xml").getroot().get("failures") == "0"
    workflow = (ROOT / "examples/ci/github-actions.yml").read_text()
    assert "sh attack.sh" in workflow
    assert {line.split("uses: ")[1].partition("@")[0] for line in workflow.splitlines() if "- uses: " in line} == {
        "actions/checkout",
        "actions/setup-python",
    }
