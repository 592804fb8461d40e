"""Kill processes at random moments while they write a kernel matrix in tiles or solve with it, and check what follows.

Run it with `python -m benchmarks.faults [--kills 20]`. For a store on disk, a process of its own writes and solves, is
killed by SIGKILL, and the next one continues, until one comes to its end. The tiles must then be those of an undisturbed
run, bit for bit, and the solution too, to rounding where the library that a trial found faster is another one. For a
cluster of two processes, one worker or both are killed, and the solution must agree with a dense one to 1e-9. It prints a
line per round, and what was found at the end.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import ntklens as nl
from benchmarks.common import images, network
from ntklens.linalg.tiles import Layout
from ntklens.linalg.tiles.cluster import ClusterHome
from ntklens.linalg.tiles.store import StoreHome

LAYOUT = Layout(1500, 128)
RIDGE = 1e-3


class Entries:
    """The kernel of a network of three hidden layers on drawn images."""

    def __init__(self) -> None:
        self.kernel = nl.analytic_kernel(network("fc3", 64), b_std=0.1)
        self.x = images(LAYOUT.n, 64).double()

    def __call__(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Compute a block."""
        if isinstance(rows, slice) and rows == columns:
            return self.kernel(self.x[rows])
        return self.kernel(self.x[rows], self.x[columns])


def targets() -> Tensor:
    return torch.randn(LAYOUT.n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def child(folder: Path) -> None:
    """Write and solve in a folder, and leave the solution beside it."""
    matrix = StoreHome(folder, checkpoint_seconds=0.0).matrix(LAYOUT, Entries(), "faults")
    print("ready", flush=True)
    solution = matrix.solve(RIDGE, targets())
    save_file({"a": solution.coefficients}, str(folder.with_suffix(".safetensors")))


def killed_store(kills: int, random_: random.Random) -> None:
    """Kill processes until so many were killed; hold each solution that is found to that of an undisturbed run."""
    with tempfile.TemporaryDirectory() as name:
        seconds, _ = _run(Path(name) / "reference", None)
        expected = load_file(str(Path(name) / "reference.safetensors"))["a"]
        reference = Path(name) / "reference"
        whole = {file.relative_to(reference): file.read_bytes() for file in reference.glob("c/*/*")}
        done = rounds = 0
        while done < kills:
            folder = Path(name) / f"round{rounds}"
            in_round = 0
            while True:
                _, finished = _run(folder, random_.uniform(0.0, seconds) if done < kills else None)
                if finished:
                    break
                done, in_round = done + 1, in_round + 1
            tiles = len([file for file in folder.glob("c/*/*") if not file.name.endswith(".partial")])
            same = all((folder / place).read_bytes() == bits for place, bits in whole.items())
            found = load_file(str(folder.with_suffix(".safetensors")))["a"]
            difference = float((found - expected).norm() / expected.norm())
            print(
                f"store, round {rounds}: killed {in_round} times, {tiles} tiles, the same bits: {same}; the solution "
                f"differs by {difference:.1e}",
                flush=True,
            )
            if not same or tiles != LAYOUT.count or difference > 1e-11:
                raise SystemExit("the store lost something")
            rounds += 1
    print(f"store: {done} kills, nothing lost")


def _run(folder: Path, moment: float | None) -> tuple[float, bool]:
    """Run a child and kill it some seconds after it is ready; return its seconds and whether it came to its end."""
    command = [sys.executable, "-m", "benchmarks.faults", "--child", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    start = time.perf_counter()
    timer = None if moment is None else threading.Timer(moment, process.send_signal, (signal.SIGKILL,))
    if timer is not None:
        timer.start()
    process.wait()
    if timer is not None:
        timer.cancel()
    process.stdout.close()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a process ended with {process.returncode}")
    return time.perf_counter() - start, process.returncode == 0


def killed_workers(kills: int, random_: random.Random) -> None:
    """Kill one worker or both while a cluster writes and solves."""
    entries, y = Entries(), targets()
    dense = entries(slice(0, LAYOUT.n), slice(0, LAYOUT.n)) + RIDGE * torch.eye(LAYOUT.n, dtype=torch.float64)
    expected = torch.linalg.solve(dense, y)
    done = rounds = 0
    killed: set[int] = set()
    with ClusterHome(workers=2) as home:
        start = time.perf_counter()
        home.matrix(LAYOUT, entries, "faults").solve(RIDGE, y)
        seconds = time.perf_counter() - start
        while done < kills:
            victims = random_.sample(_workers(home, killed), random_.choice((1, 1, 2)))
            killed.update(victims)
            moment = random_.uniform(0.0, seconds)
            timers = [threading.Timer(moment, os.kill, (victim, signal.SIGKILL)) for victim in victims]
            for timer in timers:
                timer.start()
            solution = home.matrix(LAYOUT, entries, "faults").solve(RIDGE, y)
            for timer in timers:
                timer.join()
            error = float((solution.coefficients - expected).norm() / expected.norm())
            done += len(victims)
            print(f"cluster, round {rounds}: {len(victims)} killed after {moment:.1f} s, error {error:.1e}", flush=True)
            if not error < 1e-9:
                raise SystemExit("the cluster lost something")
            rounds += 1
    print(f"cluster: {done} kills, nothing lost")


def _workers(home: ClusterHome, killed: set[int]) -> list[int]:
    """Wait until two workers answer that have not been killed, and return their processes."""
    while True:
        try:
            found = sorted(home.connect().run(os.getpid).values())
        except OSError:
            continue
        if len(found) == 2 and killed.isdisjoint(found):
            return found
        time.sleep(0.1)


def main() -> None:
    """Parse the options and run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how many processes are killed, for each of both")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child)
        return
    killed_store(options.kills, random.Random(options.seed))
    killed_workers(options.kills, random.Random(options.seed))


if __name__ == "__main__":
    main()
