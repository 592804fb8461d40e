import json

from cli.process import ntklens

EXPERIMENT = """
title = "Mine"
[data]
classes = [2, 4]
train = 30
test = 10
"""


def test_an_experiment_from_a_file(tmp_path):
    (tmp_path / "mine.toml").write_text(EXPERIMENT)
    process = ntklens("run", tmp_path / "mine.toml", "--out", tmp_path / "out", "--json")
    assert process.returncode == 0, process.stderr
    assert set(json.loads(process.stdout)) >= {"claims", "run", "report", "summary", "seed", "n"}
    assert json.loads((tmp_path / "out" / "record.json").read_text())["title"] == "Mine"
