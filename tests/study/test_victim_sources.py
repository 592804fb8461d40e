"""Several attacks side by side: their order, what they say of robustness, and victims without gradients."""

import numpy as np
import pytest
import torch

from ntklens.errors import InputError
from ntklens.linalg import CrossEntropy
from ntklens.study import Spec, run
from ntklens.study.context import Context
from ntklens.study.stages.surrogate import model_at
from ntklens.wording import surrogate_time

MODEL = """
import torch
from torch import nn

class Hard(nn.Sequential):
    def forward(self, x):
        return nn.functional.one_hot(super().forward(x).argmax(1), 3).float()

class Dead(nn.Sequential):
    def forward(self, x):
        return super().forward((20 * x).round() / 20)

def soft():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

def drawn():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))

def hard():
    return Hard(*soft())

def dead():
    return Dead(*soft())
"""


@pytest.fixture
def attacked(tmp_path):
    """(factory, surrogates, options of the victim) -> the record of a run on fifteen images of digits."""
    (tmp_path / "net.py").write_text(MODEL)

    def attack(factory, *surrogates, **victim):
        values = {
            "data": {"name": "digits", "train": 200, "test": 15, "classes": [0, 1, 2]},
            "attack": {"curve": [], "steps": 2, "eps": 0.1},
            "victim": {"path": f"{tmp_path}/net.py:{factory}", "surrogates": surrogates, "sample": 60, "checks": False}
            | victim,
        }
        return run(Spec.parse(values), tmp_path / "run", overwrite=True)

    return attack


def summary(record):
    return " ".join(row["text"] for row in record.table("summary"))


def test_a_time_of_the_cross_entropy_is_told_and_its_machine_is_the_one_that_is_checked(attacked):
    record = attacked("soft", "rbf", time="cross-entropy")
    (row,) = (r for r in record.table("victim_sources") if r["source"] == "rbf")
    assert row["loss"] == "cross-entropy"
    assert f"rbf ηt = {row['time']:.3g} on the cross-entropy" in summary(record)
    assert surrogate_time(row).startswith(
        f"stopped at ηt = {row['time']:.3g} on the cross-entropy, whose images fooled"
    )
    spec = Spec.parse(record.spec)
    assert model_at(Context(spec), spec.victim, "rbf", row["time"]).filter == CrossEntropy(row["time"])


def test_sources_stand_in_the_order_they_were_given(attacked):
    record = attacked("soft", "rbf", "net:fc1", "white-box", "fc1+mi", "square", queries=10, epochs=1, width=4)
    rows = record.table("victim")
    kinds = {"clean": "clean", "noise": "noise", "rbf": "control", "net:fc1": "trained", "white-box": "white box"}
    kinds |= {"fc1+mi": "kernel", "square": "queries"}
    assert {row["source"]: row["kind"] for row in rows} == kinds
    assert [row["source"] for row in rows] == list(kinds)
    attacks = rows[2:]
    strongest = min(attacks, key=lambda row: row["accuracy"])["source"]
    (meta,) = record.table("victim_meta")
    assert meta["strongest"] == strongest
    assert meta["worst_accuracy"] <= min(row["accuracy"] for row in attacks)
    assert (record.array("victim/x_adv") == record.array(f"victim/x_adv_{strongest}")).all()
    pairs = [(row["first"], row["second"]) for row in record.table("victim_effect")]
    assert pairs == [
        *(("noise", row["source"]) for row in attacks), ("fc1+mi", "net:fc1"), ("fc1+mi", "white-box"),
    ]  # fmt: skip
    text = summary(record)
    assert f"is {strongest} (" in text
    assert "robust accuracy at ε = 0.1 in ℓ∞ is at most" in text
    assert "never a proof of robustness" in text
    assert "fc1+mi, the best kernel of an untrained network, takes off" in text
    assert "than the trained net:fc1 [" in text


def test_a_source_does_not_depend_on_the_others(attacked):
    alone = attacked("soft", "square", queries=10)
    images = alone.array("victim/x_adv_square").copy()
    beside = attacked("soft", "rbf", "square", queries=10)
    assert np.array_equal(beside.array("victim/x_adv_square"), images)


@pytest.mark.parametrize("factory", ["hard", "dead"])
def test_a_victim_without_gradients_says_so_and_is_attacked_from_outside(attacked, factory):
    record = attacked(factory, "rbf", "white-box")
    (note,) = record.table("victim_notes")
    sources = {row["source"] for row in record.table("victim")}
    assert note["source"] == "white-box"
    assert note["text"] in summary(record)
    if factory == "hard":
        assert "no gradient to follow, so there is no white-box attack on it" in note["text"]
        assert sources == {"clean", "noise", "rbf"}
    else:
        assert "gradient is exactly zero on" in note["text"]
        assert sources == {"clean", "noise", "rbf", "white-box"}


def test_a_white_box_alone_needs_a_gradient(attacked):
    with pytest.raises(InputError, match="no gradient to follow"):
        attacked("hard", "white-box")


def test_images_are_scored_as_files_hold_them(attacked):
    record = attacked("soft", "white-box")
    (row,) = (row for row in record.table("victim") if row["source"] == "white-box")
    x = record.array("victim/x_adv")
    import sys

    import torch

    with torch.no_grad():
        logits = sys.modules["_ntklens_net"].soft()(torch.from_numpy(np.round(255 * x) / 255).float())
    assert row["rounded_accuracy"] == float((logits.argmax(1).numpy() == record.array("victim/y")).mean())


@pytest.mark.parametrize("names", [[], ["fc1", "fc1"], [""]])
def test_names_that_do_not_fit(names):
    with pytest.raises(InputError, match=r"`victim\.surrogates` does not fit: expected one name or more, each"):
        Spec.parse({"victim": {"path": "a.pt", "surrogates": names}})


def test_one_name_is_a_text():
    assert Spec.parse({"victim": {"path": "a.pt", "surrogates": "fc3"}}).victim.sources == ("fc3",)
    assert Spec.parse({"victim": {"path": "a.pt", "method": "square"}}).victim.sources == ("square",)


def test_a_network_that_brings_its_weights_has_seen_no_samples(attacked, tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    torch.save(network.state_dict(), tmp_path / "w.pt")
    given = f"{tmp_path}/net.py:drawn@{tmp_path}/w.pt"
    record = attacked("soft", f"net:{given}", f"entk:{given}", time="inf")
    samples = {row["source"]: row["sample"] for row in record.table("victim_sources")}
    assert samples == {"net:net.py:drawn@w.pt": 0, "entk:net.py:drawn@w.pt": 60}
    kinds = {row["source"]: row["kind"] for row in record.table("victim")}
    assert kinds["entk:net.py:drawn@w.pt"] == "tangent kernel"


@pytest.mark.parametrize(("factory", "is_loaded"), [("soft", True), ("drawn", False)])
def test_weights_that_nobody_loaded_fail_a_check(attacked, factory, is_loaded):
    checks = attacked(factory, "white-box", checks=True).table("victim_checks")
    failed = [row["seen"] for row in checks if row["check"] == "loaded weights"]
    assert failed == [] if is_loaded else "none were loaded" in failed[0]
