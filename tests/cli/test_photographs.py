"""Photographs as people have them, of mixed sizes and modes, from the folder to the report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.process import ntklens

TOOL = Path(__file__).parents[2] / "tools" / "make_photographs.py"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs") / "mine"
    subprocess.run([sys.executable, TOOL, folder, "--count", "42"], check=True, timeout=100)
    return folder


def test_photographs_are_attacked_and_the_report_says_what_was_done_to_them(photographs, tmp_path):
    process = ntklens("attack", "--data", photographs, "--size", "12", "--steps", "2", "--out", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["spec"]["data"]["size"] == 12
    row = record["tables"]["data"][0]
    assert (row["shape"], row["train"], row["test"], row["classes"]) == ("3x12x12", 34, 8, "flower, temple")
    for part in (
        "Left out: hidden files or folders: 2 (.DS_Store); files that are no images: 1 (1 .txt).",
        "Images converted to RGB: 6 of mode CMYK, 6 of mode L, 6 of mode P.",
        "Images resized to 12x12 pixels with Pillow's bilinear filter, from ",
        "Images turned as their EXIF orientation says: 6.",
    ):
        assert part in row["notes"]
    assert row["notes"] in process.stdout
    assert row["notes"].split(".")[0] in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_features_of_grey_photographs(photographs, tmp_path):
    options = ("--size", "8", "--grey", "--compare", "", "--scored", "4", "--pictured", "0,1", "--json")
    process = ntklens("features", "--data", photographs, *options, "--out", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["picture_rows"][0]["index"] == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["tables"]["data"][0]["shape"] == "1x8x8"
    assert record["spec"]["data"]["mode"] == "grey"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected images of one size; got "),
        (("--size", "8", "--grey", "--rgb"), "--grey and --rgb exclude each other"),
        (("--size", "0"), "size"),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, message, photographs, tmp_path):
    process = ntklens("attack", "--data", photographs, *options, "--out", tmp_path / "run")
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "run").exists()
