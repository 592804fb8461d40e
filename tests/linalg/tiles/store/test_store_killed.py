"""A process that is killed while it writes tiles or solves: the next one goes on, and finds the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ntklens.errors import InputError
from ntklens.linalg.tiles.store import StoredMatrix, StoreHome
from ntklens.linalg.tiles.store import matrix as stored
from tile_entries import LAYOUT, Gaussian, targets

pytest.importorskip("zarr")
N = LAYOUT.n

SCRIPT = """
import sys
from tile_entries import LAYOUT, Gaussian, targets
from ntklens.linalg.tiles.store import StoreHome
entries = Gaussian(LAYOUT.n, seconds=float(sys.argv[2]))
matrix = StoreHome(sys.argv[1], checkpoint_seconds=0.0, method="iterate").matrix(LAYOUT, entries, "a")
print("ready", flush=True)
matrix.write()
print("written", flush=True)
matrix.solve(0.0, targets(LAYOUT.n))
print("solved", flush=True)
"""


def started(folder: Path, seconds: float, until: str) -> subprocess.Popen:
    """Start a process that writes and solves, and wait until it says how far it is."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(seconds)], env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.strip() == until:
            return process
    raise AssertionError(f"the process did not come to {until!r}")


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL


def matrix_in(folder: Path) -> StoredMatrix:
    return StoreHome(folder, checkpoint_seconds=0.0, method="iterate").matrix(LAYOUT, Gaussian(N), "a")


@pytest.mark.parametrize("moment", [0.03, 0.31])
def test_killed_while_writing(tmp_path, moment):
    process = started(tmp_path, 0.02, "ready")
    time.sleep(moment)
    kill(process)
    there = len([file for file in tmp_path.glob("c/*/*") if file.suffix != ".partial"])
    assert there < LAYOUT.count
    (tmp_path / "c" / "0").mkdir(parents=True, exist_ok=True)
    (tmp_path / "c" / "0" / "0.half.partial").write_bytes(b"half")
    matrix = matrix_in(tmp_path)
    matrix.write()
    assert matrix.entries.calls == LAYOUT.count - there
    assert not list(tmp_path.rglob("*.partial"))
    torch.testing.assert_close(matrix.multiply(targets(N)), Gaussian(N).dense() @ targets(N), rtol=1e-12, atol=1e-12)


def test_killed_while_solving(tmp_path, monkeypatch):
    process = started(tmp_path / "killed", 0.0, "written")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("solve-*.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.001)
    kill(process)
    undisturbed = matrix_in(tmp_path / "whole").solve(0.0, targets(N))
    products = []
    multiply = StoredMatrix.multiply
    monkeypatch.setattr(StoredMatrix, "multiply", lambda self, y: products.append(0) or multiply(self, y))
    continued = matrix_in(tmp_path / "killed").solve(0.0, targets(N))
    assert torch.equal(continued.coefficients, undisturbed.coefficients)
    assert continued.iterations == undisturbed.iterations
    assert len(products) < undisturbed.iterations
    assert not list((tmp_path / "killed").glob("solve-*"))


def interrupted(folder: Path, steps: int) -> None:
    """Begin a solution, and stop it by Ctrl-C after some steps."""
    count = 0

    def report(share: float) -> None:
        nonlocal count
        count += 1
        if count > steps:
            raise KeyboardInterrupt

    matrix = matrix_in(folder)
    matrix.write()
    with pytest.raises(KeyboardInterrupt):
        matrix.solve(0.1, targets(N), report)
    assert list(folder.glob("solve-*"))


@pytest.mark.parametrize("what", ["another ridge", "other targets", "damage", "another memory limit"])
def test_the_state_of_another_problem_is_not_continued(tmp_path, monkeypatch, what):
    interrupted(tmp_path, 9)
    limit = 1_000_000 if what == "another memory limit" else 1 << 30
    home = StoreHome(tmp_path, memory_limit=limit, method="iterate")
    matrix, starts = home.matrix(LAYOUT, Gaussian(N), "a"), []
    original = stored.solve_by_products
    monkeypatch.setattr(
        stored,
        "solve_by_products",
        lambda *args, **rest: starts.append(rest["checkpoint"].load()) or original(*args, **rest),
    )
    rho, y = (0.2 if what == "another ridge" else 0.1), targets(N)
    if what == "other targets":
        y[0, 0] += 1e-9
    if what == "damage":
        (file,) = tmp_path.glob("solve-*")
        content = bytearray(file.read_bytes())
        content[-50] ^= 1
        file.write_bytes(content)
    found = matrix.solve(rho, y)
    assert starts == [None]
    assert found.residual <= 1e-12


def test_two_processes_do_not_write_at_once(tmp_path):
    process = started(tmp_path, 0.2, "ready")
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "c").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(InputError, match="another process is writing to"):
            matrix_in(tmp_path).write()
    finally:
        kill(process)
    matrix_in(tmp_path).write()
