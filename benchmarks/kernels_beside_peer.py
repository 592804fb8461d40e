"""Measure analytic kernels and gradients beside neural-tangents and beside bare matrix products.

Run it with `python -m benchmarks [--rows WORD ...]` or `make bench` (an hour for all rows, plus the peer's installation).

Both sides take float32 images of 32 x 32 x 3 where no d is told, w_std = √2, b_std = 0.1, and two threads. Each row has a
fresh process per side and round; the sides take turns (`benchmarks.rounds`). Times are medians over the rounds, per pair
of images; "peer/ours" is the ratio of the medians, with the smallest and the largest of a round. "ours/bare" is our time
over that of the matrix products that no dense kernel can avoid: one full `X @ X.T`, or the gradient's two. "beside it" is
the peak memory that the work adds beyond its own result, "peer's" that of the peer's process. The last column tells small
calls' time per pair beside that of a call of ours on 32 x 32 images.

A table stands in docs/results.md; it is older than the rounds and was measured in one process for all rows.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

from benchmarks.common import cpu
from benchmarks.rounds import Answer, Failed, in_turns, our_side, peer_side, per_pair, ratio, with_unit
from benchmarks.works import Work


def line(work: Work, ours: Sequence[Answer], theirs: Sequence[Answer]) -> str:
    """Return a row of the table."""
    our_times, peer_times = list(map(per_pair, ours)), list(map(per_pair, theirs))
    times = f"{with_unit(statistics.median(our_times)):>9}{with_unit(statistics.median(peer_times)):>9}"
    bare = large = ""
    if work.d:
        bare = f"{statistics.median(a['seconds'] / a['bare'] for a in ours):.2f}"
    if all(a["large"] for a in ours):
        large = f"   {ratio(our_times, [a['large'] for a in ours])}"
    beside = max(0.0, statistics.median(a["added"] - a["result"] for a in ours))
    memory = f"{ours[0]['result']:7.1f} MB{beside:7.0f} MB{max(a['peak_gb'] for a in theirs):7.2f} GB"
    return f"{work.title:42}{times}   {ratio(peer_times, our_times)!s:22}{bare:>9}{memory}{large}"


def run(works: Sequence[Work], rounds: int, threads: int) -> None:
    """Print one line per work."""
    sides = our_side(), peer_side()
    print(f"{cpu()}, {threads} threads, {rounds} rounds, float32; times are per pair", flush=True)
    heads = f"{'ours':>9}{'peer':>9}   {'peer/ours':22}{'ours/bare':>9}{'result':>10}{'beside it':>10}{'peer’s':>10}"
    print(f"{'row':42}{heads}   small over large call", flush=True)
    for work in works:
        try:
            answers = in_turns([partial(side.measure, work, threads) for side in sides], rounds)
        except Failed as failure:
            print(f"{work.title:42}   failed: {failure}", flush=True)
        else:
            print(line(work, *answers), flush=True)
