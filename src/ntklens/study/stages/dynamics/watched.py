"""The kernel over the checkpoints that another training wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from ntklens.dynamics import checkpoints, watch
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.networks import OrderedOutputs, load_network, load_state
from ntklens.progress import Progress
from ntklens.study.class_outputs import class_outputs
from ntklens.study.context import Context, StageResult
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.attacks import accuracies, scored
from ntklens.study.stages.dynamics.tracked import dynamics_meta, kernel_tracker, path_tables
from ntklens.study.stages.victim_model import check_number_of_outputs
from ntklens.vocabulary import WATCHED


def check_watch(context: Context, spec: DynamicsSpec) -> None:
    """Raise InputError, before a run is made, for a folder without checkpoints, or with those of another network."""
    folder, model = _folder_and_model(spec)
    network = load_network(model)
    try:
        _ = _first_outputs(context, network.to(context.spec.device))
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        shape = "x".join(map(str, context.data.shape))
        raise InputError(f"the network does not take images of shape {shape}: {first_line(error)}") from error
    present = checkpoints(folder)
    # The last one may still be in writing, which `watch` waits for.
    if present and not spec.patience:
        load_state(network, present[0][1])
    if not present and not spec.patience:
        raise InputError(f"{folder} holds no checkpoint with an epoch in its name, as epoch-3.safetensors.")


def _first_outputs(context: Context, network: nn.Module) -> tuple[tuple[int, ...], int] | None:
    """Return the output of each class and the number of outputs; None for a network with the outputs in order."""
    outputs = check_number_of_outputs(context, network, "network")
    first = None if outputs is None else class_outputs(context, "the network")(outputs)
    return None if first is None or outputs is None else (first, outputs)


def _folder_and_model(spec: DynamicsSpec) -> tuple[Path, str]:
    if spec.watch is None or spec.model is None:
        raise InputError("checkpoints are watched with the folder (watch) and their network (model); give both.")
    return spec.watch, spec.model


def watched(context: Context, spec: DynamicsSpec, progress: Progress) -> StageResult:
    """Measure the kernel at the checkpoints in a folder, as `trained` does for the trainings of the experiment."""
    folder, model = _folder_and_model(spec)
    network = load_network(model).to(context.spec.device)
    order = _first_outputs(context, network)
    tracker = kernel_tracker(context, spec, context.scratch / "dynamics" / WATCHED, None if order is None else order[0])

    known = len(checkpoints(folder))
    measured = 0
    n, n_test = len(scored(spec, len(context.data.test))), len(context.data.test)
    if n < n_test:
        context.say(f"Checkpoints are scored on {n:,} of the {n_test:,} test images; --test sets how many.")

    def scores(checkpoint: nn.Module) -> dict[str, float]:
        nonlocal measured
        columns = accuracies(context, spec, checkpoint if order is None else OrderedOutputs(checkpoint, *order))
        measured += 1
        # While more may come, the work is not done.
        part(measured / (max(known, measured) + (spec.patience > 0)))
        return columns

    def told(epoch: float) -> None:
        context.say(_line(tracker.row()))

    with context.parts("dynamics", progress, {"checkpoints": 1.0})("checkpoints") as part:
        watch(tracker, network, folder, patience=spec.patience, scores=scores, on_record=told)
    progress(1.0)
    tables = path_tables(WATCHED, 0, tracker, spec)
    tables["dynamics_meta"] = [dynamics_meta(context, spec) | {"architecture": model, "seeds": 1}]
    return StageResult(tables, {f"distance_{WATCHED}": tracker.distance().numpy()})


def _line(row: Mapping[str, float]) -> str:
    """Return what is told of a checkpoint as soon as it is recorded."""
    moved = "" if math.isnan(row["velocity"]) else f", kernel moved by {row['velocity']:.2g} per epoch"
    return (
        f"epoch {row['epoch']:g}: accuracy {100 * row['accuracy']:.1f} %, under attack "
        f"{100 * row['robust_accuracy']:.1f} %{moved}"
    )
