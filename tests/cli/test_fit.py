"""`ntklens fit`: what it writes and prints, and how a fit that was killed continues."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import ntklens as nl
from cli.process import ntklens

SMALL = ["--classes", "2,4", "--train", "60", "--test", "40"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a small fit, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("fit") / "run"
    process = ntklens("fit", "fc2", *SMALL, "--ridge", "0.01", "--json", "--out", folder)
    assert process.returncode == 0, process.stderr
    return folder, json.loads(process.stdout), process.stderr


def test_the_machine_is_the_one_of_the_library(fitted):
    folder, told, _ = fitted
    data = nl.load_dataset("fashion-mnist-mini", classes=["2", "4"], train=60, test=40)
    machine = nl.KernelMachine.load(folder / "machine.safetensors")
    again = nl.KernelMachine(machine.kernel, nl.Ridge(0.01)).fit(data.train.x, data.train.y)
    torch.testing.assert_close(machine.coefficients, again.coefficients)
    accuracy = nl.accuracy(machine, data.test.x, data.test.y)
    assert (told["accuracy"], told["accuracy_low"], told["accuracy_high"]) == (
        accuracy.value,
        accuracy.low,
        accuracy.high,
    )


def test_the_file_says_how_the_machine_was_found(fitted):
    folder, told, _ = fitted
    kept = json.loads((folder / "fit.json").read_text())
    assert kept == {name: value for name, value in told.items() if name != "run"}
    assert kept["n"] == 60
    assert kept["filter"] == "Ridge(rho=0.01)"
    assert "Cholesky" in kept["method"]
    assert kept["residual"] < 1e-10
    assert kept["smallest_pivot"] > 0
    assert kept["merged_duplicates"] == 0
    assert kept["data_fingerprint"] == kept["provenance"]["data"]
    assert set(kept["seconds"]) == {"fit", "accuracy", "saving"}
    assert kept["peak_memory_bytes"] > 1e7


def test_the_plan_comes_before_the_work(fitted):
    _, told, printed = fitted
    assert told["plan"].startswith("60 inputs: the whole kernel matrix takes 28.8 kB")
    assert printed.index(told["plan"]) < printed.index("fit: started")


def test_a_finished_fit_is_kept_unless_it_is_to_be_replaced(fitted):
    folder, _, _ = fitted
    before = (folder / "machine.safetensors").read_bytes()
    refused = ntklens("fit", *SMALL, "--out", folder)
    assert refused.returncode == 2
    assert "holds a finished fit; choose another --out, or pass --overwrite" in refused.stderr
    assert (folder / "machine.safetensors").read_bytes() == before
    replaced = ntklens("fit", "fc2", *SMALL, "--ridge", "0.01", "--overwrite", "--out", folder)
    assert replaced.returncode == 0, replaced.stderr
    assert "Cholesky in float64" in replaced.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["fit.json", "machine.safetensors"]


def test_the_machine_is_a_victim_of_the_other_commands(fitted, tmp_path):
    folder, told, _ = fitted
    machine = folder / "machine.safetensors"
    process = ntklens("attack", "--victim", machine, *SMALL, "--steps", "1", "--json", "--out", tmp_path / "attack")
    assert process.returncode == 0, process.stderr
    clean = json.loads(process.stdout)["victim"][0]
    assert (clean["attack"], clean["accuracy"]) == ("none", told["accuracy"])


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (["--time", "10", "--learning-rate", "0.001"], "eigenpairs"),
        (["--steps", "5", "--learning-rate", "0.0001"], "eigenpairs"),
        (["--precision", "float32"], "Cholesky in float32, refined in float64"),
    ],
)
def test_filters_and_precisions(options, method, tmp_path):
    process = ntklens("fit", *SMALL, *options, "--json", "--out", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    assert method in json.loads(process.stdout)["method"]


def test_copies_are_told_and_counted(tmp_path):
    import numpy as np

    g = np.random.default_rng(0)
    x, y = g.random((30, 1, 6, 6)).astype(np.float32), np.arange(30) % 2
    x = np.concatenate([x, x[:4]])
    y = np.concatenate([y, y[:4]])
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    for name, options in (("whole", []), ("tiles", ["--precision", "float64"])):
        out = tmp_path / name
        process = ntklens("fit", "--data", tmp_path / "data.npz", *options, "--out", out)
        assert process.returncode == 0, process.stderr
        assert "warning: 4 of 34 training inputs are copies of others" in process.stderr
        assert "4 training images are copies of others" in process.stdout
        assert json.loads((out / "fit.json").read_text())["merged_duplicates"] == 4


def test_a_fit_in_a_store_that_was_killed_continues(tmp_path):
    store = tmp_path / "tiles"
    options = ["fit", "fc3", "--train", "4000", "--test", "100", "--ridge", "0.1", "--store", str(store)]
    options += ["--out", str(tmp_path / "run")]
    script = "from ntklens.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", script, *options], stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(path.name.isdecimal() for path in store.glob("c/*/*")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "fit.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("c/*/*") if path.name.isdecimal()}
    assert kept
    again = ntklens(*options)
    assert again.returncode == 0, again.stderr
    assert "of 10 tiles are there" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    result = json.loads((tmp_path / "run" / "fit.json").read_text())
    assert result["residual"] < 1e-8
    other = ntklens(*options[:1], "fc2", *options[2:-1], tmp_path / "other")
    assert other.returncode == 2
    assert "holds the kernel matrix of another kernel or of other training inputs" in other.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_ctrl_c_says_how_to_go_on(tmp_path):
    store = tmp_path / "tiles"
    options = ["fit", "fc3", "--train", "6000", "--test", "50", "--store", str(store), "--out", str(tmp_path / "run")]
    # A process that was started in the background may ignore the signal.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom ntklens.cli import main; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", script, *options], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(store.glob("c/*/*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=300)[1]
    assert process.returncode == 130, printed
    assert f"interrupted; what is in {store} is kept, and the same command continues from it." in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["fit", "--train", "1500", "--store", "tiles", "--out", "run"], "the disk is full: the 3 tiles of the kernel"),
        (["fit", "--train", "900", "--test", "50", "--out", "run"], "machine.next.safetensors cannot be written"),
        (["kernel", "--train", "900", "--test", "50", "--out", "kernel.npz"], "kernel.npz cannot be written"),
    ],
)
def test_a_full_disk_is_one_sentence(command, sentence, tmp_path):
    script = (
        "import os, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        f"os.chdir({str(tmp_path)!r})\nfrom ntklens.cli import main; main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 2, process.stderr
    assert sentence in process.stderr
    assert "Traceback" not in process.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"tiles"}


def test_processes_of_this_machine(tmp_path):
    process = ntklens("fit", *SMALL, "--workers", "1", "--ridge", "0.01", "--out", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    assert "on 1 worker" in process.stderr
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["residual"] < 1e-8


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ridge", "1", "--time", "1"], "--ridge and --time exclude each other"),
        (["--store", "a", "--workers", "2"], "--store and --workers are two places for the kernel matrix"),
        (["--memory-limit", "4GB"], "--memory-limit needs a --store"),
        (["--steps", "3"], "--steps needs a --learning-rate"),
        (["--learning-rate", "3"], "--learning-rate needs --time or --steps"),
        (["--store", "a", "--precision", "float32"], "--precision is that of a matrix in memory"),
    ],
)
def test_options_that_do_not_go_together(options, sentence, tmp_path):
    process = ntklens("fit", *options, "--out", tmp_path / "run")
    assert process.returncode == 2
    assert sentence in " ".join(process.stderr.split())
    assert not (tmp_path / "run").exists()


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    process = ntklens("fit", *SMALL, "--overwrite", "--out", tmp_path)
    assert process.returncode == 2
    assert "is not the folder of a fit" in process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_store_within_the_folder_of_the_run_is_refused_before_any_work(tmp_path):
    process = ntklens("fit", "fc1", *SMALL, "--store", tmp_path / "run" / "tiles", "--out", tmp_path / "run")
    assert process.returncode == 2
    assert "--store: expected a folder outside of --out" in process.stderr
    assert not (tmp_path / "run").exists()
