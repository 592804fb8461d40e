"""Print our kernels beside the peer's, compare them with a commit, or draw the scaling curves: `python -m benchmarks`.

The table is `benchmarks.kernels_beside_peer`, the comparison `benchmarks.compare`, the curves are `benchmarks.scaling`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks import compare, kernels_beside_peer
from benchmarks.rounds import restrict_to
from benchmarks.works import WORKS, chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options and run one of them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="WORD", help="only rows with these words in their names"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--compare", metavar="REV", help="compare this tree with a commit, not with the peer")
    parser.add_argument("--rounds", type=int, default=5, help="processes of either side per row")
    parser.add_argument("--threads", type=int, default=2, help="threads of either side")
    parser.add_argument("--figure", action="store_true", help="draw time over inputs, depth, image side and threads")
    options = parser.parse_args(arguments)
    if options.figure:
        from benchmarks import scaling

        scaling.draw()
        return 0
    try:
        works = chosen(options.rows)
        for name in ("rounds", "threads"):
            if getattr(options, name) < 1:
                raise ValueError(f"expected --{name} of at least 1; got {getattr(options, name)}.")
        if options.list:
            width = max(len(work.name) for work in WORKS)
            print("\n".join(f"{work.name:{width}}  {work.title}" for work in works))
            return 0
        if options.compare is not None:
            compare.commit(options.compare)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    restrict_to(options.threads)
    for ends in (signal.SIGINT, signal.SIGTERM):  # shells let background jobs ignore the first
        signal.signal(ends, signal.default_int_handler)
    try:
        if options.compare is not None:
            compare.run(works, options.compare, options.rounds, options.threads)
        else:
            kernels_beside_peer.run(works, options.rounds, options.threads)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
