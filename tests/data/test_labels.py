"""Labels in the forms of other people's files."""

import numpy as np
import pytest

from ntklens.data.labels import check_every_index, labels, named_labels
from ntklens.errors import InputError

Y = np.array([0, 1, 2, 1])
NUMBERED = ("0", "1", "2")
ANIMALS = ("bird", "cat", "dog")
FORMS = {
    "indices": (Y, None, NUMBERED),
    "bytes": (Y.astype(np.uint8), None, NUMBERED),
    "a column": (Y[:, None], None, NUMBERED),
    "whole floats": (Y.astype(np.float32), None, NUMBERED),
    "a column of floats": (Y[:, None].astype(float), None, NUMBERED),
    "one-hot": (np.eye(3)[Y], None, NUMBERED),
    "one-hot truth values": (np.eye(3)[Y] > 0, None, NUMBERED),
    "one-hot with an empty class": (np.eye(5)[Y], None, (*NUMBERED, "3", "4")),
    "texts": (np.array(ANIMALS)[Y], None, ANIMALS),
    "texts as bytes": (np.array([b"bird", b"cat", b"dog"])[Y], None, ANIMALS),
    "a column of texts": (np.array(ANIMALS)[Y][:, None], None, ANIMALS),
    "indices with names": (Y, np.array(ANIMALS), ANIMALS),
    "indices with names as bytes": (Y, np.array([b"bird", b"caf\xc3\xa9", b"dog"]), ("bird", "café", "dog")),
    "indices with numbers as names": (Y, np.array([3, 5, 8]), ("3", "5", "8")),
    "indices with more names": (Y, np.array([*ANIMALS, "eel"]), (*ANIMALS, "eel")),
}


@pytest.mark.parametrize(("y", "names", "classes"), FORMS.values(), ids=FORMS)
def test_forms_of_labels(y, names, classes):
    train, test, got = named_labels(y, y[::-1], names, "mine.npz")
    assert train.tolist() == Y.tolist()
    assert test.tolist() == Y[::-1].tolist()
    assert got == classes


def test_texts_take_the_order_of_the_names():
    y = np.array(["dog", "cat"])
    assert named_labels(y, y, np.array(["dog", "cat"]), "mine.npz")[0].tolist() == [0, 1]


def test_truth_values_are_two_classes():
    assert labels(np.array([True, False]), "y").tolist() == [1, 0]


REFUSED = {
    "start at 1": (Y + 1, None, r"from 1 to 3 and no image of class 0\. Subtract 1 from all labels"),
    "gaps": (Y * 2, None, r"from 0 to 4 and no image of class 1\. Number the classes without gaps"),
    "gaps after 1": (Y * 2 + 1, None, r"from 1 to 5 and no image of class 0\. Number"),
    "-1 and 1": (Y[:2] * 2 - 1, None, "class indices from 0 on; got -1"),
    "fractions": (Y / 2, None, r"whole numbers; got 0\.5"),
    "NaN": (np.array([0, np.nan]), None, "whole numbers; got nan"),
    "scores": (np.full((4, 3), 1 / 3), None, r"whole numbers; got 0\.333"),
    "several ones a row": (np.ones((4, 3)), None, "not one-hot"),
    "three axes": (np.zeros((4, 1, 1), int), None, r"expected class indices .*got int64 of shape \(4, 1, 1\)"),
    "complex numbers": (Y * 1j, None, "got complex128"),
    "1 to 3 with three names": (Y + 1, np.array(ANIMALS), r"from 0 to 2, one per class name; .*1 to 3\. Subtract 1"),
    "an unknown name": (np.array(["eel"]), np.array(ANIMALS), "labels out of bird, cat, dog; got 'eel'"),
    "a name twice": (Y, np.array(["cat", "dog", "cat"]), "each name of a class once; got 'cat'"),
    "names in two axes": (Y, np.array([ANIMALS]), r"names of classes \(K,\)"),
    "names in Latin-1": (Y, np.array([b"caf\xe9", b"b", b"c"]), "UTF-8"),
}


@pytest.mark.parametrize(("y", "names", "message"), REFUSED.values(), ids=REFUSED)
def test_labels_that_can_be_read_in_several_ways_are_refused(y, names, message):
    with pytest.raises(InputError, match=message):
        named_labels(y, y, names, "mine.npz")


def test_texts_and_numbers_do_not_mix():
    with pytest.raises(InputError, match="y_train and y_test of one form; got <U4 and int64"):
        named_labels(np.array(ANIMALS)[Y], Y, None, "mine.npz")


def test_every_index_occurs_in_one_of_the_parts():
    assert check_every_index(labels(np.array([0, 2]), "y"), labels(np.array([1]), "y"), "here") == 3
    with pytest.raises(InputError, match="no image of class 1"):
        check_every_index(labels(np.array([0, 2]), "y"), labels(np.array([2]), "y"), "here")
