"""Finite networks of growing width under the kernel's adversarial images: the lazy regime and its limits (claim C2)."""

from __future__ import annotations

from ntklens.progress import Progress
from ntklens.study.context import Context, StageResult
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
    learning_rate = spec.rate / float(context.machine.factorisation.spectrum.eigenvalues[0])
    count = StepCount(spec, progress)
    tables = by_width(context, spec, learning_rate, count)
    tables["lazy_steps"] = over_training(context, spec, learning_rate, count)
    tables["lazy_regimes"] = regimes(context, spec, learning_rate, count)
    return StageResult({name: rows for name, rows in tables.items() if rows})
