"""Two runs side by side."""

import pytest

from ntklens.record import Record
from ntklens.schema import TABLES, bounds
from ntklens.statistics import proportion
from ntklens.study import Spec, run
from ntklens.study.compare import FIGURES, MEASURES, compare

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
    for name, (keys, columns) in MEASURES.items():
        assert {*keys, *columns} <= tables[name].every


def test_every_table_of_estimates_is_compared():
    """Those left out are means over what another table has, or have a row per image, feature or seed."""
    left_out = {"victim_meta", "lazy", "transfer", "features", "head_choice", "learning_meta", "robust_data"}
    left_out |= {"certified_features"}
    left_out |= {"dynamics", "continued"}
    estimated = {
        name
        for stage, tables in TABLES.items()
        if stage != "claims"
        for name, table in tables.items()
        if any(bounds(column)[0] in table.columns for column in table.columns)
    }
    assert estimated - left_out == set(FIGURES)


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


def watched(folder, successes, last_epoch, epoch, rank):
    """The record of a watched training with two records of its kernel."""
    record = Record.create(folder, "dynamics", "a", {}, {"seed": 0})
    share = proportion(successes, 200).row("accuracy") | proportion(successes // 2, 200).row("robust_accuracy")
    run = {"training": "watched", "seed": 0}
    ends = {"epoch": epoch, "settled": True, "first_epoch": 0.0, "last_epoch": last_epoch, "area": 1.0}
    rows = [
        run | {"epoch": e, "centred_rank": r, "effective_rank": 3.0, "alignment": 0.5, "trace": 9.0, "velocity": 0.1}
        for e, r in ((0.0, 1.0), (last_epoch, rank))
    ]
    record.add_stage("dynamics", tables={"settling": [run | ends | share], "dynamics": rows})
    return record


def test_watched_runs_have_their_last_accuracies_and_measures_beside_each_other(tmp_path):
    found = compare(watched(tmp_path / "a", 100, 8.0, 2.5, 9.0), watched(tmp_path / "b", 160, 10.0, None, 12.0))
    clean, robust = found.figures
    assert (clean["column"], robust["column"]) == ("accuracy", "robust_accuracy")
    assert clean["difference"] == pytest.approx(0.3)
    assert 0.2 < clean["difference_low"] < 0.3 < clean["difference_high"] < 0.4
    assert clean["differs"]
    values = {(row["table"], row["column"]): (row["first"], row["second"]) for row in found.measures}
    assert values["settling", "epoch"] == (2.5, None)
    assert values["dynamics", "centred_rank"] == (9.0, 12.0), "of the last epoch"
    assert ("dynamics", "probe_accuracy") not in values


def test_claims_that_neither_run_measures_are_left_out(tmp_path):
    records = [Record.create(tmp_path / name, "demo", name, {}, {"seed": 0}) for name in ("a", "b")]
    for record, verdict in zip(records, ("not measured", "seen"), strict=True):
        claims = [{"claim": "C1", "verdict": "not measured"}, {"claim": "C2", "verdict": verdict}]
        record.add_stage("claims", tables={"claims": claims})
    assert [row["claim"] for row in compare(*records).claims] == ["C2"]
