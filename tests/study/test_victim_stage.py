"""What a run says of the network that it attacks: how often it was asked, what its outputs are, and who was checked."""

import sys

import pytest
import torch

from ntklens.errors import InputError
from ntklens.networks import load_network
from ntklens.study import Spec, run

MODEL = """
import torch
from torch import nn

shown = []

class Asked(nn.Sequential):
    def forward(self, x):
        shown.append(len(x))
        return super().forward(x)

def build(outputs=10):
    torch.manual_seed(0)
    return Asked(nn.Flatten(), nn.Linear(64, outputs))

def three():
    return build(3)

def twenty():
    return build(20)

def trained():
    from ntklens.data import load_dataset

    network, data = build(), load_dataset("digits").train
    means = torch.stack([data.x[data.y == c].mean(0).flatten() for c in range(10)])
    network[1].weight.data, network[1].bias.data = means, -means.square().sum(1) / 2  # the class of the nearest mean
    return network

def sigmoid():
    last = nn.Linear(64, 1)
    nn.init.uniform_(last.bias, 1.0, 2.0)
    return nn.Sequential(nn.Flatten(), last, nn.Sigmoid())
"""

LOADING = 10
"""Images that a victim is shown when it is loaded: two and two, and twice three that tell whether the batch matters."""


@pytest.fixture
def attacked(tmp_path):
    """(options of the victim, factory) -> the record of a run on twelve images of digits."""
    (tmp_path / "asked.py").write_text(MODEL)

    def attack(factory="build", classes=None, outputs=None, **victim):
        values = {
            "data": {"name": "digits", "train": 250, "test": 12, "classes": classes, "outputs": outputs},
            "kernel": {"architecture": "fc1"},
            "attack": {"curve": [], "steps": 2},
            "victim": {"path": f"{tmp_path}/asked.py:{factory}", "sample": 120, **victim},
        }
        return run(Spec.parse(values), tmp_path / "run", overwrite=True)

    return attack


@pytest.mark.parametrize("surrogates", ["white-box", "fc1", ["fc1", "white-box"], ["square", "rbf"]])
@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("method", ["pgd", "square"])
def test_every_image_that_the_victim_is_shown_is_counted(attacked, surrogates, checks, method):
    record = attacked(surrogates=surrogates, checks=checks, method=method, queries=5)
    (meta,) = record.table("victim_meta")
    shown = sys.modules["_ntklens_asked"].shown
    assert meta["asked"] == sum(shown) - LOADING
    rows = {row["source"]: row for row in record.table("victim")}
    parts = sum(row["queries"] for row in rows.values()) + meta["scoring_queries"] + meta["check_queries"]
    white_box = rows["white-box"]["gradient_evaluations"] + 1 if "white-box" in rows else 0
    assert parts + white_box == meta["asked"]
    assert meta["repeated_queries"] == 0
    # Each row's images are scored once as they are and once rounded to 8 bits.
    assert meta["scoring_queries"] == 12 * 2 * len(rows)
    for name in ("clean", "noise"):
        assert rows[name]["queries"] == 0
    for name in {"fc1", "rbf"} & rows.keys():
        assert rows[name]["queries"] == (1 + 9 + 1) * 100
    if "square" in rows:
        assert 12 <= rows["square"]["queries"] <= 5 * 12 + 12
    inside = {"white-box", "square"} & rows.keys()
    assert (meta["check_queries"] > 0) == (checks and bool(inside))
    if checks:
        of = {row["of"] for row in record.table("victim_checks")}
        assert of == {"victim", *(f"surrogate {name}" for name in {"fc1", "rbf"} & rows.keys())}
    text = " ".join(row["text"] for row in record.table("summary"))
    assert f"The victim was asked about {meta['asked']} images in all, {24 * len(rows)} of them to score" in text


def test_too_few_outputs_are_told_before_anything_runs(attacked, tmp_path):
    with pytest.raises(
        InputError, match=r"the victim has 3 outputs, and the data have 10 classes .*--classes \(3 of them\)"
    ):
        attacked("three")
    assert not (tmp_path / "run").exists()


def test_an_output_that_has_passed_a_sigmoid_is_refused(attacked):
    with pytest.raises(InputError, match="got an output between 0 and 1 for all of 12 images, as a sigmoid gives it"):
        attacked("sigmoid", classes=[3, 8])


def test_weights_of_a_saved_machine_are_not_ignored(attacked, tmp_path):
    with pytest.raises(InputError, match=r"m\.safetensors takes no weights"):
        attacked(path=f"{tmp_path}/m.safetensors", weights=tmp_path / "w.pt")


def test_outputs_whose_classes_cannot_be_known_are_asked_for(attacked, tmp_path):
    with pytest.raises(InputError, match=r"the victim has 20 outputs and the data have 10 classes .* --outputs 0,1,2,"):
        attacked("twenty")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"expected 10 numbers from 0 to 19, .* for each class; got 3,4"):
        attacked("twenty", outputs=[3, 4])
    with pytest.raises(InputError, match=r"expected 2 numbers from 0 to 9, .* for each class; got 3,10"):
        attacked("build", classes=[3, 8], outputs=[3, 10])


def test_outputs_that_are_given_are_told(attacked):
    record = attacked("twenty", checks=False, outputs=range(19, 9, -1))
    text = " ".join(row["text"] for row in record.table("summary"))
    assert "The network has 20 outputs and the data have 10 classes: its outputs 19, 18, 17" in text


def test_a_network_of_all_classes_is_scored_on_the_outputs_of_the_chosen_ones(attacked, tmp_path):
    """Each prediction is that of the network itself, with the output of each chosen class in the place of the class."""
    record = attacked("trained", classes=[8, 3], checks=False)
    (tmp_path / "asked.py").write_text(MODEL)
    network = load_network(f"{tmp_path}/asked.py:trained")
    predicted = network(torch.from_numpy(record.array("victim/x"))).argmax(1)
    right = predicted == torch.tensor([8, 3])[torch.from_numpy(record.array("victim/y"))]
    [clean] = [row for row in record.table("victim") if row["source"] == "clean"]
    assert clean["accuracy"] == float(right.double().mean())
    [meta] = record.table("victim_meta")
    assert meta["class_outputs"] == "8, 3"
    assert clean["accuracy"] > 0.5


def test_a_failed_check_of_the_victim_is_not_called_one_of_the_surrogate(attacked):
    """The victim is untrained; the surrogate is not."""
    text = " ".join(row["text"] for row in attacked(surrogates="fc1").table("summary"))
    assert "Failed checks of the victim: The victim is right on" in text
    assert "are the pixels scaled as it expects them" in text
