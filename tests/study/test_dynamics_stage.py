"""The kernel over training, as an experiment: several trainings and seeds, their continuations, and machines."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.networks import build
from ntklens.record import Record
from ntklens.report import render
from ntklens.study import Spec, run
from ntklens.study.context import Context
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.worst import worst_columns, worst_outcomes

VALUES = {
    "kind": "dynamics",
    "data": {"name": "fashion-mnist-mini", "train": 300, "test": 60},
    "attack": {"curve": [], "eps": 8 / 255},
    "dynamics": {
        "trainings": ["standard", "FGSM", "PGD"],
        "seeds": 2,
        "epochs": 4,
        "attack_steps": 2,
        "probe": 30,
        "top_k": 4,
        "learning_rate": 0.02,
        "linear_from": [1, 4],
        "linear_epochs": 2,
        "machine_train": 60,
        "machine_test": 30,
        "queries": 10,
    },
}
PARTS = ("dynamics", "settling", "equal_accuracy", "lazy_epochs", "advice", "continued", "kernel_machines")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return run(Spec.parse(VALUES), tmp_path_factory.mktemp("dynamics") / "run")


def test_every_training_of_every_seed_is_there(record):
    rows = record.table("dynamics")
    assert [(r["training"], r["seed"], r["epoch"]) for r in rows] == [
        (name, seed, epoch) for seed in (0, 1) for name in ("standard", "FGSM", "PGD") for epoch in range(5)
    ]
    starts = {(r["seed"], r["trace"]) for r in rows if r["epoch"] == 0}
    assert len(starts) == 2, "trainings of a seed start from one network, those of another from another"
    assert len({r["trace"] for r in rows if r["epoch"] == 4}) == 6
    assert all(r["robust_accuracy"] is not None and r["adversarial_cosine"] is not None for r in rows), (
        "one step is watched"
    )
    assert 0 < record.table("dynamics_meta")[0]["tracker_share"] < 10


def test_when_each_training_settles(record):
    settled = record.table("settling")
    assert [(r["training"], r["seed"]) for r in settled] == [
        (name, seed) for seed in (0, 1) for name in ("standard", "FGSM", "PGD")
    ]
    assert {r["epoch"] for r in settled} == {None}, "five records are too few"
    last = {(r["training"], r["seed"]): r for r in record.table("dynamics") if r["epoch"] == 4}
    for row in settled:
        same = ("accuracy", "accuracy_low", "robust_accuracy", "centred_rank")
        assert [row[key] for key in same] == [last[row["training"], row["seed"]][key] for key in same]
        assert 1 <= row["learned_epoch"] <= row["last_epoch"] == 4
    equal = record.table("equal_accuracy")
    assert [(r["training"], r["seed"]) for r in equal] == [(t, s) for s in (0, 1) for t in ("standard", "PGD")]
    assert record.table("dynamics_meta")[0]["majority"] >= 0.1


def test_attacks_are_tested_where_a_rule_needs_them(tmp_path):
    """Without one-step training: every second epoch and the last, and no tangents of one-step images."""
    own = {"trainings": ["standard", "PGD"], "epochs": 5, "test_every": 2, "probe": 20, "attack_steps": 2, "top_k": 4}
    record = run(Spec.parse(VALUES | {"dynamics": own}), tmp_path / "run")
    for name in own["trainings"]:
        rows = [r for r in record.table("dynamics") if r["training"] == name]
        assert [r["epoch"] for r in rows if r["robust_accuracy"] is not None] == [2, 4, 5]
        assert all(r["accuracy"] is not None and "adversarial_cosine" not in r for r in rows)
    assert {r["verdict"] for r in record.table("claims") if r["claim"] in ("C7", "C8")} == {"cannot tell"}
    assert "comes to where its training leaves it" in render(record)


def test_expansions_learn_from_where_they_start(record):
    rows = record.table("continued")
    assert len(rows) == 2 * 3 * (2 * 2 + 1)
    end = {(r["training"], r["seed"]): r for r in rows if r["linearised"] == "not"}
    path = {(r["training"], r["seed"]): r for r in record.table("dynamics") if r["epoch"] == 4}
    for key, row in end.items():
        assert row["accuracy_low"] <= path[key]["accuracy"] <= row["accuracy_high"]  # on fewer images
    assert all(r["robust_accuracy"] <= min(r["accuracy"], r["pgd_accuracy"]) for r in rows)
    early = [r["accuracy"] for r in rows if r["from_epoch"] == 1 and r["linearised"] == "standard"]
    before = [r["accuracy"] for r in record.table("dynamics") if r["epoch"] == 1]
    assert np.mean(early) > np.mean(before)


class Flattered(nn.Module):
    """Right on whatever was touched, and wrong on images of plain grey, as a network that hides behind its training."""

    def forward(self, z: Tensor) -> Tensor:
        touched = ((z - 0.5).abs().amax((1, 2, 3)) > 1e-6).to(z)
        return torch.stack([2 * touched - 1e-3 * z.sum((1, 2, 3)), torch.zeros(len(z))], 1)


class Jump(nn.Module):
    """Wrong where two neighbours differ, of which its gradient says nothing."""

    def forward(self, z: Tensor) -> Tensor:
        rough = (z.diff(dim=3).abs().amax((1, 2, 3)) > 0.02).to(z)
        return torch.stack([1 - 2 * rough - 1e-4 * z.sum((1, 2, 3)), torch.zeros(len(z))], 1)


class Stripes(nn.Module):
    """Its gradient has another sign in every other column."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([z[..., 1::2].sum((1, 2, 3)) - z[..., ::2].sum((1, 2, 3)), torch.zeros(len(z))], 1)


