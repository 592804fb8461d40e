"""The patch: where it lies, and what it refuses."""

import pytest
import torch

from ntklens.audits import Patch
from ntklens.errors import InputError

X = torch.linspace(0, 0.9, 2 * 3 * 5 * 4).reshape(2, 3, 5, 4)
PLACES = {
    "top-left": (slice(0, 2), slice(0, 2)),
    "top-right": (slice(0, 2), slice(2, 4)),
    "bottom-left": (slice(3, 5), slice(0, 2)),
    "bottom-right": (slice(3, 5), slice(2, 4)),
}


@pytest.mark.parametrize("corner", PLACES)
def test_it_lies_in_its_corner_and_leaves_the_rest(corner):
    before = X.clone()
    found = Patch(2, 0.5, corner)(X)
    rows, columns = PLACES[corner]
    assert (found[..., rows, columns] == 0.5).all()
    assert int((found != X).sum()) == 2 * 3 * 4
    assert torch.equal(X, before)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "images", "message"),
    [
        ({"size": 0}, X, "size of the patch as a whole number"),
        ({"size": 5}, X, "at most 4 pixels"),
        ({"brightness": 1.5}, X, "brightness from 0 to 1"),
        ({"corner": "middle"}, X, "top-left, top-right"),
        ({}, X[:, 0, 0], "images .*which have corners"),
        ({"brightness": 0.0}, torch.zeros(3, 1, 6, 6), "changes no image"),
    ],
)
def test_what_does_not_fit_is_refused(options, images, message):
    with pytest.raises(InputError, match=message):
        Patch(**options)(images)
