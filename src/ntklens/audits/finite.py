"""Finite networks beside an audit: what the same training images do to networks that the kernel has not seen.

An audit is of a kernel machine, the mean of infinitely wide networks. Whether it holds for networks of the width and the
kind that are in use is measured by training some, with several seeds, on the images of the audit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ntklens.arguments import as_count
from ntklens.errors import InputError
from ntklens.networks import train
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, crossed_mean, paired_difference, proportion

_BATCH = 1000
"""Images that are predicted together."""


def trained_predictions(
    build: Callable[[int], nn.Module],
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    tests: Sequence[Tensor],
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 0.05,
    progress: Report | None = None,
) -> list[Tensor]:
    """Train a network with several seeds, and return the classes that it predicts on each batch of test images: (seeds, m).

    The networks minimise the cross-entropy by stochastic gradient descent with momentum 0.9 (`ntklens.networks.train`). The
    same seeds give the same initial weights and, for as many images, the same order of batches: two trainings on other
    images with the same seeds are pairs.

    Args:
        build: makes the network with the initial weights of a seed, one logit per class.
        x: training images.
        y: their classes.
        tests: batches of test images, each (m, *shape).
        seeds: number of trainings.
        seed: the first of the seeds.
        epochs: passes over the training images.
        batch_size: images of a step.
        learning_rate: of the descent.
        progress: called with the share of the trainings that is done.

    Raises:
        InputError: arguments that do not fit.
        NumericalFailure: a training has diverged.
    """
    seeds, seed, epochs = as_count(seeds, "seeds"), as_count(seed, "seed", least=0), as_count(epochs, "epochs")
    batch_size, report = as_count(batch_size, "batch_size"), Progress(progress)
    predicted: list[list[Tensor]] = [[] for _ in tests]
    for done in range(seeds):
        part = report.part(done / seeds, 1 / seeds)
        network = train(
            build(seed + done),
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            generator=torch.Generator().manual_seed(seed + done),
            on_epoch=lambda epoch, *_, part=part: part.step(epoch, epochs),
        )
        with torch.no_grad():
            for images, of_seeds in zip(tests, predicted, strict=True):
                of_seeds.append(torch.cat([network(batch).argmax(1).cpu() for batch in torch.split(images, _BATCH)]))
    return [torch.stack(of_seeds) for of_seeds in predicted]


def share_over_seeds(right: Bool[Tensor, "seeds m"]) -> Estimate:
    """Return the share that is true, with an interval over both seeds and images (`statistics.crossed_mean`).

    Where all networks agree on every image and all are right, or all wrong, the interval is Wilson's over the images.
    """
    _check(right)
    if bool(right.all()) or not bool(right.any()):
        return proportion(int(right[0].sum()), right.shape[1])
    found, _ = crossed_mean(right.double().numpy())
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0), found.n)


def difference_over_seeds(one: Bool[Tensor, "seeds m"], other: Bool[Tensor, "seeds m"]) -> Estimate:
    """Return the share that is true in one minus that in the other, of the same seeds and images, with its interval.

    Where it is the same for all seeds and images, the interval is Newcombe's over the images.
    """
    _check(one)
    if one.shape != other.shape:
        raise InputError(
            f"expected outcomes of the same seeds and images; got {tuple(one.shape)}, {tuple(other.shape)}."
        )
    difference = np.subtract(one.double().numpy(), other.double().numpy())
    if (difference == difference[0, 0]).all():
        return paired_difference(one[0].numpy(), other[0].numpy())
    found, _ = crossed_mean(difference)
    return Estimate(found.value, max(found.low, -1.0), min(found.high, 1.0), found.n)


def _check(right: Tensor) -> None:
    if right.ndim != 2 or not right.numel():
        raise InputError(f"expected outcomes of shape (seeds, images), one or more; got {tuple(right.shape)}.")
