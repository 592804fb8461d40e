"""A data set: images and class indices, which are checked when they are put together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ntklens.errors import InputError


@dataclass(frozen=True)
class Split:
    """Images with their classes.

    Attributes:
        x: (n, C, H, W), float32, pixels in [0, 1].
        y: (n,), class indices.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.x.ndim != 4 or self.x.dtype != torch.float32:
            raise InputError(
                f"expected float32 images (n, C, H, W); got {self.x.dtype} of shape {tuple(self.x.shape)}."
            )
        if self.y.dtype != torch.int64 or self.y.shape != (len(self.x),):
            raise InputError(
                f"expected {len(self.x)} class indices, one per image; got {self.y.dtype} of shape {tuple(self.y.shape)}."
            )
        if len(self.x) and not bool(((self.x >= 0) & (self.x <= 1)).all()):
            low, high = float(self.x.min()), float(self.x.max())
            raise InputError(f"expected pixels in [0, 1]; got pixels from {low:g} to {high:g}. Rescale the images.")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Tensor) -> Split:
        return Split(self.x[index], self.y[index])


@dataclass(frozen=True)
class Dataset:
    """Training and test images of one task.

    Attributes:
        train: images to fit on.
        test: images to score on.
        classes: names of the classes, in the order of their indices.
        name: name of the data set.
        licence: terms of the images.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    name: str
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if self.train.x.shape[1:] != self.test.x.shape[1:]:
            shapes = f"{tuple(self.train.x.shape[1:])} and {tuple(self.test.x.shape[1:])}"
            raise InputError(f"expected training and test images of one shape; got {shapes}.")
        for split in (self.train, self.test):
            if len(split) and not (int(split.y.min()) >= 0 and int(split.y.max()) < len(self.classes)):
                raise InputError(
                    f"expected class indices from 0 to {len(self.classes) - 1}, one per class name; got indices from "
                    f"{int(split.y.min())} to {int(split.y.max())}."
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image."""
        channels, height, width = self.train.x.shape[1:]
        return (channels, height, width)

    def select(self, classes: Sequence[int | str]) -> Dataset:
        """Return the images of some classes alone, with indices in the order in which the classes are given.

        Args:
            classes: indices or names; at least two.

        Raises:
            InputError: an unknown class, the same class twice, or fewer than two.
        """
        chosen = [self._class_index(c) for c in classes]
        if len(chosen) < 2 or len(set(chosen)) != len(chosen):
            raise InputError(f"expected two or more different classes; got {list(classes)}.")

        def keep(split: Split) -> Split:
            # new index of each class, -1 for the classes that are left out
            new_index = torch.full((len(self.classes),), -1)
            new_index[torch.tensor(chosen)] = torch.arange(len(chosen))
            y = new_index[split.y]
            return Split(split.x[y >= 0], y[y >= 0])

        names = tuple(self.classes[c] for c in chosen)
        return replace(self, train=keep(self.train), test=keep(self.test), classes=names)

    def first(self, train: int | None = None, test: int | None = None) -> Dataset:
        """Return the first images of each split, in the order of the file; all of them for None.

        Raises:
            InputError: a number below 1, or more than there are.
        """
        for name, count, split in (("train", train, self.train), ("test", test, self.test)):
            if count is not None and not 1 <= count <= len(split):
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

    def _class_index(self, label: int | str) -> int:
        """Return the index of a class from its name or its index; a name that is a number comes before the index."""
        if isinstance(label, str) and label in self.classes:
            return self.classes.index(label)
        if isinstance(label, str) and label.isdigit():
            label = int(label)
        if isinstance(label, int) and 0 <= label < len(self.classes):
            return label
        names = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
        raise InputError(f"{self.name} has no class {label!r}; it has {names}.")
