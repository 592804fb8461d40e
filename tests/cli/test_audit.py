"""`ntklens audit`: the figures of the library, claims that an interval supports, and no image unless asked."""

import csv
import json

import numpy as np
import pytest
import torch

import ntklens as nl
from cli.process import ntklens
from ntklens.audits import Patch
from ntklens.features import shortcut_audit
from ntklens.networks import build

SMALL = ["--classes", "0,6", "--train", "90", "--held-out", "60", "--test", "300", "--size", "14"]


def audit(*arguments, code=0):
    process = ntklens("audit", *arguments)
    assert process.returncode == code, process.stderr
    return process


def data():
    return nl.load_dataset("fashion-mnist-mini", classes=["0", "6"], train=150, test=300, size=14)


def machine(g, x):
    return nl.KernelMachine(nl.analytic_kernel(build("fc1", (1, 14, 14), 1)), g).fit(x, data().train.y[:90])


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_unlearnable_has_the_figures_of_the_library_and_exports_on_demand(tmp_path):
    options = ["--eps", "16/255", "--steps", "3", "--time", "4", "--top", "5", "--seed", "2", "--json"]
    process = audit(
        "unlearnable", *SMALL, *options, "--out", tmp_path / "run", "--export", tmp_path / "worse.npz",
        "--networks", "fc1", "--width", "16", "--epochs", "8", "--seeds", "2",
    )  # fmt: skip
    printed = json.loads(process.stdout)
    all_data = data()
    found = nl.unlearnable_audit(
        machine(nl.GradientFlow(4.0), all_data.train.x[:90]),
        all_data.test.x,
        all_data.test.y,
        16 / 255,
        held_out=(all_data.train.x[90:], all_data.train.y[90:]),
        generator=torch.Generator().manual_seed(2),
        steps=3,
        filters=[nl.GradientFlow(4.0), nl.Band(range(5))],
        keep_images=True,
    )
    assert [row["machine"] for row in printed["rows"]] == ["time 4.0", "top 5"]
    for row, clean, perturbed, cost in zip(printed["rows"], found.clean, found.perturbed, found.cost, strict=True):
        assert (row["clean_accuracy"], row["perturbed_accuracy"]) == (clean.value, perturbed.value)
        assert (row["cost_low"], row["cost_high"]) == (cost.low, cost.high)
    assert printed["losses"] == pytest.approx(found.losses)
    with np.load(tmp_path / "worse.npz", allow_pickle=False) as arrays:
        torch.testing.assert_close(torch.from_numpy(arrays["x_train"]), found.images, rtol=0, atol=1e-6)
    read = nl.load_dataset(tmp_path / "worse.npz")
    assert read.classes == ("T-shirt/top", "Shirt")
    assert torch.equal(read.test.x, all_data.test.x)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["audit.csv", "audit.json", "networks.csv"]
    kept = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert kept == {name: value for name, value in printed.items() if name != "run"}
    networks = rows_of(tmp_path / "run" / "networks.csv")
    assert [row["training_images"] for row in networks] == ["clean", "noise", "perturbed"]
    assert float(networks[0]["accuracy"]) > 0.6
    assert networks[2]["cost"]


def test_backdoor_counts_and_networks_are_trained_with_the_bad_images(tmp_path):
    process = audit(
        "backdoor", *SMALL, "--bad", "2", "--patch", "3", "--out", tmp_path / "run",
        "--networks", "fc1", "--width", "16", "--epochs", "2", "--seeds", "1",
    )  # fmt: skip
    all_data = data()
    x, y = all_data.train.x[90:], all_data.train.y[90:]
    clean = machine(nl.Ridge(0.0), all_data.train.x[:90])
    found = nl.backdoor_audit(clean, Patch(3), x[y == 0], 1, all_data.test.x, all_data.test.y, count=2)
    facts = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert facts["rows"] == found.rows()
    assert facts["needed"] == found.needed()
    assert (facts["target"], facts["patch"], facts["corner"]) == ("Shirt", 3, "bottom-right")
    assert [row["bad_images"] for row in facts["networks"]] == [0, 1, 2]
    needed = found.needed()
    assert needed in (1, 2)
    assert f"With {needed} bad training image" in process.stdout
    assert not list(tmp_path.rglob("*.npz"))


