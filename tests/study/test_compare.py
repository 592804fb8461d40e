"""Two runs side by side."""

import pytest

from ntklens.record import Record
from ntklens.schema import TABLES, bounds
from ntklens.statistics import proportion
from ntklens.study import Spec, run
from ntklens.study.compare import FIGURES, compare

TINY = {"data": {"classes": [2, 4], "train": 40, "test": 60}, "attack": {"curve": [0.02], "steps": 2}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in the ridge and the seed alone."""
    folder = tmp_path_factory.mktemp("runs")
    first = run(Spec.parse(TINY), folder / "a")
    return first, run(Spec.parse(TINY | {"kernel": {"ridge": 3.0}, "seed": 5}), folder / "b")


def test_the_compared_tables_are_those_of_the_record():
    tables = {name: table for stage in TABLES.values() for name, table in stage.items()}
    for name, (keys, columns) in FIGURES.items():
        assert {*keys, *columns} <= tables[name].every
        assert {end for column in columns for end in bounds(column)} <= tables[name].every


def test_settings_that_differ_are_told(runs):
    found = compare(*runs)
    assert {row["setting"]: (row["first"], row["second"]) for row in found.settings} == {
        "seed": (0, 5),
        "kernel.ridge": (0.0, 3.0),
    }


def test_every_figure_is_compared_with_its_counterpart(runs):
    first, second = runs
    found = compare(first, second)
    curve = [row for row in found.figures if row["table"] == "attack_curve"]
    assert len(curve) == len(first.table("attack_curve"))
    for row, one, other in zip(curve, first.table("attack_curve"), second.table("attack_curve"), strict=True):
        assert (row["first"], row["second"]) == (one["accuracy"], other["accuracy"])
        assert row["difference"] == pytest.approx(other["accuracy"] - one["accuracy"])
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert str(one["attack"]) in row["row"]
    assert not found.alone


def test_a_run_does_not_differ_from_itself(runs):
    found = compare(runs[1], runs[1])
    assert not found.settings
    assert found.figures
    assert not any(row["differs"] or row["difference"] for row in found.figures)


def test_figures_of_one_run_alone_are_counted(runs, tmp_path):
    other = run(Spec.parse(TINY | {"attack": {"curve": [0.01, 0.02], "steps": 2}}), tmp_path / "more")
    per_radius = sum(row["eps"] == 0.01 for row in other.table("attack_curve"))
    assert {"table": "attack_curve", "figures": per_radius} in compare(runs[0], other).alone


def test_claims_that_measure_the_same_are_subtracted(tmp_path):
    def judged(name, successes):
        record = Record.create(tmp_path / name, "demo", name, {}, {"seed": 0})
        share = proportion(successes, 100)
        ends = {"estimate": share.value, "low": share.low, "high": share.high}
        row = {"claim": "C3", "verdict": "seen", "measure": "accuracy", "margin": 0.5, "unit": "share", **ends}
        record.add_stage("claims", tables={"claims": [row, {"claim": "C4", "verdict": "not measured here"}]})
        return record

    [c3, c4] = compare(judged("a", 60), judged("b", 80)).claims
    assert c3["difference"] == pytest.approx(0.2)
    assert 0 < c3["difference_low"] < 0.2 < c3["difference_high"]
    assert (c4["first"], c4["difference"]) == ("not measured here", None)
