"""Make the images that come with the package out of the full Fashion-MNIST.

    python -m benchmarks.make_fashion_mnist_mini DATA_DIR OUT.npz

The images that earlier versions came with stay the first ones, so that the first 4,000 training and 1,000 test images are
the same in every version. After them come 200 more training images of each class, drawn at random, and the rest of the test
set.
"""

from __future__ import annotations

import sys
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from ntklens.data import load_dataset

EARLIER = {"train": 4000, "test": 1000}
PER_CLASS = 600


def _added(kept: NDArray[np.uint8], x: NDArray[np.uint8], y: NDArray[np.int64], per_class: int) -> NDArray[np.int64]:
    """Return indices of further images of each class, ten of ten classes at a time; none equals one that is kept."""
    known = {image.tobytes() for image in kept}
    fresh = np.array([i for i, image in enumerate(x) if image.tobytes() not in known])
    rng = np.random.default_rng(0)
    chosen = np.stack([rng.permutation(fresh[y[fresh] == c])[:per_class] for c in range(10)])
    # One image of each class after the other, in an order that is drawn each time: every beginning is balanced.
    orders = np.stack([rng.permutation(10) for _ in range(per_class)])
    return chosen[orders, np.arange(per_class)[:, None]].ravel()


def main(data_dir: str, out: str) -> None:
    """Write the file."""
    full = load_dataset("fashion-mnist", data_dir=data_dir)
    asset = resources.files("ntklens.data").joinpath("assets/fashion_mnist_mini.npz")
    arrays: dict[str, NDArray[np.generic]] = {"classes": np.array(full.classes)}
    with resources.as_file(asset) as path, np.load(path, allow_pickle=False) as old:
        for part, split in (("train", full.train), ("test", full.test)):
            x = (split.x[:, 0].numpy() * 255).round().astype(np.uint8)
            y = split.y.numpy()
            first = slice(0, EARLIER[part])
            kept, kept_y = old[f"x_{part}"][first], old[f"y_{part}"][first]
            per_class = (PER_CLASS if part == "train" else 1000) - len(kept) // 10
            added = _added(kept, x, y, per_class)
            arrays[f"x_{part}"] = np.concatenate([kept, x[added]])
            arrays[f"y_{part}"] = np.concatenate([kept_y, y[added]]).astype(np.uint8)
    np.savez_compressed(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
