"""A data set: images and class indices, which are checked when they are put together."""

from __future__ import annotations

import hashlib
import operator
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ntklens.arguments import as_count
from ntklens.errors import InputError
from ntklens.texts import shortened


@dataclass(frozen=True)
class Split:
    """Images with their classes.

    Attributes:
        x: (n, C, H, W), float32, pixels in [0, 1].
        y: (n,), class indices.
        names: the files that the images come from, relative to the folder of the data set; None where they are in no
            files of their own.
    """

    x: Tensor
    y: Tensor
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y)):
            if not isinstance(value, Tensor):
                raise InputError(
                    f"expected {name} as a tensor; got {type(value).__name__}. Call torch.as_tensor first."
                )
        if self.x.ndim != 4 or self.x.dtype != torch.float32:
            raise InputError(
                f"expected float32 images (n, C, H, W); got {self.x.dtype} of shape {tuple(self.x.shape)}."
            )
        if self.y.dtype != torch.int64 or self.y.shape != (len(self.x),):
            raise InputError(
                f"expected y as {len(self.x)} class indices, one per image; got {self.y.dtype} of shape "
                f"{tuple(self.y.shape)}."
            )
        if self.names is not None and len(self.names) != len(self.x):
            raise InputError(f"expected {len(self.x)} names of files, one per image; got {len(self.names)}.")
        if len(self.x) and not bool(((self.x >= 0) & (self.x <= 1)).all()):
            raise InputError(_outside(self.x))

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Split({len(self)} images, {'x'.join(map(str, self.x.shape[1:]))})"

    def __getitem__(self, index: slice | Tensor) -> Split:
        names = self.names
        if names is not None:
            names = tuple(names[i] for i in torch.arange(len(names))[index].tolist())
        return Split(self.x[index], self.y[index], names)


