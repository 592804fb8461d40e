"""A data set: images and class indices, checked once at the door."""

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
            raise InputError(f"float32 images (n, C, H, W) were expected; {self.x.dtype} {tuple(self.x.shape)} came.")
        if self.y.dtype != torch.int64 or self.y.shape != (len(self.x),):
            raise InputError(
                f"{len(self.x)} class indices, one an image, were expected; {self.y.dtype} {tuple(self.y.shape)} came."
            )
        if len(self.x) and not bool(((self.x >= 0) & (self.x <= 1)).all()):
            low, high = float(self.x.min()), float(self.x.max())
            raise InputError(
                f"pixels in [0, 1] were expected; they range from {low:g} to {high:g}: rescale the images."
            )

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
        classes: the classes' names, in the order of their indices.
        name: what it is called.
        licence: the terms of the images.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    name: str
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if self.train.x.shape[1:] != self.test.x.shape[1:]:
            shapes = f"{tuple(self.train.x.shape[1:])} and {tuple(self.test.x.shape[1:])}"
            raise InputError(f"training and test images of one shape were expected; {shapes} came.")
        for split in (self.train, self.test):
            if len(split) and not (int(split.y.min()) >= 0 and int(split.y.max()) < len(self.classes)):
                raise InputError(
                    f"class indices from 0 to {len(self.classes) - 1}, one a class name, were expected; they range from "
                    f"{int(split.y.min())} to {int(split.y.max())}."
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.train.x.shape[1:]
        return (c, h, w)

    def select(self, classes: Sequence[int | str]) -> Dataset:
        """The images of these classes alone, numbered anew in the order given.

        Args:
            classes: indices or names; two at least.

        Raises:
            InputError: a class that is not there, or fewer than two.
        """
        chosen = [self._class_index(c) for c in classes]
        if len(chosen) < 2 or len(set(chosen)) != len(chosen):
            raise InputError(f"two or more different classes were expected; {list(classes)} came.")

        def keep(split: Split) -> Split:
            new = torch.full((len(self.classes),), -1)
            new[torch.tensor(chosen)] = torch.arange(len(chosen))
            y = new[split.y]
            return Split(split.x[y >= 0], y[y >= 0])

        names = tuple(self.classes[c] for c in chosen)
        return replace(self, train=keep(self.train), test=keep(self.test), classes=names)

    def first(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first images of each split, in file order."""
        for name, wanted, split in (("train", train, self.train), ("test", test, self.test)):
            if wanted is not None and not 1 <= wanted <= len(split):
                raise InputError(f"{name} must be from 1 to {len(split)}, the images there are; {wanted} came.")
        return replace(self, train=self.train[:train], test=self.test[:test])

    def fingerprint(self) -> str:
        """SHA-256 over shapes, pixels and classes: the same images give the same letters on every machine."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(repr(tuple(split.x.shape)).encode())
            digest.update(split.x.contiguous().numpy().tobytes())
            digest.update(split.y.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _class_index(self, c: int | str) -> int:
        if isinstance(c, str) and c in self.classes:
            return self.classes.index(c)
        if isinstance(c, str) and c.isdigit():
            c = int(c)
        if isinstance(c, int) and 0 <= c < len(self.classes):
            return c
        names = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
        raise InputError(f"{self.name} has no class {c!r}; it has {names}.")
