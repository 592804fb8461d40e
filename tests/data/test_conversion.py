"""Sizes and modes of data sets of arrays."""

import numpy as np
import pytest
import torch
from PIL import Image

from ntklens.data import load_dataset


@pytest.fixture
def colours(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3)).astype(np.uint8)
    y = np.array([0, 1, 0, 1])
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    return tmp_path / "mine.npz", x


def test_arrays_are_resized_as_files_are(colours):
    path, x = colours
    data = load_dataset(path, size=5)
    files = np.stack([np.asarray(Image.fromarray(image).resize((5, 5), Image.Resampling.BILINEAR)) for image in x])
    assert data.shape == (3, 5, 5)
    assert np.abs(data.train.x.permute(0, 2, 3, 1).numpy() - files / 255).max() < 1 / 255
    assert data.notes == (
        "Images resized to 5x5 pixels with Pillow's bilinear filter, from 7x9 pixels, 6 of which were not square and are "
        "stretched.",
    )


def test_arrays_are_converted(colours):
    path, x = colours
    data = load_dataset(path, mode="grey")
    assert torch.allclose(data.train.x[:, 0], torch.from_numpy(x / 255 @ (0.299, 0.587, 0.114)).float(), atol=1e-6)
    assert data.notes == ("Images converted to grey (ITU-R 601-2 luma).",)
    digits = load_dataset("digits", mode="rgb", size=8)
    assert digits.shape == (3, 8, 8)
    assert torch.equal(digits.train.x[:, 2], load_dataset("digits").train.x[:, 0])
    assert digits.notes == ("Images converted to RGB.",)
    assert load_dataset("digits", mode="grey", size=8).notes == ()
