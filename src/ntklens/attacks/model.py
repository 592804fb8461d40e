"""What every attack sees of a model: a callable from images to logits, asked in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ntklens.arguments import as_count
from ntklens.modules import guarded

BATCH = 512
"""Images shown to a model at a time when it is scored."""

Model = Callable[[Tensor], Tensor]
"""Images (n, ...) -> logits (n, classes)."""


def batches(n: int, batch_size: int | None) -> Iterator[slice]:
    """Yield slices that cover n images; one empty slice when there are none.

    Args:
        n: number of images.
        batch_size: images in a slice; all of them without one.

    Raises:
        InputError: a batch size that is no whole number of 1 or more.
    """
    size = max(n, 1) if batch_size is None else as_count(batch_size, "batch_size")
    for start in range(0, max(n, 1), size):
        yield slice(start, start + size)


def logits_of(model: Model, x: Tensor, batch_size: int | None = BATCH) -> Tensor:
    """Compute the logits of all images without gradients, a batch at a time: (n, classes)."""
    with guarded(model, x) as (model, x), torch.no_grad():
        return torch.cat([model(x[batch]) for batch in batches(len(x), batch_size)])