def test_gradients_that_mislead_are_not_believed():
    """PGD alone finds nothing wrong with either."""
    context, spec = Context(Spec.parse(VALUES)), DynamicsSpec(attack_steps=3, queries=10)
    grey, y = torch.full((40, 1, 28, 28), 0.5), torch.zeros(40).long()
    half = grey.clone()
    half[:20] += 1e-3
    flattered = worst_columns(*worst_outcomes(context, spec, Flattered(), [], half, y))
    assert (flattered["accuracy"], flattered["pgd_accuracy"]) == (0.5, 1.0)
    assert flattered["robust_accuracy"] <= 0.5
    jumps = worst_columns(*worst_outcomes(context, spec, Jump(), [], grey, y))
    assert (jumps["accuracy"], jumps["pgd_accuracy"], jumps["robust_accuracy"]) == (1.0, 1.0, 0.0)

    black, light = torch.zeros(40, 1, 28, 28), DynamicsSpec(attack_steps=3, queries=1)
    assert worst_columns(*worst_outcomes(context, light, Jump(), [], black, y))["robust_accuracy"] > 0
    shown = worst_columns(*worst_outcomes(context, light, Jump(), [Stripes()], black, y))
    assert shown["robust_accuracy"] == 0.0, "images made on another network count"


def test_machines_on_the_kernels_before_and_after(record):
    rows = record.table("kernel_machines")
    assert [(r["training"], r["seed"]) for r in rows] == [
        (name, seed) for seed in (0, 1) for name in ("none", "standard", "FGSM", "PGD")
    ]
    assert all(r["robust_accuracy"] <= r["accuracy"] for r in rows)
    assert all(0 <= r["feature_robustness"] <= r["feature_usefulness"] <= 1 for r in rows)


def test_claims_are_judged_and_nothing_is_left_lying(record):
    verdicts = {r["claim"]: r for r in record.table("claims")}
    for claim in ("C7", "C8", "L1"):
        assert verdicts[claim]["verdict"] in ("seen", "contradicted", "cannot tell")
        assert verdicts[claim]["figure"]
    assert not (record.folder / "scratch").exists()


def command(values: Path, out: Path, *more: str) -> list[str]:
    code = "import torch; torch.set_num_threads(1); from ntklens.cli import main; main()"
    return [sys.executable, "-c", code, "run", str(values), "--out", str(out), *more]


