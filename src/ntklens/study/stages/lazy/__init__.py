"""Finite networks of growing width under the kernel's adversarial images: the lazy regime and its limits (claim C2)."""

from __future__ import annotations

from ntklens.progress import Progress
from ntklens.study.context import Context, StageResult
from ntklens.study.parts import KERNEL_MATRIX, SPECTRUM
from ntklens.study.spec import LazySpec
from ntklens.study.stages.lazy.checkpoints import over_training
from ntklens.study.stages.lazy.regimes import regimes
from ntklens.study.stages.lazy.steps import StepCount
from ntklens.study.stages.lazy.widths import by_width

__all__ = ["lazy_stage"]


def lazy_stage(context: Context, spec: LazySpec, progress: Progress) -> StageResult:
    """Measure how well the kernel's adversarial images fool networks of several widths, with noise and white box beside.

    Each network has the kernel's architecture and parametrisation and is trained by full-batch gradient descent on its
    output f - f₀, with T steps at the learning rate `spec.rate` / λ_1. The matched machine stops at the same T. The
    trained surrogate is a network of the same width from another seed.
    """
    parts = context.parts("lazy", progress, _weights(spec))
    with parts(KERNEL_MATRIX) as part:
        machine = context.fitted(part)
    with parts(SPECTRUM):
        learning_rate = spec.rate / machine.factorisation.largest
    with parts("widths") as part:
        # One network more than there are seeds is trained per width: the last one is a surrogate only.
        steps = len(spec.widths) * (spec.seeds + 1) * spec.steps
        tables = by_width(context, spec, learning_rate, StepCount(steps, part))
    if spec.checkpoints:
        with parts("checkpoints") as part:
            count = StepCount(spec.seeds * len(spec.checkpoints) * spec.steps, part)
            tables["lazy_steps"] = over_training(context, spec, learning_rate, count)
    if spec.regimes:
        with parts("regimes") as part:
            count = StepCount(spec.seeds * len(spec.regimes) * spec.steps, part)
            tables["lazy_regimes"] = regimes(context, spec, learning_rate, count)
    return StageResult({name: rows for name, rows in tables.items() if rows})


def _weights(spec: LazySpec) -> dict[str, float]:
    """Return the parts of the stage, in proportion to the training steps in them."""
    weights = {KERNEL_MATRIX: 1.0, SPECTRUM: 1.0, "widths": 10.0 * len(spec.widths) * (spec.seeds + 1)}
    if spec.checkpoints:
        weights["checkpoints"] = 10.0 * spec.seeds
    if spec.regimes:
        weights["regimes"] = 10.0 * spec.seeds * len(spec.regimes)
    return weights
