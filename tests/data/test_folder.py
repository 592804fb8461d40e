"""Folders of images, with and without a split."""

from pathlib import Path

import pytest
from PIL import Image

from ntklens.data import load_dataset
from ntklens.errors import InputError


def draw(folder: Path, count: int, mode: str = "L", size: tuple[int, int] = (6, 5)) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new(mode, size, 20 * i if mode == "L" else (20 * i, 0, 255)[: len(mode)]).save(folder / f"{i:02}.png")


def test_folders_with_and_without_a_split(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for c in ("cat", "dog"):
            draw(tmp_path / "split" / split / c, count, "RGB")
    data = load_dataset(str(tmp_path / "split"))
    assert (len(data.train), len(data.test), data.shape) == (8, 4, (3, 5, 6))
    for c in ("cat", "dog"):
        draw(tmp_path / "plain" / c, 10)
    data = load_dataset(str(tmp_path / "plain"))
    assert (len(data.train), len(data.test)) == (16, 4)
    assert sorted((data.test.x[:, 0, 0, 0] * 255).round().tolist()) == [80, 80, 180, 180]


def test_folders_that_do_not_fit(tmp_path):
    draw(tmp_path / "one" / "cat", 10)
    with pytest.raises(InputError, match="two or more class folders"):
        load_dataset(str(tmp_path / "one"))
    draw(tmp_path / "sizes" / "cat", 10)
    draw(tmp_path / "sizes" / "dog", 10, size=(7, 7))
    with pytest.raises(InputError, match="images of one size"):
        load_dataset(str(tmp_path / "sizes"))
    draw(tmp_path / "alpha" / "cat", 10, "LA")
    draw(tmp_path / "alpha" / "dog", 10, "LA")
    with pytest.raises(InputError, match="got mode LA"):
        load_dataset(str(tmp_path / "alpha"))