def test_an_experiment_that_is_killed_resumes_to_the_same_numbers(tmp_path):
    """SIGKILL in the second training, and again in a linearised one, against a run that nothing broke."""
    toml = tmp_path / "study.toml"
    toml.write_text(
        'kind = "dynamics"\n[data]\ntrain = 300\ntest = 40\n[attack]\ncurve = []\n[dynamics]\n'
        'trainings = ["standard", "PGD"]\nepochs = 3\nattack_steps = 2\nprobe = 30\nlearning_rate = 0.02\n'
        "linear_from = [1]\nlinear_epochs = 3\nmachine_train = 40\nmachine_test = 20\nqueries = 10\n"
    )
    subprocess.run(command(toml, tmp_path / "whole"), check=True, capture_output=True)
    scratch = tmp_path / "cut" / "scratch" / "dynamics"
    kill_when(command(toml, tmp_path / "cut"), scratch / "PGD-0" / "track" / "record-000002.npz")
    assert Record.open(tmp_path / "cut").stages == ["data"]
    done = (scratch / "standard-0" / "training.safetensors").stat().st_mtime_ns
    kill_when(command(toml, tmp_path / "cut", "--resume"), scratch / "PGD-0" / "linear-1-standard.safetensors")
    assert (scratch / "standard-0" / "training.safetensors").stat().st_mtime_ns == done, "it is not trained again"
    subprocess.run(command(toml, tmp_path / "cut", "--resume"), check=True, capture_output=True)
    whole, cut = (Record.open(tmp_path / name) for name in ("whole", "cut"))
    for table in PARTS:
        assert json.dumps(whole.table(table)) == json.dumps(cut.table(table)), table
    np.testing.assert_array_equal(whole.array("dynamics/distance_PGD"), cut.array("dynamics/distance_PGD"))