def test_shortcut_finds_a_planted_patch_and_shares_nothing_without_a_gap(tmp_path):
    process = audit("shortcut", *SMALL, "--planted", "0.9", "--brightness", "0.5", "--out", tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert facts["aligned"] > facts["conflicting_high"]
    assert facts["has_gap"]
    assert facts["gap_low"] > 0
    assert "agrees with the class in 90.0 % of the training images" in process.stdout
    assert "which held-out images have chosen" in process.stdout
    # The library's own audit of the same images.
    all_data = data()
    x, y = all_data.train.x[:90], all_data.train.y[:90]
    agrees = torch.zeros(90, dtype=torch.bool)
    agrees[torch.randperm(90, generator=torch.Generator().manual_seed(0))[:81]] = True
    patched = Patch(brightness=0.5)

    def put(images, where):
        return torch.where(where[:, None, None, None], patched(images), images)

    of = all_data.test.y == 1
    found = shortcut_audit(
        machine(nl.Ridge(0.0), put(x, (y == 1) == agrees)),
        put(all_data.test.x, of),
        put(all_data.test.x, ~of),
        all_data.test.y,
    )
    assert facts["gap"] == pytest.approx(found.gap.value)
    assert [row["feature"] for row in facts["rows"]] == [row["feature"] for row in found.rows()]
    # One feature, which hardly sees a patch of one pixel of mean brightness: no gap is shown, and no share is printed.
    few = [*SMALL[:6], "--test", "20", *SMALL[8:], "--planted", "0.5", "--patch", "1", "--brightness", "0.3"]
    process = audit("shortcut", *few, "--top", "2", "--corner", "top-left", "--out", tmp_path / "control")
    control = json.loads((tmp_path / "control" / "audit.json").read_text())
    assert control["has_gap"] == bool(control["rows"])
    assert ("no feature has a share" in process.stdout) == (not control["has_gap"])


REFUSED = {
    "another audit's option": (["backdoor", "--planted", "0.5"], "--planted is an option of the shortcut audit"),
    "an export of figures": (["shortcut", "--export", "a.npz"], "--export is an option of the unlearnable audit"),
    "two filters": (["unlearnable", "--ridge", "1", "--time", "2"], "--ridge and --time exclude each other"),
    "no networks": (["backdoor", "--seeds", "2"], "--seeds needs --networks"),
    "a saved machine": (["backdoor", "machine.safetensors"], "fits machines of its own"),
    "a patch beyond the image": (["backdoor", *SMALL, "--patch", "15"], "at most 14 pixels"),
    "an invisible patch": (["backdoor", *SMALL, "--brightness", "0", "--patch", "1"], "changes no image"),
    "no class": (["backdoor", *SMALL, "--target", "Coat"], "--target: expected one of the classes T-shirt/top, Shirt"),
    "more than is there": (["backdoor", "--classes", "0,6", "--train", "9999"], "--train: expected 2 to"),
    "more than fit": (["backdoor", "--train", "5000"], "--train: expected up to 4,096"),
    "too many held out": (["shortcut", *SMALL[:4], "--held-out", "9999"], "--held-out: expected 1 to"),
    "more bad images than candidates": (["backdoor", *SMALL, "--bad", "60"], "--bad: expected at most"),
    "more features than images": (["unlearnable", *SMALL, "--top", "91"], "--top: expected 1 to 90"),
    "a folder that is missing": (["unlearnable", "--export", "nowhere/a.npz"], "nowhere is not a writable folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(name, tmp_path):
    arguments, message = REFUSED[name]
    process = audit(*arguments, "--out", tmp_path / "out", code=2)
    assert message in " ".join(process.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_finished_run_is_kept_unless_it_is_to_be_replaced(tmp_path):
    quick = ["backdoor", *SMALL, "--bad", "1", "--out", tmp_path / "run"]
    audit(*quick, "--networks", "fc1", "--width", "4", "--epochs", "1", "--seeds", "1")
    before = (tmp_path / "run" / "audit.json").read_bytes()
    assert "holds a finished audit" in audit(*quick, code=2).stderr
    # A run that fails leaves the earlier one as it was.
    audit(*quick, "--overwrite", "--target", "nope", code=2)
    assert (tmp_path / "run" / "audit.json").read_bytes() == before
    assert (tmp_path / "run" / "networks.csv").exists()
    audit(*quick, "--overwrite")
    assert not (tmp_path / "run" / "networks.csv").exists()  # which was of the earlier run
    existing = tmp_path / "a.npz"
    existing.write_bytes(b"mine")
    refused = audit("unlearnable", *SMALL, "--export", existing, "--out", tmp_path / "other", code=2)
    assert "exists; choose another --export" in refused.stderr
    assert existing.read_bytes() == b"mine"


def test_copies_in_the_data_are_told(tmp_path):
    draws = np.random.default_rng(0)
    x, y = draws.random((40, 6, 6)).astype(np.float32), np.arange(40) % 2
    x[3], y[3] = x[2], y[2]
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=draws.random((20, 6, 6)), y_test=np.arange(20) % 2)
    process = audit(
        "backdoor", "--data", tmp_path / "data.npz", "--patch", "2", "--bad", "1", "--out", tmp_path / "run"
    )
    assert "warning:" in process.stderr
    assert json.loads((tmp_path / "run" / "audit.json").read_text())["warnings"]


def test_an_export_under_another_name_is_told_and_the_folder_of_something_else_is_kept(tmp_path):
    told = audit("unlearnable", *SMALL, "--steps", "1", "--export", tmp_path / "worse.txt", "--out", tmp_path / "run")
    assert f"perturbed training images: {tmp_path / 'worse.npz'}" in told.stdout.replace("\n", "")
    assert (tmp_path / "worse.npz").exists()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").touch()
    refused = audit("unlearnable", *SMALL, "--out", taken, code=2)
    assert "is not the folder of an audit" in refused.stderr
