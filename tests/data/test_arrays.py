"""Files of arrays in the usual layouts, and those that do not fit."""

import numpy as np
import pytest

from ntklens.data import load_dataset
from ntklens.errors import InputError


@pytest.mark.parametrize("layout", ["nhw", "nchw", "nhwc"])
def test_npz_files_in_the_usual_layouts(layout, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 3, 5, 4)).astype(np.uint8)
    pixels = {"nhw": pixels[:, 0], "nchw": pixels, "nhwc": pixels.transpose(0, 2, 3, 1)}[layout]
    y = np.array([0, 1, 0, 1, 0, 1])
    np.savez(tmp_path / "mine.npz", x_train=pixels, y_train=y, x_test=pixels, y_test=y, classes=["cat", "dog"])
    data = load_dataset(str(tmp_path / "mine.npz"))
    assert data.shape == (1 if layout == "nhw" else 3, 5, 4)
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "it lacks y_test"),
        ({"x_test": np.zeros((0, 3, 3)), "y_test": np.zeros(0, int)}, "empty arrays x_test, y_test"),
        ({"y_train": np.zeros(5, int)}, "4 class indices"),
        ({"x_train": np.full((4, 3, 3), 2.0)}, r"pixels in \[0, 1\]"),
        ({"x_train": np.full((4, 3, 3), np.nan)}, r"pixels in \[0, 1\]"),
        ({"x_train": np.zeros((4, 3, 3), int)}, "pixels as bytes or as floats"),
        ({"x_train": np.full((4, 3, 3), "a")}, "pixels as bytes or as floats"),
        ({"x_train": np.zeros((4, 9))}, "images .n, H, W."),
        ({"y_train": np.zeros((4, 2), int)}, "that is not one-hot"),
        ({"x_train": np.full((4, 3, 3), -0.5)}, r"from -0\.5 to -0\.5\. Take \(x \+ 1\) / 2"),
        ({"x_train": np.full((4, 3, 3), 255.0)}, "from 255 to 255. Divide the images by 255"),
        (
            {"x_train": np.where(np.arange(36).reshape(4, 3, 3) > 20, np.nan, 0.5)},
            "NaN or infinity in 2 images, the first at 2",
        ),
        (
            {"x_train": np.full((4, 3, 3), 1 / 255)},
            r"largest pixel of 0\.003922, as of images that were divided by 255 twice",
        ),
        ({"x_train": np.zeros((4, 3, 9, 3))}, "which can be either"),
        ({"x_train": np.zeros((4, 1, 9, 1))}, "which can be either"),
        (
            {"x_train": np.ones((4, 3, 3), np.uint8), "x_test": np.zeros((4, 3, 3), np.uint8)},
            "bytes from 0 to 1. If 1 is white, give truth values",
        ),
        (
            {"x_train": np.full((4, 3, 3), 16, np.uint8), "x_test": np.full((4, 3, 3), 12, np.uint8)},
            "from 0 to 16. .*x / 16",
        ),
        ({"x_test": np.zeros((4, 2, 2))}, "of one shape"),
        ({"classes": np.array(["only"])}, "one per class name"),
    ],
)
def test_npz_files_that_do_not_fit(changed, message, tmp_path):
    arrays = {"x_train": np.zeros((4, 3, 3)), "x_test": np.zeros((4, 3, 3))}
    arrays |= {"y_train": np.array([0, 1, 0, 1]), "y_test": np.array([0, 1, 0, 1])} | changed
    np.savez(tmp_path / "mine.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(InputError, match=message):
        load_dataset(str(tmp_path / "mine.npz"))


def test_truth_values_are_zeros_and_ones(tmp_path):
    x, y = np.arange(36).reshape(4, 3, 3) % 2 == 1, np.array([0, 1, 0, 1])
    np.savez(tmp_path / "masks.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert load_dataset(tmp_path / "masks.npz").train.x.flatten().tolist() == [i % 2 for i in range(36)]


def test_the_suffix_may_be_in_capitals_and_other_arrays_are_told(tmp_path):
    x, y = np.zeros((4, 3, 3)), np.array([0, 1, 0, 1])
    with open(tmp_path / "MINE.NPZ", "wb") as file:
        np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y, x_val=x, y_val=y)
    assert load_dataset(tmp_path / "MINE.NPZ").notes == ("Left out: the arrays x_val, y_val.",)


def test_arrays_under_other_names_are_listed(tmp_path):
    np.savez(tmp_path / "mine.npz", train_images=np.zeros(3), x_test=np.zeros(3))
    with pytest.raises(InputError, match="it lacks x_train, y_train, y_test, and has x_test, train_images"):
        load_dataset(tmp_path / "mine.npz")


def one_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def with_a_bit_changed(place):
    def write(path):
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (40, 8, 8)).astype(np.uint8), np.arange(40) % 2
        np.savez_compressed(path, x_train=x, y_train=y, x_test=x, y_test=y)
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 4
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: path.write_bytes(b"PK\3\4" + bytes(60)),
        one_array,
        *(with_a_bit_changed(place) for place in (0.1, 0.2, 0.3, 0.6, 0.8, 0.99)),
    ],
    ids=["empty", "text", "begins like a zip", "one npy", *(f"a bit at {p}" for p in (0.1, 0.2, 0.3, 0.6, 0.8, 0.99))],
)
def test_damaged_npz_files(write, tmp_path):
    write(tmp_path / "mine.npz")
    with pytest.raises(InputError, match=r"mine\.npz"):
        load_dataset(tmp_path / "mine.npz")


def test_pickles_in_an_npz_are_not_opened(tmp_path):
    np.savez(tmp_path / "evil.npz", x_train=np.array([object()]))
    with pytest.raises(InputError, match="plain arrays"):
        load_dataset(str(tmp_path / "evil.npz"))
