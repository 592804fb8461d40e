"""Folders of images: their layouts, what is left out, and what is refused."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from ntklens.data import load_dataset
from ntklens.data.dataset import Split
from ntklens.errors import InputError


def draw(folder: Path, count: int = 5, mode: str = "L", size: tuple[int, int] = (6, 5), suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        colour = 50 + 20 * i if mode == "L" else (20 * i, 0, 255)[: len(mode)]
        Image.new(mode, size, colour).save(folder / f"{i:02}{suffix}")


def pets(root: Path, *, count: int = 5, **options) -> Path:
    for c in ("cat", "dog"):
        draw(root / c, count, **options)
    return root


def test_a_folder_without_a_split(tmp_path):
    data = load_dataset(pets(tmp_path / "pets", count=10))
    assert (data.name, data.classes, len(data.train), len(data.test)) == ("pets", ("cat", "dog"), 16, 4)
    assert sorted((data.test.x[:, 0, 0, 0] * 255).round().tolist()) == [130, 130, 230, 230]
    assert data.train.y[:4].tolist() == [0, 1, 0, 1]
    assert data.notes == ("Every fifth image of each class is a test image.",)


@pytest.mark.parametrize(
    "names", [("train", "test"), ("train", "val"), ("Train", "Test"), ("training", "testing"), ("TRAIN", "Valid")]
)
def test_folders_with_a_split(names, tmp_path):
    for name, count in zip(names, (4, 2), strict=True):
        pets(tmp_path / name, count=count, mode="RGB")
    data = load_dataset(tmp_path)
    assert (len(data.train), len(data.test), data.shape) == (8, 4, (3, 5, 6))
    assert data.classes == ("cat", "dog")
    assert data.notes == ()


def test_a_validation_set_beside_a_test_set_is_left_out_and_told(tmp_path):
    for name, count in (("train", 4), ("val", 3), ("test", 2)):
        pets(tmp_path / name, count=count)
    data = load_dataset(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.notes == ("Left out: images in the folder val: 6.",)


@pytest.mark.parametrize(
    ("names", "message"),
    [(("train", "Train", "test"), "Train and train"), (("train", "val", "valid"), "val and valid")],
)
def test_two_folders_for_one_set_are_refused(names, message, tmp_path):
    for name in names:
        pets(tmp_path / name)
    with pytest.raises(InputError, match=f"one training and one test set; got the folders {message}"):
        load_dataset(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "train", "plane"):
        draw(tmp_path / name, 10)
    assert load_dataset(tmp_path).classes == ("car", "plane", "train")


def test_what_is_left_out_is_counted(tmp_path):
    root = pets(tmp_path / "pets")
    clean = load_dataset(root).fingerprint()
    for junk in (".ipynb_checkpoints", "__MACOSX", "bird", "annotations", "cat/notes"):
        (root / junk).mkdir()
    draw(root / ".ipynb_checkpoints", 3)
    (root / "annotations" / "all.csv").write_text("name,class\n")
    (root / "dog" / "._00.png").write_bytes(b"\0\5\x16\7")
    (root / "dog" / "Thumbs.db").touch()
    (root / "cat" / "00.txt").touch()
    (root / "cat" / "LICENSE").touch()
    draw(root, 1)
    data = load_dataset(root)
    assert data.fingerprint() == clean
    assert data.notes[0] == (
        "Left out: hidden files or folders: 4 (.ipynb_checkpoints, __MACOSX, ._00.png, …); "
        "files that are no images: 3 (1 .csv, 1 .txt, 1 without suffix); "
        "folders without images: 3 (annotations, bird, notes); images in no class folder: 1 (00.png)."
    )


def test_every_format_is_read_in_any_case_of_its_suffix(tmp_path):
    for suffix in (".PNG", ".bmp", ".tiff", ".pgm", ".gif", ".tga"):
        draw(tmp_path / "all" / "cat" / "x", 1, suffix=suffix)
        (tmp_path / "all" / "cat" / "x" / f"00{suffix}").rename(tmp_path / "all" / "cat" / f"0{suffix}")
    (tmp_path / "all" / "cat" / "x").rmdir()
    draw(tmp_path / "all" / "dog", 6)
    data = load_dataset(tmp_path / "all", mode="grey")
    assert (len(data.train), len(data.test)) == (10, 2)
    assert (data.train.x[data.train.y == 0] * 255).round().unique().tolist() == [50]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: draw(root / "cat" / "more", 1), r"directly in the class folders .*cat, dog.*more/00\.png"),
        (lambda root: (root / "cat" / "x.heic").touch(), r"x\.heic: expected images with the suffix"),
        (
            lambda root: (root / "cat" / "00.png").rename(root / "cat" / "00"),
            r"00: expected images with the suffix .*got \"\"",
        ),
        (
            lambda root: draw(root / "dog", 1, size=(7, 9)),
            r"one size; got 6x5 pixels in .*cat/00\.png and 7x9 in .*dog/00\.png.*--size 32",
        ),
        (
            lambda root: draw(root / "dog", 1, mode="RGB"),
            r"all grey or all colour; got grey in .* and colour in .*--rgb",
        ),
        (
            lambda root: draw(root / "dog", 1, mode="LA"),
            r"00\.png: .*got mode LA \(grey with an alpha channel\).*--rgb",
        ),
    ],
    ids=["subfolder", "foreign format", "no suffix", "sizes", "modes", "alpha"],
)
def test_images_that_would_be_lost_or_do_not_fit_are_refused(spoil, message, tmp_path):
    spoil(pets(tmp_path / "pets"))
    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path / "pets")


def test_folders_that_are_no_data_set(tmp_path):
    draw(tmp_path / "one" / "cat", 10)
    with pytest.raises(
        InputError, match=r"two or more class folders .*got 8 train images and 2 test images in 1 class"
    ):
        load_dataset(tmp_path / "one")
    draw(tmp_path / "flat" / "train")
    draw(tmp_path / "flat" / "test")
    with pytest.raises(InputError, match=r"two or more class folders .*images in no class folder: 10"):
        load_dataset(tmp_path / "flat")
    pets(tmp_path / "parts" / "train")
    pets(tmp_path / "parts" / "holdout")
    with pytest.raises(InputError, match=r"holdout, train.*folders called train and test"):
        load_dataset(tmp_path / "parts")
    with pytest.raises(InputError, match=r"two or more class folders .*got 8 train images and 0 test"):
        load_dataset(pets(tmp_path / "few", count=4))


def test_a_class_that_is_not_in_both_sets(tmp_path):
    pets(tmp_path / "train")
    draw(tmp_path / "test" / "cat")
    assert load_dataset(tmp_path).notes == ("Classes without a test image: dog.",)
    draw(tmp_path / "test" / "Dog")
    with pytest.raises(InputError, match=r"training images of every class; .* has none of Dog"):
        load_dataset(tmp_path)


def test_a_folder_with_the_name_of_a_data_set_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert load_dataset("digits").name == "digits"  # an empty folder is no data set
    pets(tmp_path / "digits")
    with pytest.raises(InputError, match=r'write "\./digits" for the folder, or "ntklens:digits"'):
        load_dataset("digits")
    assert load_dataset("./digits").classes == ("cat", "dog")
    assert len(load_dataset("ntklens:digits").classes) == 10


def test_names_that_are_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(pets(tmp_path / "pets"))
    with pytest.raises(InputError, match=r'or a path to an \.npz file or a folder; got ""'):
        load_dataset("")
    assert load_dataset(".").name == "pets"
    with pytest.raises(InputError, match=r"got the file .*00\.png"):
        load_dataset("cat/00.png")


def test_images_know_their_files(tmp_path):
    """Also where some classes, some images or another size are taken; a data set of arrays has no files."""
    root = pets(tmp_path / "pets", count=10)
    draw(root / "emu", 10)
    data = load_dataset(root, classes=["emu", "cat"], test=3, size=4)
    assert data.train.names[:4] == ("cat/00.png", "emu/00.png", "cat/01.png", "emu/01.png")
    assert data.test.names == ("cat/04.png", "emu/04.png", "cat/09.png")
    for split in (data.train, data.test):
        for i, name in enumerate(split.names):
            pixel = Image.open(root / name).getpixel((0, 0))
            assert round(float(split.x[i, 0, 0, 0] * 255)) == pixel
            assert data.classes[int(split.y[i])] == name.partition("/")[0]
    assert data.test[torch.tensor([2, 0])].names == ("cat/09.png", "cat/04.png")
    assert load_dataset("digits").test.names is None


def test_a_split_has_one_name_per_image():
    with pytest.raises(InputError, match="expected 2 names of files, one per image; got 1"):
        Split(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("a.png",))
