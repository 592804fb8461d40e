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
        ({"x_train": np.zeros((4, 9))}, "images .n, H, W."),
        ({"y_train": np.zeros((4, 2), int)}, r"class indices \(n,\)"),
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


def test_pickles_in_an_npz_are_not_opened(tmp_path):
    np.savez(tmp_path / "evil.npz", x_train=np.array([object()]))
    with pytest.raises(InputError, match="plain arrays"):
        load_dataset(str(tmp_path / "evil.npz"))
