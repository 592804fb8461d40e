"""How training moves the kernel of a finite network, and what the kernel at its end is worth (claims C7, C8, L1)."""

from __future__ import annotations

from ntklens.errors import InputError
from ntklens.networks import network_source
from ntklens.progress import Progress
from ntklens.study import networks
from ntklens.study.context import Context, StageResult
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.continued import continued
from ntklens.study.stages.dynamics.machines import machines
from ntklens.study.stages.dynamics.trainings import trained
from ntklens.study.stages.dynamics.watched import check_watch, watched

__all__ = ["check_dynamics", "dynamics_stage"]


def check_dynamics(context: Context, spec: DynamicsSpec) -> None:
    """Raise InputError, before a run is made, for a probe set beyond the images or checkpoints that cannot be watched."""
    context = context.on(spec.data)
    if len(context.data.classes) < 2:
        raise InputError("expected images of two or more classes for the trainings; got one class.")
    n_test = len(context.data.test)
    if spec.probe > n_test and "probe" in spec.model_fields_set:
        raise InputError(f"expected a `probe` of at most {n_test} test images; got {spec.probe}. Ask for fewer.")
    probe = min(spec.probe, n_test)
    if spec.top_k >= probe:
        raise InputError(
            f"expected `top_k` below {probe}, the number of test images that the kernel is measured on; got {spec.top_k}. "
            f"Give {spec.top_k + 1} or more probe images, or a smaller top_k."
        )
    if spec.watch is not None:
        check_watch(context, spec)
    else:
        networks.initial_network(context, network_source(spec.architecture, spec.weights), 0, width=1)


def dynamics_stage(context: Context, spec: DynamicsSpec, progress: Progress) -> StageResult:
    """Train networks and measure their kernels after every epoch; then train linearised ones, and fit kernel machines.

    All trainings of a seed start from one network. An interrupted stage goes on from the context's scratch folder.
    """
    context = context.on(spec.data)
    if spec.watch is not None:
        return watched(context, spec, progress)
    weights = {"trainings": 0.5 if spec.linear_from else 0.9}
    weights |= {"linearised trainings": 0.4} if spec.linear_from else {}
    weights |= {"kernel machines": 0.1} if spec.machine_train else {}
    parts = context.parts("dynamics", progress, weights)
    with parts("trainings") as part:
        result, trainings = trained(context, spec, part)
    if spec.linear_from:
        with parts("linearised trainings") as part:
            result.tables["continued"] = continued(context, spec, trainings, part)
    if spec.machine_train:
        with parts("kernel machines") as part:
            result.tables.update(machines(context, spec, trainings, part))
    progress(1.0)
    return result