@dataclass(frozen=True)
class Dataset:
    """Training and test images of one task.

    Attributes:
        train: images to fit on.
        test: images to score on.
        classes: names of the classes, in the order of their indices.
        name: name of the data set.
        licence: terms of the images.
        notes: sentences on what the reader has left out, converted or decided.
        chosen: for classes that were selected, their indices among all classes of the data set; None for all classes.
        chosen_from: the number of all classes then.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    name: str
    licence: str = "unknown"
    notes: tuple[str, ...] = ()
    chosen: tuple[int, ...] | None = None
    chosen_from: int | None = None

    def __post_init__(self) -> None:
        for name, part in (("train", self.train), ("test", self.test)):
            if not isinstance(part, Split):
                raise InputError(f"expected {name} as a Split(x, y); got {type(part).__name__}.")
        if not all(isinstance(name, str) for name in _listed(self.classes)):
            raise InputError(f"expected classes as the names of the classes; got {self.classes!r}.")
        if len(set(self.classes)) < len(self.classes):
            raise InputError(f"expected classes of different names; got {', '.join(self.classes)}.")
        if self.train.x.shape[1:] != self.test.x.shape[1:]:
            shapes = f"{tuple(self.train.x.shape[1:])} and {tuple(self.test.x.shape[1:])}"
            raise InputError(f"expected training and test images of one shape; got {shapes}.")
        for split in (self.train, self.test):
            if len(split) and not (int(split.y.min()) >= 0 and int(split.y.max()) < len(self.classes)):
                raise InputError(
                    f"expected class indices from 0 to {len(self.classes) - 1}, one per class name; got indices from "
                    f"{int(split.y.min())} to {int(split.y.max())}."
                )

    def __repr__(self) -> str:
        classes = shortened(", ".join(self.classes), 26)
        size = "x".join(map(str, self.shape))
        images = f"{len(self.train)} + {len(self.test)} images {size}"
        return f"Dataset({shortened(self.name, 22)!r}, {images}, {len(self.classes)} classes: {classes})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image."""
        channels, height, width = self.train.x.shape[1:]
        return (channels, height, width)

    def select(self, classes: Sequence[int | str]) -> Dataset:
        """Return the images of some classes alone, with indices in the order in which the classes are given.

        Args:
            classes: names, or indices; at least two. A text is a name where there is such a class, otherwise an index in
                digits. Where a number is the name of one class and the index of another, a note says which one is taken,
                and for a number that is no text a warning too.

        Raises:
            InputError: an unknown class, the same class twice, or fewer than two.
        """
        if isinstance(classes, str):
            raise InputError(f"expected a list of classes; got the text {classes!r}. Give [{classes!r}, ...].")
        classes = _listed(classes)
        chosen = [self._class_index(c) for c in classes]
        if len(chosen) < 2 or len(set(chosen)) != len(chosen):
            raise InputError(f"expected two or more different classes; got {list(classes)}.")
        notes = []
        for label, index in zip(classes, chosen, strict=True):
            if note := self._other_reading(label, index):
                notes.append(note)
                if not isinstance(label, str):
                    warnings.warn(note, stacklevel=2)

        def keep(split: Split) -> Split:
            # new index of each class, -1 for the classes that are left out
            new_index = torch.full((len(self.classes),), -1)
            new_index[torch.tensor(chosen)] = torch.arange(len(chosen))
            y = new_index[split.y]
            return replace(split[y >= 0], y=y[y >= 0])

        return replace(
            self,
            train=keep(self.train),
            test=keep(self.test),
            classes=tuple(self.classes[c] for c in chosen),
            notes=(*self.notes, *notes),
            chosen=tuple(c if self.chosen is None else self.chosen[c] for c in chosen),
            chosen_from=self.chosen_from or len(self.classes),
        )

    def first(self, train: int | None = None, test: int | None = None) -> Dataset:
        """Return the first images of each split, in the order of the file; all of them for None.

        Raises:
            InputError: a number below 1, or more than there are.
        """
        for name, count, split in (("train", train, self.train), ("test", test, self.test)):
            if count is not None and as_count(count, name) > len(split):
                raise InputError(f"expected {name} from 1 to {len(split)}, the number of images; got {count}.")
        return replace(self, train=self.train[:train], test=self.test[:test])

    def fingerprint(self) -> str:
        """Return the SHA-256 of shapes, pixels and classes, which is one and the same for equal images on every machine."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(repr(tuple(split.x.shape)).encode())
            digest.update(split.x.contiguous().numpy().tobytes())
            digest.update(split.y.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def absent(self) -> list[str]:
        """Return sentences on the classes that have no training image, and on those that have no test image."""
        sentences = []
        for name, split in (("training", self.train), ("test", self.test)):
            present = set(split.y.tolist())
            if missing := [c for i, c in enumerate(self.classes) if i not in present]:
                sentences.append(f"Classes without a {name} image: {', '.join(missing)}.")
        return sentences

    def _class_index(self, label: int | str) -> int:
        """Return the index of a class from its name or its index; a name that is a number comes before the index."""
        if isinstance(label, str) and label in self.classes:
            return self.classes.index(label)
        try:
            index = int(label) if isinstance(label, str) and label.isdecimal() else operator.index(label)  # type: ignore[arg-type]
        except TypeError:
            index = -1
        if 0 <= index < len(self.classes) and not isinstance(label, bool):
            return index
        names = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
        asked = label if str(label).isdecimal() else repr(label)
        raise InputError(f"{self.name} has no class {asked}; it has {names}.")

    def _other_reading(self, label: int | str, index: int) -> str:
        """Return a sentence where a number is the name of one class and the index of another; otherwise nothing."""
        digits = str(label)
        if not digits.isdecimal():
            return ""
        if isinstance(label, str) and digits == self.classes[index]:
            place = int(digits)
            if place == index or place >= len(self.classes):
                return ""
            other = self.classes[place]
            return f'Class {digits} is the one called "{digits}", not the one with the index {place} ("{other}").'
        if digits == self.classes[index] or digits not in self.classes:
            return ""
        return (
            f'Class {digits} is the one with the index {digits} ("{self.classes[index]}"), not the one called "{digits}", '
            f'which is "{digits}" as a text.'
        )


def _listed(classes: Any) -> list[Any]:
    """Return the entries of a list of classes.

    Raises:
        InputError: no list.
    """
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
        raise InputError(f"expected classes as a list of names or indices; got {classes!r}.")
    return list(classes)


def _outside(x: Tensor) -> str:
    """Return the sentence on pixels that are not in [0, 1]."""
    finite = torch.isfinite(x).flatten(1).all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        return f"expected pixels in [0, 1]; got NaN or infinity in {int((~finite).sum())} images, the first at {first}."
    low, high = float(x.min()), float(x.max())
    way = "Rescale the images"
    if low >= 0 and 1.5 < high <= 255:
        way = "Divide the images by 255 if they run from 0 to 255"
    elif -1 <= low < 0 and high <= 1:
        way = "Take (x + 1) / 2 if they run from -1 to 1"
    return f"expected pixels in [0, 1]; got pixels from {low:g} to {high:g}. {way}."
