"""Which files of a folder are images of a class, and which are left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ntklens.data.pictures import SUFFIXES, is_picture
from ntklens.errors import InputError

_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALIDATION = ("val", "valid", "validation")
_OF_SYSTEMS = {
    *("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"),
    *("Thumbs.db", "desktop.ini"),
}
"""Files and folders that operating systems and file servers leave behind without a dot before their names."""
_FOREIGN = {
    *(".heic", ".heif", ".jxl", ".psd", ".svg", ".xcf", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
    *(".raf", ".exr", ".hdr", ".ico", ".eps", ".dcm"),
}
"""Suffixes of images that are not read; those that Pillow does not know by their content have to be listed."""
_MOST = 3
"""Number of names in a sentence."""


@dataclass
class LeftOut:
    """What is left out of a folder of images, with paths as examples.

    Attributes:
        hidden: hidden files and folders, and those that systems leave behind.
        others: files that are no images.
        empty: folders in which no image is.
        loose: images beside the class folders.
        unused: folders that are neither training nor test set, with the number of their images.
    """

    hidden: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    loose: list[Path] = field(default_factory=list)
    unused: list[tuple[Path, int]] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return one sentence on all that is left out; none where nothing is."""
        parts = []
        if self.hidden:
            parts.append(f"hidden files or folders: {len(self.hidden)} ({some(p.name for p in self.hidden)})")
        if self.others:
            suffixes = Counter(p.suffix.lower() or "without suffix" for p in self.others)
            kinds = some(f"{n} {suffix}" for suffix, n in suffixes.most_common())
            parts.append(f"files that are no images: {len(self.others)} ({kinds})")
        if self.empty:
            parts.append(f"folders without images: {len(self.empty)} ({some(p.name for p in self.empty)})")
        if self.loose:
            parts.append(f"images in no class folder: {len(self.loose)} ({some(p.name for p in self.loose)})")
        parts += [f"images in the folder {path.name}: {count}" for path, count in self.unused]
        return [f"Left out: {'; '.join(parts)}."] if parts else []


def some(names: Iterable[object]) -> str:
    """Return the first few different names, separated by commas."""
    unique = list(dict.fromkeys(map(str, names)))
    return ", ".join(unique[:_MOST]) + (", …" if len(unique) > _MOST else "")


def split_folders(path: Path, left_out: LeftOut) -> tuple[Path, Path] | None:
    """Return the folders of the training and of the test set; None where the class folders lie in `path` itself.

    `train` (or training) is used with `test` (or testing), and where there is none with `val` (valid, validation), in any
    case of the letters. A validation set beside a test set is left out.

    Raises:
        InputError: two folders for one of the sets.
    """
    folders = [d for d in sorted(path.iterdir()) if d.is_dir() and not is_hidden(d)]
    train, test, validation = (
        [d for d in folders if d.name.lower() in names] for names in (_TRAIN, _TEST, _VALIDATION)
    )
    held_out = test or validation
    if not train or not held_out:
        return None
    for several in (train, held_out):
        if len(several) > 1:
            raise InputError(
                f"{path}: expected one training and one test set; got the folders {' and '.join(d.name for d in several)}. "
                "Move one of them out, or merge them."
            )
    unused = [d for d in folders if d not in (train[0], held_out[0])]
    left_out.unused += [(d, count) for d in unused if (count := sum(1 for _ in _images_below(d)))]
    left_out.empty += [d for d in unused if d not in dict(left_out.unused)]
    files = [f for f in sorted(path.iterdir()) if not f.is_dir() or is_hidden(f)]
    for file in files:
        _sort_in(file, left_out, left_out.loose)
    return train[0], held_out[0]


def images_by_class(path: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Return the image files of each class folder in `path`, in the order of their names.

    Raises:
        InputError: images in subfolders of the class folders, or images of a format that is not read.
    """
    classes: dict[str, list[Path]] = {}
    for entry in sorted(path.iterdir()):
        if is_hidden(entry) or not entry.is_dir():
            _sort_in(entry, left_out, left_out.loose)
            continue
        classes[entry.name] = []
        for file in sorted(entry.iterdir()):
            _sort_in(file, left_out, classes[entry.name])
            if file.is_dir() and not is_hidden(file):
                _refuse_images_below(path, file)
                left_out.empty.append(file)
        if not classes[entry.name]:
            del classes[entry.name]
            left_out.empty.append(entry)
    return classes


def has_images(path: Path) -> bool:
    """Return whether there are images in subfolders of a folder; also true where it cannot be read."""
    try:
        return any(f.parent != path for f in _images_below(path))
    except OSError:
        return True


def is_hidden(path: Path) -> bool:
    """Return whether a file or a folder is hidden, or one that a system leaves behind."""
    return path.name.startswith(".") or path.name in _OF_SYSTEMS


def _sort_in(file: Path, left_out: LeftOut, images: list[Path]) -> None:
    """Put a file where it belongs: among the images, or to what is left out; a folder that is not hidden is passed over."""
    if is_hidden(file):
        left_out.hidden.append(file)
    elif file.is_dir():
        return
    elif file.suffix.lower() in SUFFIXES:
        images.append(file)
    elif images is not left_out.loose and (file.suffix.lower() in _FOREIGN or is_picture(file)):
        raise InputError(
            f"{file}: expected images with the suffix .png, .jpg, .bmp, .tif, .webp, .gif or the like; got "
            f'"{file.suffix}". Convert or rename it, or move it out of the folder.'
        )
    else:
        left_out.others.append(file)


def _refuse_images_below(path: Path, folder: Path) -> None:
    """Raise InputError for images in a subfolder of a class folder: which of the two is the class is not clear."""
    example = next(_images_below(folder), None)
    if example is None:
        return
    folders = [d for d in sorted(path.iterdir()) if d.is_dir() and not is_hidden(d)]
    raise InputError(
        f"expected images directly in the class folders of {path} ({some(d.name for d in folders)}); got {example}. Move "
        "images up into the folders of their classes; or give the folder whose subfolders are the classes, such as "
        f"{folder.parent}. Training and test sets are folders called train and test (training and testing, val, valid, "
        "validation)."
    )


def _images_below(folder: Path) -> Iterator[Path]:
    """Yield the visible image files in a folder and below."""
    for entry in sorted(folder.iterdir()):
        if is_hidden(entry):
            continue
        if entry.is_dir():
            yield from _images_below(entry)
        elif entry.suffix.lower() in SUFFIXES:
            yield entry
