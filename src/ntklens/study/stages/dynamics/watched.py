"""The kernel over the checkpoints that another training wrote."""

from __future__ import annotations

from torch import nn

from ntklens.dynamics import KernelTracker, checkpoints, watch
from ntklens.errors import InputError
from ntklens.networks import load_network
from ntklens.progress import Progress
from ntklens.study.context import Context, StageResult
from ntklens.study.spec import DynamicsSpec
from ntklens.study.stages.dynamics.trainings import attack_of, found_of, meta_of, tested

WATCHED = "watched"


def check_watch(spec: DynamicsSpec) -> None:
    """Refuse a folder that is not there, or a network that does not load, before a run is made.

    Raises:
        InputError: the same.
    """
    if spec.watch is None or spec.model is None:
        raise InputError("checkpoints are watched with the folder (watch) and their network (model); give both.")
    load_network(spec.model)
    if not checkpoints(spec.watch) and not spec.patience:
        raise InputError(f"{spec.watch} holds no checkpoint with an epoch in its name, as epoch-3.safetensors.")


def watched(context: Context, spec: DynamicsSpec, progress: Progress) -> StageResult:
    """Rows, distance map, lazy epochs and advice of the checkpoints in a folder, as of a training of our own."""
    assert spec.watch is not None
    assert spec.model is not None
    x, y = context.test
    module = load_network(spec.model).to(context.spec.device)
    probe = slice(0, spec.probe)
    tracker = KernelTracker(
        x[probe],
        y[probe],
        top_k=spec.top_k,
        folder=context.scratch / "dynamics" / WATCHED,
        attack=attack_of("FGSM", context, spec),
    )

    def scores(network: nn.Module) -> dict[str, float]:
        return tested(context, spec, network)

    watch(tracker, module, spec.watch, patience=spec.patience, scores=scores)
    progress(1.0)
    tables = found_of(WATCHED, 0, tracker, spec)
    tables["dynamics_meta"] = [meta_of(context, spec) | {"architecture": spec.model, "seeds": 1}]
    return StageResult(tables, {f"distance_{WATCHED}": tracker.distance().numpy()})
