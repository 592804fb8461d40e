"""Early stopping: which images are still under attack, and where the others ended."""

from __future__ import annotations

import torch
from torch import Tensor


class Active:
    """The images still under attack, beside those that are finished.

    The attack works on `x`, `y` and `x_adv`, which hold active images only, so that the model is not asked about the
    others. As long as nothing is retired they are the tensors given.

    Args:
        x: (n, ...) the clean images.
        y: (n,) their classes, or the targets.
        x_adv: (n, ...) where the attack begins.

    Attributes:
        rows: indices of the active images among all; None while all are active.
    """

    def __init__(self, x: Tensor, y: Tensor, x_adv: Tensor) -> None:
        self.x, self.y, self.x_adv = x, y, x_adv
        self.rows: Tensor | None = None
        self._finished: Tensor | None = None

    def __len__(self) -> int:
        """Number of active images."""
        return len(self.x_adv)

    def retire(self, finished: Tensor) -> Tensor | slice:
        """Put aside the images that are finished, (active,) bool, as they are now.

        Returns:
            Indices of the survivors among the images that were active, for whatever else holds one row per image.
        """
        if not bool(finished.any()):
            return slice(None)
        survivors = torch.nonzero(~finished).flatten()
        # A copy, because the first x_adv is the caller's tensor.
        self._finished = self.x_adv.clone() if self._finished is None else self.restore()
        self.rows = survivors if self.rows is None else self.rows[survivors]
        self.x, self.y, self.x_adv = self.x[survivors], self.y[survivors], self.x_adv[survivors]
        return survivors

    def restore(self) -> Tensor:
        """Return the attacked images of all, active and finished, in their first order: (n, ...)."""
        if self.rows is None or self._finished is None:
            return self.x_adv
        self._finished[self.rows] = self.x_adv
        return self._finished
