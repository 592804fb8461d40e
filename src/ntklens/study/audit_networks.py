"""Finite networks beside an audit: trained on each of its sets of images, and scored on its tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ntklens.audits import difference_over_seeds, share_over_seeds, trained_predictions
from ntklens.networks import network_source
from ntklens.progress import Progress
from ntklens.study.context import Context
from ntklens.study.networks import initial_network

Training = tuple[dict[str, Any], Tensor, Tensor]
"""Columns of a row, images, and their classes."""
Test = tuple[str, Tensor, Tensor]
"""A column, images, and the classes that count as right."""

_BATCH_SIZE = 64
_DENSE_WIDTH, _WIDTH = 512, 64
"""Widths of the networks that are trained, dense ones and others, where none is given."""


class Networks:
    """Networks by name, which are known to fit the images.

    Args:
        context: the experiment.
        names: of the networks.
        width: hidden units or channels of architectures; 512 in dense ones and 64 in others by default.
        seeds: trainings of each.
        epochs: of each training.

    Raises:
        InputError: a network does not load, or does not fit the images.
    """

    def __init__(self, context: Context, names: Sequence[str], width: int | None, seeds: int, epochs: int) -> None:
        self._context, self._width, self._seeds, self._epochs = context, width, seeds, epochs
        self._builders = [(network_source(name).label, self._builder(name)) for name in names]

    def _builder(self, name: str) -> Callable[[int], nn.Module]:
        """Return what makes a network from a seed, once it is known to fit the images."""
        source = network_source(name)
        dense = source.kind == "architecture" and source.text.startswith("fc")
        width = self._width or (_DENSE_WIDTH if dense else _WIDTH)
        initial_network(self._context, source, 0, width=1)
        return lambda seed: initial_network(self._context, source, seed, width=width)

    def rows(
        self,
        trainings: Sequence[Training],
        tests: Sequence[Test],
        difference: tuple[int, int, str] | None,
        progress: Progress,
    ) -> list[dict[str, Any]]:
        """Train the networks on each set of images, and return a line for each.

        Args:
            trainings: of each network.
            tests: of each training.
            difference: two trainings, and the column of the first one's share in the first test minus the second one's.
            progress: receives the share done.
        """
        rows: list[dict[str, Any]] = []
        total = len(self._builders) * len(trainings)
        for label, build in self._builders:
            outcomes: list[list[Tensor]] = []
            for columns, x, y in trainings:
                predicted = trained_predictions(
                    build,
                    x,
                    y,
                    [images for _, images, _ in tests],
                    seeds=self._seeds,
                    seed=self._context.spec.seed,
                    epochs=self._epochs,
                    batch_size=_BATCH_SIZE,
                    progress=progress.part(len(rows) / total, 1 / total),
                )
                right = [p == classes for p, (_, _, classes) in zip(predicted, tests, strict=True)]
                outcomes.append(right)
                scores = {
                    key: value
                    for (column, _, _), r in zip(tests, right, strict=True)
                    for key, value in share_over_seeds(r).row(column).items()
                }
                rows.append({"network": label, **columns, **scores})
            if difference is not None:
                one, other, column = difference
                rows[-1] |= difference_over_seeds(outcomes[one][0], outcomes[other][0]).row(column)
        return rows
