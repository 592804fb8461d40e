"""Make a folder of photographs as people have them: of mixed sizes and modes, in two classes, beside other files.

    python tools/make_photographs.py my_photographs --count 300
    ntklens attack --data my_photographs --size 32

The photographs are crops, at random places and of random sizes, of the two that scikit-learn ships: a temple in China and
a flower. The same seed gives the same folder.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

CLASSES = {"flower": "flower.jpg", "temple": "china.jpg"}
KINDS = (
    ("RGB", ".jpg"),
    ("RGB", ".JPG"),
    ("RGB", ".png"),
    ("L", ".png"),
    ("P", ".png"),
    ("CMYK", ".jpg"),
    ("RGB", ".webp"),
)
"""Mode and suffix of the files, which take turns."""
ORIENTATION = 0x0112
"""EXIF tag of the side that is up."""


def make(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` photographs, half of them in each class folder."""
    rng = np.random.default_rng(seed)
    for name, sample in CLASSES.items():
        photograph = Image.fromarray(load_sample_image(sample))
        (folder / name).mkdir(parents=True)
        (folder / name / ".DS_Store").write_bytes(bytes(8))
        for i in range(count // len(CLASSES)):
            width, height = (int(side) for side in rng.integers(48, 320, 2))
            left, top = int(rng.integers(photograph.width - width)), int(rng.integers(photograph.height - height))
            mode, suffix = KINDS[i % len(KINDS)]
            crop = photograph.crop((left, top, left + width, top + height)).convert(mode)
            exif = Image.Exif()
            if suffix == ".JPG":  # a camera held upright stores the picture on its side, and says so
                crop, exif[ORIENTATION] = crop.transpose(Image.Transpose.ROTATE_90), 6
            crop.save(folder / name / f"{name}{i:03}{suffix}", exif=exif)
    (folder / "readme.txt").write_text("Crops of the sample images of scikit-learn.\n", encoding="utf-8")


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Folder to write, which must not exist.")
    parser.add_argument("--count", type=int, default=300, help="Number of photographs.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of places and sizes.")
    options = parser.parse_args()
    make(options.folder, options.count, options.seed)


if __name__ == "__main__":
    main()