def kill_when(arguments: list[str], path: Path) -> None:
    """Start a process and kill it as soon as a file is there."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not path.exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def checkpoints(tmp_path):
    """Two epochs of a training elsewhere, and the file with its network."""
    (tmp_path / "model.py").write_text(
        "from ntklens.networks import build\n\n\ndef make():\n    return build('fc1', (1, 28, 28), 10, width=8)\n"
    )
    for epoch in (1, 2, 3):
        torch.manual_seed(epoch)
        save_file(build("fc1", (1, 28, 28), 10, width=8).state_dict(), tmp_path / f"epoch-{epoch}.safetensors")
    return tmp_path


def watching(folder: Path, **more) -> dict:
    own = {"watch": str(folder), "model": f"{folder}/model.py:make", "probe": 30, "attack_steps": 2}
    return VALUES | {"dynamics": own | more}


def test_checkpoints_of_another_training(checkpoints, tmp_path):
    record = run(Spec.parse(watching(checkpoints)), tmp_path / "run")
    rows = record.table("dynamics")
    assert [(r["training"], r["epoch"]) for r in rows] == [("watched", e) for e in (1, 2, 3)]
    assert rows[1]["velocity"] > 0.01
    assert {r["verdict"] for r in record.table("claims")} == {"not measured"}
    assert record.table("advice")[0]["kind"] == "not known yet"
    assert "measured from epoch 1, the first record" in record.table("advice")[0]["text"]
    first, images = (row["text"] for row in record.table("summary"))
    assert first == record.table("advice")[0]["text"], "the answer comes first"
    assert "to fit on" not in images
    page = " ".join(render(record).split())
    assert "PGD training lie left" not in page
    assert "one run of each training" not in page


def test_checkpoints_are_scored_on_a_part_of_the_images_and_told_as_they_are_recorded(checkpoints, tmp_path):
    lines, shares = [], []
    spec = Spec.parse(watching(checkpoints, watch_test=7))
    record = run(spec, tmp_path / "run", say=lines.append, watch=lambda stage, share: shares.append(share))
    n_test = record.table("data")[0]["test"]
    told, *each = lines
    assert told == f"Checkpoints are scored on 7 of the {n_test} test images; --test sets how many."
    for line, row in zip(each, record.table("dynamics"), strict=True):
        assert line.startswith(f"epoch {row['epoch']:g}: accuracy {100 * row['accuracy']:.1f} %, under attack")
        assert ("kernel moved by" in line) == (row["epoch"] > 1)
    assert record.table("dynamics_meta")[0]["scored"] == 7
    assert "Accuracies are on 7 test images." in " ".join(render(record).split())


def test_a_stage_that_waits_for_checkpoints_is_not_done(checkpoints, tmp_path):
    shares = []
    spec = Spec.parse(watching(checkpoints, patience=1.5))
    run(spec, tmp_path / "run", watch=lambda stage, share: shares.append(share) if stage == "dynamics" else None)
    at_last = shares.index(max(share for share in shares if share < 1))
    assert shares[at_last] == pytest.approx(0.75), "three are measured, and a fourth may come"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"watch": "nowhere"}, "nowhere is not a folder"),
        ({"model": None}, "give both"),
        ({"model": "nowhere.py:make"}, "nowhere.py does not exist"),
        ({"watch": "."}, "holds no checkpoint with an epoch"),
    ],
)
def test_what_cannot_be_watched(checkpoints, tmp_path, own, message, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match=message):
        run(Spec.parse(watching(checkpoints, **own)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trainings_that_die_or_diverge_lose_nothing_else(tmp_path):
    """A dead network has no machine, and one that has diverged keeps the rows up to there."""
    own = {
        "trainings": ["standard", "FGSM"],
        "epochs": 3,
        "probe": 20,
        "width": 4,
        "machine_train": 30,
        "machine_test": 10,
    }
    own |= {"batch_size": 50, "momentum": 0.9, "attack_steps": 2, "queries": 3, "linear_from": [1], "linear_epochs": 1}
    dead = run(Spec.parse(VALUES | {"dynamics": own | {"learning_rate": 0.5}}), tmp_path / "dead")
    assert "collapsed" in [r["kind"] for r in dead.table("advice")]
    assert None in [r["accuracy"] for r in dead.table("kernel_machines")]
    assert "How training moves" in render(dead)
    lost = run(Spec.parse(VALUES | {"dynamics": own | {"learning_rate": 1e20}}), tmp_path / "lost")
    assert [r["kind"] for r in lost.table("advice")].count("broken off") == 2
    assert {r["epoch"] for r in lost.table("dynamics")} == {0}
    assert [r["training"] for r in lost.table("kernel_machines")] == ["none"]
    assert {r["verdict"] for r in lost.table("claims")} == {"not measured"}
    assert "How training moves" in render(lost)


def test_trainings_that_are_named_twice():
    with pytest.raises(InputError, match="expected each value once"):
        Spec.parse({"dynamics": {"trainings": ["PGD", "PGD"]}})


def test_expansions_beyond_the_training():
    with pytest.raises(InputError, match="takes epochs from 0 to 4"):
        Spec.parse(VALUES | {"dynamics": VALUES["dynamics"] | {"linear_from": [5]}})


def test_trainings_on_images_of_their_own(tmp_path):
    """They are the same as in an experiment on these images, and the caption says that the images are other ones."""
    dynamics = {"trainings": ["standard"], "epochs": 2, "attack_steps": 2, "probe": 20, "top_k": 4}
    images = {"name": "digits", "classes": [3, 8], "train": 60, "test": 30}
    rest = {"attack": {"curve": []}, "data": {"classes": [2, 4], "train": 40, "test": 20}}
    beside = run(Spec.parse(rest | {"dynamics": dynamics | {"data": images}}), tmp_path / "beside")
    alone = run(Spec.parse(rest | {"data": images, "dynamics": dynamics}), tmp_path / "alone")
    assert [row["trace"] for row in beside.table("dynamics")] == [row["trace"] for row in alone.table("dynamics")]
    [meta], [other] = beside.table("dynamics_meta"), alone.table("dynamics_meta")
    assert meta["images"] == "digits (3, 8), 60 to train on and 30 to score on"
    assert other["images"] is None
    assert meta["fingerprint"] == other["fingerprint"] == alone.provenance["data"]
    assert "other ones than those of the sections above: digits (3, 8)" in " ".join(render(beside).split())


def test_too_few_images_of_their_own_are_told_before_the_run(tmp_path):
    values = {"attack": {"curve": []}, "data": {"classes": [2, 4], "train": 40, "test": 20}}
    dynamics = {"probe": 50, "data": {"name": "digits", "train": 60, "test": 30}}
    with pytest.raises(InputError, match="at most 30 test images; got 50"):
        run(Spec.parse(values | {"dynamics": dynamics}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
