"""Picture files: modes, orientation, sizes and damage."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntklens.data import load_dataset
from ntklens.data.pictures import Preparation, read_pictures
from ntklens.errors import InputError

RNG = np.random.default_rng(0)
COLOUR = Image.fromarray(RNG.integers(0, 256, (8, 12, 3)).astype(np.uint8))
GREY = COLOUR.convert("L")


def saved(path: Path, picture: Image.Image, **options) -> Path:
    picture.save(path, **options)
    return path


def read(path: Path, **options) -> np.ndarray:
    return read_pictures([path], Preparation(**options))[0]


def opaque(picture: Image.Image) -> Image.Image:
    picture.putalpha(255)
    return picture


CASES = {
    # mode: (picture, suffix, its pixels as RGB)
    "black and white": (GREY.convert("1"), ".png", np.asarray(GREY.convert("1"), dtype=np.uint8)[..., None] * 255),
    "grey": (GREY, ".png", np.asarray(GREY)[..., None]),
    "palette": (COLOUR.quantize(256), ".png", np.asarray(COLOUR.quantize(256).convert("RGB"))),
    "opaque alpha": (opaque(COLOUR.copy()), ".png", np.asarray(COLOUR)),
    "grey with opaque alpha": (opaque(GREY.copy()), ".png", np.asarray(GREY)[..., None]),
    # White ink-free paper less each ink and black: Pillow's conversion, without a colour profile.
    "four inks": (Image.new("CMYK", (12, 8), (255, 0, 51, 0)), ".tif", np.array([0, 255, 204])),
}


@pytest.mark.parametrize(("picture", "suffix", "expected"), CASES.values(), ids=CASES)
def test_modes_become_rgb(picture, suffix, expected, tmp_path):
    pixels = read(saved(tmp_path / f"x{suffix}", picture), mode="rgb")
    assert np.array_equal(pixels, np.broadcast_to(expected, (8, 12, 3)))


def test_colour_becomes_grey_by_luma(tmp_path):
    pixels = read(saved(tmp_path / "x.png", COLOUR), mode="grey")
    luma = np.asarray(COLOUR, dtype=float) @ (0.299, 0.587, 0.114)
    assert np.abs(pixels - luma).max() <= 0.51


TRANSPARENT = Image.new("RGBA", (6, 5), (255, 0, 0, 128))
SIXTEEN = Image.fromarray(RNG.integers(0, 65536, (5, 6)).astype(np.uint16))
REFUSED = {
    "alpha": (TRANSPARENT, ".png", {}, "without transparent pixels.*got mode RGBA"),
    "transparent colour": (Image.new("RGB", (6, 5)), ".png", {"transparency": (0, 0, 0)}, "got mode RGB with some"),
    "transparent palette": (TRANSPARENT.quantize(4), ".png", {}, "without transparent pixels.*got mode P"),
    "16 bits": (SIXTEEN, ".png", {}, "8 bits per channel; got mode I;16"),
    "floats": (Image.fromarray(RNG.random((5, 6), np.float32)), ".tif", {}, "8 bits per channel; got mode F"),
    "Lab": (Image.new("LAB", (6, 5)), ".tif", {}, "8 bits per channel; got mode LAB"),
    "frames": (GREY, ".gif", {"save_all": True, "append_images": [COLOUR]}, "expected one picture; got 2 frames"),
}


@pytest.mark.parametrize(("picture", "suffix", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_pictures_that_have_no_right_conversion_are_refused_by_name(picture, suffix, options, message, tmp_path):
    path = saved(tmp_path / f"x{suffix}", picture, **options)
    with pytest.raises(InputError, match=rf"x\{suffix}: .*{message}"):
        read(path, mode="rgb", size=4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_pictures_are_upright(orientation, suffix, tmp_path):
    """The first row and column of the file, told by its corner, are on the sides that the tag names (EXIF 2.3, table 6)."""
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}
    picture = Image.fromarray(stored).convert("RGB")
    preparation = Preparation(mode="grey")
    pixels = read_pictures([saved(tmp_path / f"x{suffix}", picture, exif=exif, **options)], preparation)[0]
    bottom, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    if suffix != ".tif":
        assert preparation.turned == (orientation > 1)
    assert pixels.shape == ((16, 32) if orientation < 5 else (32, 16))
    assert pixels[-4 if bottom else 3, -4 if right else 3] > 250
    assert (pixels > 128).sum() == 64


def test_pictures_are_resized_by_averaging(tmp_path):
    # Shrinking by a whole factor with the triangle filter, on a constant and on a ramp, whose mean is its middle.
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    path = saved(tmp_path / "x.png", Image.fromarray(ramp))
    pixels = read(path, size=8)
    assert pixels.shape == (8, 8)
    assert np.abs(pixels[:, 2:-2].astype(float) - ramp.reshape(64, 8, 8).mean((0, 2))[2:-2]).max() <= 1
    assert (
        read(saved(tmp_path / "y.png", Image.new("RGB", (9, 5), (7, 80, 200))), size=3).tolist()
        == [[[7, 80, 200]] * 3] * 3
    )


def test_with_a_size_mixed_modes_become_rgb_and_are_told(tmp_path):
    preparation = Preparation(size=4)
    paths = [saved(tmp_path / "a.png", GREY), saved(tmp_path / "b.png", COLOUR), saved(tmp_path / "c.gif", COLOUR)]
    pixels = read_pictures(paths, preparation)
    assert pixels.shape == (3, 4, 4, 3)
    assert np.array_equal(pixels[0, ..., 0], np.asarray(GREY.resize((4, 4), Image.Resampling.BILINEAR)))
    assert preparation.notes() == [
        "Images converted to RGB: 1 of mode L, 1 of mode P.",
        "Images resized to 4x4 pixels with Pillow's bilinear filter, from 12x8 pixels, 3 of which were not square and are "
        "stretched.",
    ]
    assert read_pictures(paths[:1], Preparation(size=4)).shape == (1, 4, 4)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".gif", ".ppm", ".jp2"])
@pytest.mark.parametrize("damage", ["half", "a few bytes", "other bytes", "nothing"])
def test_damaged_files_are_refused_by_name(suffix, damage, tmp_path):
    picture = Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    path = saved(tmp_path / f"x{suffix}", picture)
    content = path.read_bytes()
    path.write_bytes(
        {
            "half": content[: len(content) // 2],
            "a few bytes": content[:20],
            "other bytes": b"<html>404</html>",
            "nothing": b"",
        }[damage]
    )
    with pytest.raises(InputError, match=rf"x\{suffix} is (damaged|not an image)"):
        read(path)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_png_with_other_bytes_inside_is_refused(place, tmp_path):
    path = saved(tmp_path / "x.png", Image.fromarray(RNG.integers(0, 256, (64, 64)).astype(np.uint8)))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png is damaged"):
        read(path)


@pytest.mark.parametrize("limit", [100, 50], ids=["error of Pillow", "warning of Pillow"])
def test_pictures_with_very_many_pixels_are_refused(limit, tmp_path, monkeypatch):
    path = saved(tmp_path / "x.png", Image.new("L", (12, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=r"x\.png has more pixels than can be read safely"):
            read(path)


def test_masks_of_zeros_and_ones_are_refused(tmp_path):
    for c in ("cat", "dog"):
        (tmp_path / c).mkdir()
        for i in range(5):
            Image.fromarray(RNG.integers(0, 2, (5, 6)).astype(np.uint8)).save(tmp_path / c / f"{i}.png")
    with pytest.raises(InputError, match="expected bytes from 0 to 255; got bytes from 0 to 1"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "expected size as a whole number of 1 or more"),
        ({"size": 2.0}, "got 2.0"),
        ({"mode": "gray"}, 'the mode "grey" or "rgb"'),
    ],
)
def test_sizes_and_modes_that_do_not_exist(options, message, untyped):
    with pytest.raises(InputError, match=message):
        load_dataset("digits", **options)
