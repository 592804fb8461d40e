"""Picture files as bytes: opened, turned upright, converted and resized with Pillow, or refused by name."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ntklens.errors import InputError
from ntklens.files import first_line

Mode = Literal["grey", "rgb"]
SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".tga", ".avif"),
}
"""Suffixes of the files that are read, in lower case."""
FILTER = Image.Resampling.BILINEAR
"""Pillow's bilinear filter: where it shrinks, it averages over the area that becomes one pixel."""
_PILLOW_MODE = {"grey": "L", "rgb": "RGB"}
_CONVERTIBLE = {
    "1": "black and white",
    "P": "a palette",
    "PA": "a palette with an alpha channel",
    "LA": "grey with an alpha channel",
    "RGBA": "colour with an alpha channel",
    "CMYK": "four inks",
    "YCbCr": "luma and chroma",
}
"""Modes that Pillow converts to 8 bits of grey or colour without a choice of scale."""
_ANIMATED = {"GIF", "PNG", "TIFF", "WEBP", "AVIF"}
"""Formats whose frames are pictures of their own; the second picture of an MPO file is a preview of the first."""


@dataclass
class Preparation:
    """What is done to every picture, and what was done.

    Attributes:
        size: pixels of each side after resizing; None keeps the size of the files, which must be one.
        mode: "grey" or "rgb" to convert to. None keeps the mode of the files, which must be one; with a size, files of
            several modes become RGB, which keeps all that they hold.
        sizes: how often each (width, height) came, upright and before resizing.
        modes: how often each of Pillow's modes came.
        turned: number of pictures that their EXIF orientation has turned or mirrored.
    """

    size: int | None = None
    mode: Mode | None = None
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    turned: int = 0

    @property
    def became(self) -> Mode:
        """The mode of the pictures that came, after their conversion."""
        return self.mode or ("grey" if {_kept(mode) for mode in self.modes} <= {"L"} else "rgb")

    def notes(self) -> list[str]:
        """Return sentences that say what was done to the pictures."""
        sentences = []
        converted = {mode: n for mode, n in self.modes.items() if mode != _PILLOW_MODE[self.became]}
        if converted:
            listed = ", ".join(f"{n} of mode {mode}" for mode, n in sorted(converted.items()))
            sentences.append(f"{converted_to(self.became)}: {listed}.")
        if self.size is not None and set(self.sizes) != {(self.size, self.size)}:
            sentences.append(resized_to(self.size, self.sizes))
        if self.turned:
            sentences.append(f"Images turned as their EXIF orientation says: {self.turned}.")
        return sentences


def _kept(mode: str) -> str:
    """Return the mode, "L" or "RGB", that keeps all that a picture of another mode holds."""
    return "L" if mode in ("L", "1", "LA") else "RGB"


def converted_to(mode: Mode) -> str:
    """Return the beginning of a sentence that tells a conversion."""
    return "Images converted to grey (ITU-R 601-2 luma)" if mode == "grey" else "Images converted to RGB"


def resized_to(size: int, sizes: Counter[tuple[int, int]]) -> str:
    """Return a sentence that tells a resizing from (width, height), and whether shapes were stretched."""
    smallest, largest = min(sizes, key=np.prod), max(sizes, key=np.prod)
    came = " to ".join(dict.fromkeys(f"{w}x{h}" for w, h in (smallest, largest)))
    stretched = sum(n for (w, h), n in sizes.items() if w != h)
    shapes = f", {stretched} of which were not square and are stretched" if stretched else ""
    return f"Images resized to {size}x{size} pixels with Pillow's bilinear filter, from {came} pixels{shapes}."


