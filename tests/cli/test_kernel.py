"""`ntklens kernel`: matrices in files and in stores."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

import ntklens as nl
from cli.process import ntklens
from ntklens.cli import matrices
from ntklens.errors import InputError
from ntklens.linalg import whole_plan
from ntklens.linalg.tiles import plan

SMALL = ["--classes", "2,4", "--train", "50", "--test", "20"]


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("fashion-mnist-mini", classes=["2", "4"], train=50, test=20)


def kernel_of(name, data):
    from ntklens.networks import build

    return nl.analytic_kernel(build(name, data.shape, 1), 2**0.5, 0.1)


def test_an_npz_file_has_the_matrices_of_the_library(data, tmp_path):
    path = tmp_path / "kernel.npz"
    process = ntklens("kernel", "fc2", *SMALL, "--out", path)
    assert process.returncode == 0, process.stderr
    assert "ntk 50x50, ntk_test 20x50" in process.stdout
    assert "50 inputs: the whole kernel matrix takes 20 kB" in process.stderr
    kernel, x, x_test = kernel_of("fc2", data), data.train.x.double(), data.test.x.double()
    with np.load(path, allow_pickle=False) as file:
        torch.testing.assert_close(torch.from_numpy(file["ntk"]), kernel(x))
        torch.testing.assert_close(torch.from_numpy(file["ntk_test"]), kernel(x_test, x))
        assert file["y_train"].tolist() == data.train.y.tolist()
        assert file["y_test"].tolist() == data.test.y.tolist()
        assert len(str(file["x_train_digest"])) == 64
        assert json.loads(str(file["about"]))["kind"] == "ntk"


def test_a_safetensors_file_of_the_covariance_before_training(data, tmp_path):
    path = tmp_path / "kernel.safetensors"
    process = ntklens("kernel", "fc2", *SMALL, "--kind", "nngp", "--json", "--out", path)
    assert process.returncode == 0, process.stderr
    told = json.loads(process.stdout)
    assert told["arrays"]["nngp"] == [50, 50]
    with safe_open(path, "pt") as file:
        torch.testing.assert_close(file.get_tensor("nngp"), kernel_of("fc2", data).prior(data.train.x.double()))
        assert file.metadata()["x_train_digest"] == told["x_train_digest"]


def test_a_file_that_is_there_is_replaced_only_where_it_is_asked_for(tmp_path):
    path = tmp_path / "kernel.npz"
    path.write_text("mine")
    refused = ntklens("kernel", *SMALL, "--out", path)
    assert refused.returncode == 2
    assert "exists; choose another file, or pass --overwrite" in refused.stderr
    assert path.read_text() == "mine"
    assert ntklens("kernel", *SMALL, "--overwrite", "--out", path).returncode == 0
    assert sorted(np.load(path, allow_pickle=False)) == [
        *("about", "ntk", "ntk_test", "x_test_digest", "x_train_digest", "y_test", "y_train")
    ]


def test_a_store_is_kept_and_found_by_a_fit(data, tmp_path):
    store = tmp_path / "tiles"
    first = ntklens("kernel", "fc2", *SMALL, "--store", store)
    assert first.returncode == 0, first.stderr
    assert "all 1 tiles of the lower triangle are there" in first.stdout
    import zarr

    matrix = torch.from_numpy(zarr.open_array(str(store), mode="r")[:])
    torch.testing.assert_close(matrix, kernel_of("fc2", data)(data.train.x.double()))
    again = ntklens("kernel", "fc2", *SMALL, "--store", store, "--json")
    assert "1 of 1 tiles are there; none is computed" in json.loads(again.stdout)["plan"]
    fitted = ntklens("fit", "fc2", *SMALL, "--ridge", "0.1", "--store", store, "--out", tmp_path / "run")
    assert fitted.returncode == 0, fitted.stderr
    assert "none is computed" in fitted.stderr


def test_what_does_not_fit_into_memory_names_the_store(tmp_path, monkeypatch):
    from ntklens.study import Spec
    from ntklens.study.context import Context

    monkeypatch.setattr(whole_plan, "available_memory", lambda: 10**6)
    monkeypatch.setattr(plan, "SMALL", 0)
    context = Context(Spec.parse({"data": {"train": 400, "test": 20}}))
    with pytest.raises(
        InputError, match=r"the kernel matrix of 400 inputs takes 1.28 MB .* in a store on disk: --store"
    ):
        matrices.write_file(context, "ntk", tmp_path / "kernel.npz", json=False)
    assert list(tmp_path.iterdir()) == []


def test_one_place_is_needed(tmp_path):
    for options in ([], ["--out", tmp_path / "a.npz", "--store", tmp_path / "a"]):
        process = ntklens("kernel", *SMALL, *options)
        assert process.returncode == 2
        assert "give one of them" in process.stderr
