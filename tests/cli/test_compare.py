"""`ntklens compare`."""

import json

import pytest

from cli.process import SMALL, ntklens


def test_two_runs_are_set_side_by_side(finished_attack, tmp_path):
    folder, _ = finished_attack
    assert ntklens("attack", *SMALL, "--ridge", "2", "--out", tmp_path / "other").returncode == 0
    process = ntklens("compare", folder, tmp_path / "other", "--all")
    assert process.returncode == 0, process.stderr
    assert "kernel.ridge" in process.stdout
    assert "figures differ by more than their intervals" in process.stdout
    found = json.loads(ntklens("compare", folder, tmp_path / "other", "--json").stdout)
    assert {"settings", "claims", "figures", "measures", "alone"} == set(found)
    assert all(isinstance(row["differs"], bool) for row in found["figures"])


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(("folder", "message"), [("none", "give the folder that a run"), ("text", "cannot be read")])
def test_a_folder_without_a_run_is_refused(finished_attack, tmp_path, place, folder, message):
    (tmp_path / "text").write_text("no folder")
    folders = [finished_attack[0], tmp_path / folder]
    process = ntklens("compare", folders[1 - place], folders[place])
    assert process.returncode == 2
    assert message in process.stderr
