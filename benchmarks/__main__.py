"""Print our kernels beside the peer's, or draw the scaling curves: `python -m benchmarks [--figure]`.

The table is `benchmarks.kernels_beside_peer`, the curves are `benchmarks.scaling`.
"""

import argparse

from benchmarks import kernels_beside_peer, scaling


def main() -> None:
    """Parse the options and run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", action="store_true", help="draw time over inputs, depth, image side and threads")
    if parser.parse_args().figure:
        scaling.draw()
    else:
        kernels_beside_peer.main()


if __name__ == "__main__":
    main()
