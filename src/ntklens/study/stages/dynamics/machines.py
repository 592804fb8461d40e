"""Kernel machines on the kernels that trainings leave, fitted on clean images (Loo et al. 2022; claim L1)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ntklens.errors import NumericalFailure
from ntklens.features import Threat, eigenfeatures
from ntklens.kernels import empirical_kernel
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.study.context import Context
from ntklens.study.spec import DynamicsSpec
from ntklens.study.stages.dynamics.trainings import Training, initial
from ntklens.study.stages.dynamics.worst import worst_case


def machines(context: Context, spec: DynamicsSpec, runs: list[Training], progress: Progress) -> list[dict[str, Any]]:
    """A row a kernel: the network's before training, and each training's at its end, empty where none is fitted."""
    networks: list[tuple[str, int, nn.Module]] = []
    for seed in range(spec.seeds):
        networks.append(("none", seed, initial(context, spec, seed)))
        networks += [(run.name, seed, run.final) for run in runs if run.seed == seed]
    rows = []
    for name, seed, network in networks:
        row: dict[str, Any] = {"training": name, "seed": seed}
        try:
            rows.append(row | _measured(context, spec, network))
        except NumericalFailure:
            rows.append(row | {"accuracy": None, "robust_accuracy": None, "pgd_accuracy": None})
        progress(len(rows) / len(networks))
    return rows


def _measured(context: Context, spec: DynamicsSpec, network: nn.Module) -> dict[str, Any]:
    """Accuracy of the machine, clean and in the `worst_case`; and how many of its first features survive one step."""
    (x, y), (x_test, y_test), threat = context.train, context.test, context.threat
    part, seen = slice(0, spec.machine_train), slice(0, spec.machine_test)
    machine = KernelMachine(empirical_kernel(network), Ridge(spec.machine_ridge)).fit(x[part], y[part])
    images, labels = x_test[seen], y_test[seen]
    features = eigenfeatures(machine, min(spec.top_k, len(x[part])))
    indices = range(len(features))
    useful = features.usefulness(images, labels, indices).values
    kept = features.robustness(images, labels, Threat(threat.eps, threat.norm), indices).values
    return {
        "fitted_on": len(x[part]),
        **worst_case(context, spec, machine, [network], images, labels),
        "feature_usefulness": float(useful.mean()),
        "feature_robustness": float(kept.mean()),
    }