def read_pictures(paths: Sequence[Path], preparation: Preparation) -> NDArray[np.uint8]:
    """Read pictures of one size and mode: (n, H, W) or (n, H, W, 3).

    Args:
        paths: the files, one at least.
        preparation: what to do to them; it counts what was done.

    Raises:
        InputError: a file that is damaged, too large or of a mode that cannot be converted, or sizes or modes that differ.
    """
    arrays: list[NDArray[np.uint8]] = []
    for path in paths:
        arrays.append(_pixels(path, preparation))
        first, last = arrays[0].shape, arrays[-1].shape
        if first[:2] != last[:2]:
            raise InputError(
                f"expected images of one size; got {first[1]}x{first[0]} pixels in {paths[0]} and {last[1]}x{last[0]} in "
                f"{path}. Resize them all with --size, such as --size 32 (size=32)."
            )
        if len(first) != len(last) and preparation.size is None:
            kinds = ["grey" if len(shape) == 2 else "colour" for shape in (first, last)]
            raise InputError(
                f"expected images that are all grey or all colour; got {kinds[0]} in {paths[0]} and {kinds[1]} in {path}. "
                'Convert them all with --grey (mode="grey") or --rgb (mode="rgb").'
            )
    if len({a.ndim for a in arrays}) > 1:
        arrays = [a if a.ndim == 3 else np.repeat(a[..., None], 3, axis=2) for a in arrays]
    return np.stack(arrays)


def is_picture(path: Path) -> bool:
    """Return whether Pillow knows the format of a file from its content, whatever its suffix says."""
    try:
        with _quiet(), Image.open(path):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # a format that it knows, in a file that is damaged
        return True


def _pixels(path: Path, preparation: Preparation) -> NDArray[np.uint8]:
    """Read one picture: (H, W) or (H, W, 3)."""
    with _readable(path):
        with Image.open(path) as picture:
            if picture.format == "PNG":
                picture.verify()  # the checksums of all parts, which reading alone does not look at
        with Image.open(path) as picture:
            frames = getattr(picture, "n_frames", 1) if picture.format in _ANIMATED else 1
            picture.load()
            mode = picture.mode
            # A TIFF file is turned by Pillow itself, which then drops the tag.
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
            upright = ImageOps.exif_transpose(picture) if orientation in range(2, 9) else picture.copy()
    if frames > 1:
        raise InputError(f"{path}: expected one picture; got {frames} frames. Save the one that you mean as a file.")
    converts = preparation.mode is not None or preparation.size is not None
    _check_mode(path, upright, converts=converts)
    preparation.modes[mode] += 1
    preparation.sizes[upright.size] += 1
    preparation.turned += orientation in range(2, 9)
    if converts:
        with _quiet():
            upright = upright.convert(_PILLOW_MODE[preparation.mode] if preparation.mode else _kept(mode))
    if preparation.size is not None:
        upright = upright.resize((preparation.size, preparation.size), FILTER)
    return np.asarray(upright)


def _check_mode(path: Path, picture: Image.Image, *, converts: bool) -> None:
    """Raise InputError for a picture that is not, and is not to be converted to, 8 bits of grey or colour."""
    mode = picture.mode
    if mode not in ("L", "RGB", *_CONVERTIBLE):
        raise InputError(
            f"{path}: expected an image with 8 bits per channel; got mode {mode}, whose scale is not fixed. Convert it to "
            "8 bits of grey or RGB."
        )
    if mode in _CONVERTIBLE and not converts:
        raise InputError(
            f"{path}: expected a grey or RGB image; got mode {mode} ({_CONVERTIBLE[mode]}). Convert all images with --rgb "
            '(mode="rgb") or --grey (mode="grey").'
        )
    # A palette or a PNG file without an alpha channel can name one colour that is transparent.
    if "A" in picture.getbands() or "transparency" in picture.info:
        with _quiet():
            lowest, _ = picture.convert("RGBA").getchannel("A").getextrema()
        if lowest != 255:
            raise InputError(
                f"{path}: expected an image without transparent pixels, whose colour is not defined; got mode {mode} with "
                "some. Flatten it onto a background."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings, but for that of a picture with very many pixels, which becomes an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever Pillow raises for a file into one sentence with the file's name."""
    try:
        with _quiet():
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise InputError(
            f"{path} has more pixels than can be read safely ({first_line(error)}). Shrink it or move it away."
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not an image, or not of a format that Pillow reads. Replace it, or move it out of the folder."
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError and others
        raise InputError(
            f"{path} is damaged or cut short ({first_line(error)}). Replace it, or move it out of the folder."
        ) from error
