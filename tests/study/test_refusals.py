"""What cannot be run is refused before anything is lost."""

import numpy as np
import pytest

from ntklens.errors import InputError, NumericalFailure, UnsupportedLayer
from ntklens.record import Record
from ntklens.study import Spec, run
from ntklens.study.context import Context
from ntklens.study.run import STAGES
from ntklens.study.stages.features.certificates import check_certified

TINY = {"data": {"classes": [2, 4], "train": 30, "test": 20}, "attack": {"curve": []}}


@pytest.fixture
def done(tmp_path):
    return run(Spec.parse(TINY | {"attack": {"curve": [0.1], "steps": 2}}), tmp_path / "run")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"compare": ["nonet"]}, "nonet"),
        ({"robust_networks": ["nonet"]}, "nonet"),
        ({"pictured": [0, 30]}, "features 0 to 29; `pictured` asks for 0, 30"),
        ({"scored": 31}, "features 0 to 29; `scored` asks for 31"),
        ({"scored": 5, "pictured": [0, 5]}, "features 0 to 4 are scored, by `scored`; `pictured` asks for 0, 5"),
        ({"robust_networks": ["fc1"], "robust_ranks": [5, 30]}, "`robust_ranks` asks for 5, 30"),
    ],
)
def test_a_run_that_would_fail_midway_leaves_the_old_one(done, features, message):
    before = (done.folder / "record.json").read_bytes()
    with pytest.raises(InputError, match=message):
        run(Spec.parse(TINY | {"features": features}), done.folder, overwrite=True)
    assert (done.folder / "record.json").read_bytes() == before


@pytest.mark.parametrize("kernel", [{"architecture": "conv2"}, {"architecture": "fc1", "kind": "empirical"}])
def test_a_kernel_that_no_bound_is_known_for_is_refused_before_the_run(done, kernel):
    before = (done.folder / "record.json").read_bytes()
    with pytest.raises(UnsupportedLayer, match="no certificate for"):
        run(Spec.parse(TINY | {"kernel": kernel, "features": {"certified": 5}}), done.folder, overwrite=True)
    assert (done.folder / "record.json").read_bytes() == before


def test_a_black_training_image_that_no_bound_is_known_for_is_refused_before_the_run(tmp_path):
    x = np.random.default_rng(0).random((40, 4, 4), np.float32)
    y = np.arange(40) % 2
    x[20] = 0
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 1))\n"
    )
    kernel = {"architecture": f"{tmp_path / 'net.py'}:build", "b_std": 0.0}
    values = {"data": {"name": str(tmp_path / "mine.npz")}, "kernel": kernel, "attack": {"curve": []}}
    with pytest.raises(UnsupportedLayer, match="training input 20 is black"):
        check_certified(Context(Spec.parse(values | {"features": {"certified": 5}})))


def test_certificates_reach_to_the_radius_of_the_attack():
    with pytest.raises(InputError, match=r"certified_radii.*expected 1, the radius of the attack"):
        Spec.parse(TINY | {"features": {"certified": 5, "certified_radii": [0.25, 0.5]}})
    spec = Spec.parse(TINY | {"features": {"certified": 5, "certified_radii": [1.0, 0.5, 1.0]}})
    assert spec.features.certified_radii == (0.5, 1.0)


def fails(context, spec, progress):
    raise NumericalFailure("no")


def test_a_run_that_does_fail_midway_puts_the_old_one_back_and_keeps_its_own_work(done, monkeypatch):
    spec = Spec.parse(TINY | {"attack": {"curve": [0.2], "steps": 2}, "features": {"compare": []}})
    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "features", fails)
        with pytest.raises(NumericalFailure, match=r"^no The earlier run is back in .*run.failed-1, and --resume"):
            run(spec, done.folder, overwrite=True)
    assert Record.open(done.folder).stages == ["data", "attack", "claims"]
    assert sorted(path.name for path in done.folder.parent.iterdir()) == ["run", "run.failed-1"]
    assert sorted(path.name for path in done.folder.iterdir()) == ["arrays", "record.json"]
    failed = done.folder.with_name("run.failed-1")
    assert Record.open(failed).stages == ["data", "attack"]
    assert run(spec, failed, resume=True).stages == ["data", "attack", "features", "claims"]


@pytest.mark.parametrize(("curve", "left"), [([0.1], ["data", "attack"]), ([], None)])
def test_a_run_that_replaces_nothing_stays_where_it_failed_if_it_has_done_any_work(curve, left, tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "features", fails)
    with pytest.raises(NumericalFailure, match=r"^no$"):
        run(Spec.parse(TINY | {"attack": {"curve": curve, "steps": 2}, "features": {}}), tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == (["run"] if left else [])
    if left:
        assert Record.open(tmp_path / "run").stages == left


def test_folders_that_are_not_ours_are_left_alone(done):
    """A backup by hand beside a run: nothing deletes it, and an overwriting run asks for its place."""
    backup = done.folder.with_name("run.before")
    backup.mkdir()
    (backup / "mine.txt").write_text("dear")
    run(Spec.parse(TINY), done.folder.with_name("other"))
    with pytest.raises(InputError, match=r"run\.before is in the way: it is where the run in .* is kept"):
        run(Spec.parse(TINY), done.folder, overwrite=True)
    assert (backup / "mine.txt").read_text() == "dear"
    assert Record.open(done.folder).stages == ["data", "attack", "claims"]


def test_a_link_to_a_run_stays_a_link(done, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(done.folder, target_is_directory=True)
    record = run(Spec.parse(TINY | {"seed": 5}), link, overwrite=True)
    assert link.is_symlink()
    assert Record.open(done.folder).spec["seed"] == 5
    assert record.done("claims")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "run"]


def test_an_overwriting_run_that_is_killed_can_be_resumed_and_then_settles(done, monkeypatch):
    def dies(context, spec, progress):
        raise KeyboardInterrupt

    spec = Spec.parse(TINY | {"attack": {"curve": [0.05], "steps": 2}})
    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "attack", dies)
        with pytest.raises(KeyboardInterrupt):
            run(spec, done.folder, overwrite=True)
    waiting = done.folder.with_name("run.before")
    assert Record.open(waiting).stages == ["data", "attack", "claims"]
    again = run(spec, done.folder, resume=True)
    assert again.stages == ["data", "attack", "claims"]
    assert not waiting.exists()
    assert {row["eps"] for row in again.table("attack_curve")} > {0.05}


def test_defaults_beyond_the_spectrum_are_left_out(tmp_path):
    record = run(Spec.parse(TINY | {"features": {"compare": [], "scored": 10, "trade_off": 2}}), tmp_path / "run")
    assert [row["index"] for row in record.table("picture_rows")] == [0, 1, 2, 5]
    sets = {row["features"]: row["count"] for row in record.table("subsets")}
    assert sets["not scored"] == 20
    assert sets["all"] == 30
