"""An attack that was cut in the middle goes on without asking again for what is done, and forgets no question."""

import sys

import pytest

from ntklens.errors import InputError
from ntklens.record import Record
from ntklens.study import Spec, run

MODEL = """
import torch
from torch import nn

shown = []
limit = [None]

class Asked(nn.Sequential):
    def forward(self, x):
        shown.append(len(x))
        if limit[0] is not None and sum(shown) >= limit[0]:
            raise KeyboardInterrupt
        return super().forward(x)

def build():
    torch.manual_seed(SEED)
    return Asked(nn.Flatten(), nn.Linear(64, 3))
"""
LOADING = 10
"""Images that the stage shows to a victim when it loads it."""


def spec(path):
    victim = {"path": f"{path}:build", "surrogates": ["fc1", "square", "white-box"], "sample": 60, "queries": 8}
    data = {"name": "digits", "train": 200, "test": 9, "classes": [0, 1, 2]}
    return Spec.parse({"data": data, "attack": {"curve": [], "steps": 2}, "victim": victim | {"checks": False}})


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "cut.py"
    path.write_text(MODEL.replace("SEED", "0"))
    return path


def interrupt_after(images):
    """Return a watcher that lets the victim be asked about so many images in its stage, and then interrupts."""

    def watch(stage, share):
        if stage == "victim" and share > 0:
            module = sys.modules["_ntklens_cut"]
            module.limit[0] = images

    return watch


@pytest.mark.parametrize("images", [0, 700, 1180])
def test_a_run_that_was_cut_goes_on(model, tmp_path, images):
    """The cut comes after clean images, in the search for the surrogate's time, or in the search by queries."""
    whole = run(spec(model), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(spec(model), tmp_path / "run", watch=interrupt_after(images))
    before = sum(sys.modules["_ntklens_cut"].shown) - LOADING
    assert Record.open(tmp_path / "run").stages == ["data"]
    kept = {path.name for path in (tmp_path / "run" / "scratch").iterdir()}
    record = run(spec(model), tmp_path / "run", resume=True)
    after = sum(sys.modules["_ntklens_cut"].shown) - LOADING
    (meta,), (meta_of_whole,) = record.table("victim_meta"), whole.table("victim_meta")
    assert "0.npz" in kept
    assert ("2.npz" in kept) == (images == 1180)
    assert meta["asked"] == before + after
    assert meta["repeated_queries"] == before + after - meta_of_whole["asked"]
    assert meta["repeated_queries"] < before or images == 0
    assert not (tmp_path / "run" / "scratch").exists()
    for row, row_of_whole in zip(record.table("victim"), whole.table("victim"), strict=True):
        for column in ("source", "accuracy", "queries", "gradient_evaluations"):
            assert row[column] == row_of_whole[column]
    assert (record.array("victim/x_adv_square") == whole.array("victim/x_adv_square")).all()


def test_another_network_is_no_continuation(model, tmp_path):
    run(spec(model), tmp_path / "run")
    assert set(Record.open(tmp_path / "run").provenance["victim"]) == {"file", "weights"}
    model.write_text(MODEL.replace("SEED", "1"))
    with pytest.raises(InputError, match="its weights have changed since the run"):
        run(spec(model), tmp_path / "run", resume=True)
