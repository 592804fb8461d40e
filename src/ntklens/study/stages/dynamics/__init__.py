"""How training moves the kernel of a finite network, and what can be done with the kernel that it leaves (C7, C8, L1)."""

from __future__ import annotations

from ntklens.errors import InputError
from ntklens.progress import Progress
from ntklens.study.context import Context, StageResult
from ntklens.study.spec import DynamicsSpec
from ntklens.study.stages.dynamics.continued import continued
from ntklens.study.stages.dynamics.machines import machines
from ntklens.study.stages.dynamics.trainings import Training, trained
from ntklens.study.stages.dynamics.watched import check_watch, watched

__all__ = ["check_dynamics", "dynamics_stage"]


def check_dynamics(context: Context, spec: DynamicsSpec) -> None:
    """Refuse, before a run is made, a probe set beyond the images, and checkpoints that cannot be watched.

    Raises:
        InputError: the same.
    """
    there = len(context.test[1])
    if spec.probe > there and "probe" in spec.model_fields_set:
        raise InputError(f"`probe` asks for {spec.probe} test images; there are {there}: ask for fewer.")
    if spec.top_k >= min(spec.probe, there):
        raise InputError(
            f"a kernel on {min(spec.probe, there)} test images has no more than so many eigenvectors, and the top "
            f"{spec.top_k} (top_k) are asked for: give more probe images, {spec.top_k + 1} or more."
        )
    if spec.watch is not None:
        check_watch(spec)


def dynamics_stage(context: Context, spec: DynamicsSpec, progress: Progress) -> StageResult:
    """Trainings from one initialisation a seed, each kernel measured every epoch; then linearised ones, and machines.

    What is done of it survives an interruption in the context's scratch folder.
    """
    if spec.watch is not None:
        return watched(context, spec, progress)
    linear, machine = bool(spec.linear_from), bool(spec.machine_train)
    # Shares of the time, roughly: the trainings, their linearised continuations, and the machines.
    shares = [0.5 if linear else 0.9, 0.4 if linear else 0.0, 0.1]
    total = sum(shares)
    progresses = [progress.part(sum(shares[:i]) / total, share / total) for i, share in enumerate(shares)]
    result = StageResult()
    runs: list[Training] = trained(context, spec, result, progresses[0])
    if linear:
        result.tables["continued"] = continued(context, spec, runs, progresses[1])
    if machine:
        result.tables["kernel_machines"] = machines(context, spec, runs, progresses[2])
    progress(1.0)
    return result
