"""The widest networks while they train: how long the kernel describes them."""

from __future__ import annotations

from torch import nn

from ntklens.attacks import correct
from ntklens.linalg import GradientDescent
from ntklens.networks import Centred, gradient_descent
from ntklens.study.context import Context, Rows
from ntklens.study.spec import LazySpec
from ntklens.study.stages.lazy.networks import initial_network, regression_targets, with_logits
from ntklens.study.stages.lazy.steps import StepCount
from ntklens.transfer import gradient_cosine
from ntklens.vocabulary import CLEAN, KERNEL_INFINITE, KERNEL_MATCHED, WHITE_BOX


def over_training(context: Context, spec: LazySpec, learning_rate: float, count: StepCount) -> Rows:
    """Measure the widest networks at the spec's checkpoints: accuracy per source, and how alike the gradients are.

    Returns:
        The table "lazy_steps", one row per seed, checkpoint and source.
    """
    x, y = context.test
    width = max(spec.widths)
    rows: Rows = []
    infinite = context.attacked_test("fgsm", context.machine)
    for seed in range(spec.seeds):
        network: nn.Module = Centred(initial_network(context, width, seed))
        steps_taken = 0
        for steps in spec.checkpoints:
            network = gradient_descent(
                network,
                context.train[0],
                regression_targets(context),
                steps=steps - steps_taken,
                learning_rate=learning_rate,
            )
            steps_taken = steps
            victim = with_logits(context, network)
            matched = context.machine.refilter(GradientDescent(steps, learning_rate))
            images = {
                CLEAN: x,
                WHITE_BOX: context.attacked_test("fgsm", victim),
                KERNEL_MATCHED: context.attacked_test("fgsm", matched),
                KERNEL_INFINITE: infinite,
            }
            cosines = {
                KERNEL_MATCHED: gradient_cosine(matched, victim, x, y).row("cosine"),
                KERNEL_INFINITE: gradient_cosine(context.machine, victim, x, y).row("cosine"),
            }
            for source, x_adv in images.items():
                accuracy = float(correct(victim, x_adv, y).double().mean())
                row = {"steps": steps, "seed": seed, "width": width, "source": source, "accuracy": accuracy}
                rows.append(row | cosines.get(source, {}))
            count.add(spec.steps)
    return rows
