"""The classes of images in the forms in which files hold them, as indices from 0 on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.errors import InputError

Array = NDArray[Any]


def labels(array: Array, where: str) -> torch.Tensor:
    """Return class indices (n,) from integers, whole floats, truth values, or rows with a single one.

    Args:
        array: (n,) or (n, 1) with indices, or (n, K) one-hot, K > 1.
        where: where the array comes from, for error messages.

    Raises:
        InputError: another dtype, another shape, fractions, or negative numbers.
    """
    expected = "expected class indices (n,), a column of them, or one-hot rows (n, K)"
    if array.dtype.kind not in "iufb" or array.ndim not in (1, 2):
        raise InputError(f"{where}: {expected}; got {array.dtype} of shape {array.shape}.")
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        example = array[array != np.round(array)].flat[0]
        raise InputError(f"{where}: expected class indices, which are whole numbers; got {example:g}.")
    if array.ndim == 2 and array.shape[1] != 1:
        is_one_hot = bool(np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all())
        if not is_one_hot:
            raise InputError(f"{where}: {expected}; got {array.dtype} of shape {array.shape} that is not one-hot.")
        array = array.argmax(1)
    indices = array.reshape(-1).astype(np.int64)
    if len(indices) and indices.min() < 0:
        raise InputError(f"{where}: expected class indices from 0 on; got {indices.min()}. Number the classes from 0.")
    return torch.from_numpy(indices)


def named_labels(
    train: Array, test: Array, names: Array | None, where: str
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Return the class indices of both parts, and the names of the classes.

    Labels that are texts are numbered in the order of `names`, or in alphabetical order without it. Labels that are numbers
    are indices; without names every index from 0 to the largest has to occur, because labels that start at 1, or that have
    gaps, would be numbered otherwise than the outputs of a network that was trained on them.

    Args:
        train: labels of the training images, in any form of `labels`, or texts (n,).
        test: labels of the test images.
        names: the names of the classes (K,), as texts, bytes or numbers; None for none.
        where: the file.

    Raises:
        InputError: forms that do not fit, names that occur twice, labels without a name, or indices that do not occur.
    """
    classes = None if names is None else class_names(names, where)
    texts = [_texts(array) for array in (train, test)]
    if (texts[0] is None) != (texts[1] is None):
        raise InputError(f"{where}: expected y_train and y_test of one form; got {train.dtype} and {test.dtype}.")
    if texts[0] is not None and texts[1] is not None:
        classes = classes or tuple(sorted({*texts[0], *texts[1]}))
        if unknown := sorted({*texts[0], *texts[1]} - set(classes)):
            raise InputError(f"{where}: expected labels out of {', '.join(classes)}; got {unknown[0]!r}.")
        index = {name: i for i, name in enumerate(classes)}
        y_train, y_test = (torch.tensor([index[text] for text in of], dtype=torch.int64) for of in texts if of)
        return y_train, y_test, classes
    y_train, y_test = labels(train, f"{where}, y_train"), labels(test, f"{where}, y_test")
    occurring = torch.from_numpy(np.unique(torch.cat([y_train, y_test]).numpy()))
    # One-hot rows have a column for each class, also for one that does not occur.
    columns = max(a.shape[1] if a.ndim == 2 and a.shape[1] > 1 else 0 for a in (train, test))
    if classes is None:
        count = max(columns, int(occurring.max()) + 1)
        if not columns and len(occurring) < count:
            raise InputError(_with_gaps(occurring, where))
        classes = tuple(map(str, range(count)))
    elif int(occurring.max()) >= len(classes):
        first_is_1 = int(occurring.min()) == 1 and int(occurring.max()) == len(classes)
        raise InputError(
            f"{where}: expected class indices from 0 to {len(classes) - 1}, one per class name; got indices from "
            f"{int(occurring.min())} to {int(occurring.max())}."
            + (" Subtract 1 from y_train and y_test." if first_is_1 else "")
        )
    return y_train, y_test, classes


def check_every_index(y_train: torch.Tensor, y_test: torch.Tensor, where: str) -> int:
    """Return the number of classes where every index from 0 on occurs.

    Raises:
        InputError: an index that does not occur.
    """
    occurring = torch.from_numpy(np.unique(torch.cat([y_train, y_test]).numpy()))
    if len(occurring) <= int(occurring.max()):
        raise InputError(_with_gaps(occurring, where))
    return len(occurring)


def class_names(array: Array, where: str) -> tuple[str, ...]:
    """Return the names of the classes from texts, bytes in UTF-8, or numbers.

    Raises:
        InputError: not one axis, bytes in another encoding, or a name that occurs twice.
    """
    if array.ndim != 1 or array.dtype.kind not in "USiuf":
        raise InputError(f"{where}: expected names of classes (K,); got {array.dtype} of shape {array.shape}.")
    names = tuple(_texts(array) or map(str, array.tolist()))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{where}: expected each name of a class once; got {twice[0]!r} several times.")
    return names


def _texts(array: Array) -> list[str] | None:
    """Return texts (n,) or (n, 1) from an array of texts or bytes; None for other arrays.

    Raises:
        InputError: bytes that are not UTF-8.
    """
    if array.dtype.kind not in "US" or array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        return None
    try:
        return [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InputError(
            f"expected names of classes in UTF-8; got other bytes ({error}). Give them as texts."
        ) from error


def _with_gaps(occurring: torch.Tensor, where: str) -> str:
    """Return the sentence on indices that do not occur."""
    missing = next(i for i in range(int(occurring.max())) if i not in set(occurring.tolist()))
    start = int(occurring.min())
    way = (
        f"Subtract {start} from all labels"
        if start > 0 and len(occurring) == int(occurring.max()) - start + 1
        else "Number the classes without gaps, such as by numpy.unique(y, return_inverse=True)"
    )
    return (
        f"{where}: expected every class index from 0 to {int(occurring.max())}; got labels from {start} to "
        f"{int(occurring.max())} and no image of class {missing}. {way}; or, where the gap is meant, name all "
        f"{int(occurring.max()) + 1} classes in an array `classes` of an .npz file."
    )
