"""Rebuild the embedded data set from the full Fashion-MNIST, byte for byte.

    python tools/make_fashion_mnist_mini.py path/to/fashion-mnist

It holds 400 training and 100 test images of each class, drawn by a fixed seed from the full splits and interleaved, so
that the first n images are balanced to within one image per class, for every n. Pixels and classes stay as published.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from ntklens.data.idx import read_idx
from ntklens.data.mnist import CLOTHES

TARGET = Path(__file__).parents[1] / "src/ntklens/data/assets/fashion_mnist_mini.npz"
SEED = 20170825  # the day Fashion-MNIST was published


def stratified(y: np.ndarray, each: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the indices of `each` images of every class; in each round every class has one turn, in a shuffled order."""
    columns = [generator.permutation(np.flatnonzero(y == c))[:each] for c in range(10)]
    rounds = np.stack(columns, 1)
    return np.concatenate([generator.permutation(row) for row in rounds])


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed npz without time stamps, so that the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)


def main(folder: Path) -> None:
    """Choose the images and write them."""
    generator = np.random.default_rng(SEED)
    arrays: dict[str, np.ndarray] = {}
    for split, stem, each in (("train", "train", 400), ("test", "t10k", 100)):
        x = read_idx(folder / f"{stem}-images-idx3-ubyte.gz")
        y = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz")
        chosen = stratified(y, each, generator)
        arrays |= {f"x_{split}": x[chosen], f"y_{split}": y[chosen]}
    arrays["classes"] = np.array(CLOTHES)
    TARGET.parent.mkdir(exist_ok=True)
    write(TARGET, arrays)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
