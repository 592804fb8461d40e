"""Compiled code where there is a folder for it, and where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from numba.core.event import Event, EventStatus

import ntklens
from ntklens.kernels.engines.fused import engine, kept, vm

PROGRAM = """
import logging, sys
sys.path.insert(0, sys.argv[1])
from ntklens.kernels.engines.fused import engine, kept
assert kept.__file__.startswith(sys.argv[1])
logging.basicConfig(format="%(message)s", stream=sys.stdout)
engine._prepare()
engine._prepare()
"""


def test_a_package_and_a_home_that_cannot_be_written_to(tmp_path):
    """As in a container: the engine is defined without a place for its code, and says so once."""
    copy = tmp_path / "ntklens"
    shutil.copytree(Path(ntklens.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("")  # a file where the folder would be
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), "/proc/none")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")} | nowhere
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("set NUMBA_CACHE_DIR to a folder that can") == 1


def test_an_error_of_numba_means_that_nothing_is_kept(monkeypatch):
    def refuse(**options):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(kept, "njit", refuse)
    assert not kept.can_be_kept()


def test_a_full_disk_keeps_nothing_new(monkeypatch, tmp_path):
    function = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(kept, "njit", lambda **options: lambda python_function: function)
    monkeypatch.setattr(kept, "_free", lambda folder: 1 << 40)
    assert kept.can_be_kept()
    monkeypatch.setattr(kept, "_free", lambda folder: 1000)
    assert not kept.can_be_kept()
    (tmp_path / "vm.run-98.py311.nbi").touch()
    assert kept.can_be_kept()


def test_every_wait_for_the_compiler_is_told(caplog):
    """The machine is compiled again for another precision; the functions in it are not told one by one."""
    announcement = engine._Announcement()
    for dispatcher in (vm.run, vm.step, vm.run_adjoint):
        announcement.on_start(Event("numba:compile", EventStatus.START, {"dispatcher": dispatcher}))
    assert [record.getMessage()[:26] for record in caplog.records] == ["compiling the fast kernels"] * 2
