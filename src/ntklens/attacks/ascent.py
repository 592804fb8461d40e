"""The loop of the gradient attacks: gradient, step, projection; and the worst of several runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.attacks.active import Active
from ntklens.attacks.balls import per_sample
from ntklens.attacks.model import Model, batches
from ntklens.attacks.objective import Objective
from ntklens.attacks.threat import Threat
from ntklens.attacks.transforms import InputDiversity, Momentum, translated
from ntklens.progress import Progress


@dataclass(frozen=True)
class AscentOptions:
    """How an attack follows the gradient, and from where.

    Attributes:
        objective: what is ascended.
        restarts: number of runs from different starts; each image keeps its strongest result.
        random_start: start from a uniform draw in the ball, not at the image.
        momentum: factor of the earlier gradients (MI); 0 for none.
        diversity: probability that an image is shrunk and moved before a gradient is taken (DI); 0 for none.
        translation: side of the window that smooths the gradient (TI); 0 for none.
        early_stop: stop attacking an image as soon as the objective is reached.
        batch_size: images at a time; None for all at once.
    """

    objective: Objective
    restarts: int = 1
    random_start: bool = False
    momentum: float = 0.0
    diversity: float = 0.0
    translation: int = 0
    early_stop: bool = False
    batch_size: int | None = None


def climb(
    model: Model,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    threat: Threat,
    options: AscentOptions,
    diversity: InputDiversity | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Ascend the objective within the ball: x_adv ← project(x_adv + α · direction of ∇) (Madry et al. 2018, section 2.1).

    Args:
        model: images to logits.
        x: (n, ...) the clean images.
        y: (n,) their classes, or the targets.
        start: (n, ...) where to begin.
        threat: the ball, and the number and length of steps.
        options: objective, momentum, translation and early stop; the others are not read here.
        diversity: views of which the gradients are taken; without them the gradients are taken at the images.
        progress: receives the share of the steps that is done.

    Returns:
        The last iterates; with early stop, for each image the first iterate that reaches the objective.
    """
    active = Active(x, y, start)
    momentum = Momentum(options.momentum, torch.zeros_like(x))
    for step in range(threat.steps):
        view = model if diversity is None else diversity.view(model, step, active.rows)
        gradient, reached = options.objective.gradient(view, active.x_adv, active.y)
        gradient = translated(gradient, options.translation)
        if options.early_stop:
            if diversity is not None:  # success counts on the image itself, not on its view
                _, reached = options.objective.scores(model, active.x_adv, active.y)
            survivors = active.retire(reached)
            gradient, momentum = gradient[survivors], momentum[survivors]
            if not len(active):
                break
        direction = threat.ascend(momentum(gradient))
        active.x_adv = threat.project(active.x_adv + threat.step_length * direction, active.x)
        if progress is not None:
            progress.step(step + 1, threat.steps)
    return active.restore()


def worst_run(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    options: AscentOptions,
    generator: torch.Generator | None,
    progress: Progress | None = None,
) -> Tensor:
    """Run `climb` from several starts and keep the strongest result of each image.

    A result that reaches the objective beats one that does not; otherwise the larger value of the objective wins.

    Args:
        model: images to logits.
        x: (n, ...) the clean images.
        y: (n,) their classes, or the targets.
        threat: the ball, and the number and length of steps.
        options: how the gradient is followed, and how many times.
        generator: source of the starts and views; None where nothing is drawn.
        progress: receives the share of the steps that is done.
    """
    progress, share = progress or Progress(), 1 / options.restarts
    best = _one_run(model, x, y, threat, options, generator, progress.part(0.0, share))
    if options.restarts == 1:  # nothing to compare, so the model is not asked for scores
        return best
    best_value, best_reached = options.objective.scores(model, best, y, options.batch_size)
    for run in range(1, options.restarts):
        x_adv = _one_run(model, x, y, threat, options, generator, progress.part(run * share, share))
        value, reached = options.objective.scores(model, x_adv, y, options.batch_size)
        better = (reached & ~best_reached) | ((reached == best_reached) & (value > best_value))
        best = torch.where(per_sample(better, x), x_adv, best)
        best_value = torch.where(better, value, best_value)
        best_reached = reached | best_reached
    return best


def _one_run(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    options: AscentOptions,
    generator: torch.Generator | None,
    progress: Progress,
) -> Tensor:
    """Draw a start and the views for all images, then climb a batch at a time, so that the batch size changes nothing."""
    start, diversity = x, None
    if options.random_start and generator is not None:
        start = threat.random_start(x, generator)
    if options.diversity and generator is not None:
        diversity = InputDiversity.drawn(options.diversity, threat.steps, len(x), generator)
    x_adv = []
    for batch in batches(len(x), options.batch_size):
        views = None if diversity is None else diversity[batch]
        part = progress.part(batch.start / max(len(x), 1), len(x[batch]) / max(len(x), 1))
        x_adv.append(climb(model, x[batch], y[batch], start[batch], threat, options, views, part))
    return torch.cat(x_adv)
