"""`ntklens paper`: one of the experiments, or all three."""

import json

import pytest

from cli.process import ntklens
from ntklens.cli.paper import paper
from ntklens.errors import InputError
from ntklens.record import Record
from ntklens.study import PAPERS, Spec


@pytest.fixture
def tiny(monkeypatch):
    """Experiments that take a second each, in the place of the papers' own."""

    def spec(name, data, **options):
        attack = {"eps": 0.02, "curve": [0.02], "steps": 1}
        return Spec.parse({"title": name, "data": {"classes": [2, 4], "train": 30, "test": 20}, "attack": attack})

    monkeypatch.setattr("ntklens.study.paper_spec", spec)


def test_without_an_experiment_all_three_are_run(tiny, tmp_path, capsys):
    paper(out=tmp_path / "all", json=True)
    assert set(json.loads(capsys.readouterr().out)) == set(PAPERS)
    assert [Record.open(tmp_path / "all" / name).title for name in PAPERS] == list(PAPERS)


def test_an_interrupted_set_of_three_goes_on_with_those_that_are_missing(tiny, tmp_path, capsys):
    paper("transfer", out=tmp_path / "all" / "transfer")
    before = (tmp_path / "all" / "transfer" / "record.json").read_bytes()
    capsys.readouterr()
    paper(out=tmp_path / "all", resume=True)
    assert (tmp_path / "all" / "transfer" / "record.json").read_bytes() == before
    assert capsys.readouterr().out.count("report: ") == 3


def test_a_folder_in_the_way_is_told_before_any_work(tiny, tmp_path):
    (tmp_path / "all" / "dynamics").mkdir(parents=True)
    (tmp_path / "all" / "dynamics" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"dynamics exists; choose another --out"):
        paper(out=tmp_path / "all")
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["dynamics"]


def test_one_experiment_is_in_the_folder_itself(tmp_path):
    process = ntklens("paper", "none", "--out", tmp_path / "one")
    assert process.returncode == 2
    assert "must be one of transfer, features, dynamics" in process.stderr
