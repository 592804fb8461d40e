"""Compare the speed of the working tree with that of a commit: `python -m benchmarks --compare REV [--rows WORD ...]`.

The commit is checked out in a worktree of its own, which is removed at the end. Each row has a fresh process per round for
either code, and the two take turns (`benchmarks.rounds`); what Numba compiles is kept apart, in folders that are removed,
too. Rows are those of this tree. A row is called slower (or faster) only where every round says so by more than the
margin.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.common import ROOT, cpu
from benchmarks.rounds import Answer, Failed, in_turns, our_side, per_pair, ratio, with_unit
from benchmarks.works import Work

MARGIN = 0.05
"""Every round has to differ from 1 by more than this before a row is called slower or faster."""


def commit(revision: str, repository: Path = ROOT) -> str:
    """Return the hash of a revision.

    Raises:
        ValueError: git knows no commit of this name.
    """
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}"]
    found = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if found.returncode:
        raise ValueError(f"expected a commit, a tag or a branch of this repository; got {revision!r}.")
    return found.stdout.split()[-1]


@contextmanager
def checked_out(revision: str, repository: Path = ROOT) -> Iterator[Path]:
    """Check a commit out into a temporary folder, which is removed at the end, also upon an interrupt."""
    with tempfile.TemporaryDirectory(prefix="ntklens-compare-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(repository), "worktree"]
        try:
            command = [*git, "add", "--quiet", "--detach", str(tree), revision]
            subprocess.run(command, check=True, capture_output=True)
            yield tree
        finally:
            # Twice --force removes it even if it is still being written.
            subprocess.run([*git, "remove", "--force", "--force", str(tree)], capture_output=True)
            subprocess.run([*git, "prune"], capture_output=True)


def line(work: Work, before: Sequence[Answer], now: Sequence[Answer], margin: float = MARGIN) -> str:
    """Return a row of the table."""
    times = [[per_pair(answer) for answer in answers] for answers in (before, now)]
    medians = "".join(f"{with_unit(statistics.median(values)):>10}" for values in times)
    change = ratio(times[1], times[0])
    return f"{work.title:42}{medians}   {change!s:24}{change.verdict(margin)}".rstrip()


def run(works: Sequence[Work], revision: str, rounds: int, threads: int, repository: Path = ROOT) -> None:
    """Print one line per work.

    Raises:
        ValueError: git knows no commit of this name.
    """
    name = commit(revision, repository)
    print(f"{cpu()}, {threads} threads, {rounds} rounds, float32; times are per pair", flush=True)
    verdict = f"slower or faster: by over {MARGIN:.0%} in every round"
    print(f"{'row':42}{name[:7]:>10}{'now':>10}   {f'now/{name[:7]}':24}{verdict}", flush=True)
    with checked_out(name, repository) as tree, tempfile.TemporaryDirectory(prefix="ntklens-compiled-") as compiled:
        sources = {"before": tree / "src", "now": repository / "src"}
        sides = {key: our_side(path, NUMBA_CACHE_DIR=f"{compiled}/{key}") for key, path in sources.items()}

        def measure(key: str, work: Work) -> Answer:
            answer = sides[key].measure(work, threads)
            if Path(answer["source"]).resolve() != sources[key].resolve():
                raise Failed(f"the code of {answer['source']} was measured in the place of {sources[key]}")
            return answer

        for work in works:
            try:
                before, now = in_turns([partial(measure, key, work) for key in sides], rounds)
            except Failed as failure:
                print(f"{work.title:42}   failed: {failure}", flush=True)
            else:
                print(line(work, before, now), flush=True)
