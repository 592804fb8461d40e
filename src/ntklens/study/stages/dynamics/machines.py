"""Kernel machines on the kernels that trainings end with, fitted on clean images (Loo et al. 2022; claim L1)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import NumericalFailure
from ntklens.features import Threat, eigenfeatures
from ntklens.kernels import empirical_kernel
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.machine.state import FOR_THE_KERNEL_ALONE
from ntklens.progress import Progress
from ntklens.study.context import Context, Rows
from ntklens.study.rows import over_both
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.stages.dynamics.trainings import Training, initial_network
from ntklens.study.stages.dynamics.worst import NOT_MEASURED, worst_columns, worst_outcomes
from ntklens.vocabulary import PGD, STANDARD, UNTRAINED


def machines(context: Context, spec: DynamicsSpec, trainings: list[Training], progress: Progress) -> dict[str, Rows]:
    """Fit a machine on the kernel of each seed's network before training, and of each training's network at its end.

    Returns:
        The table "kernel_machines", one row per kernel; its measures are None where no machine can be fitted. The table
        "kernel_machines_effect": what the kernels of PGD training add in the worst case, on the same seeds and images.
    """
    right: dict[tuple[str, int], Tensor] = {}
    networks: list[tuple[str, int, nn.Module]] = []
    for seed in range(spec.seeds):
        networks.append((UNTRAINED, seed, initial_network(context, spec, seed).eval()))
        networks += [(run.name, seed, run.final) for run in trainings if run.seed == seed]
    rows: Rows = []
    for name, seed, network in networks:
        row: dict[str, Any] = {
            "training": name,
            "seed": seed,
            "fitted_on": min(spec.machine_train, len(context.data.train)),
        }
        try:
            columns, right[name, seed] = _measured(context, spec, network)
            rows.append(row | columns)
        except NumericalFailure:
            rows.append(row | NOT_MEASURED | {"feature_usefulness": None, "feature_robustness": None})
        progress.step(len(rows), len(networks))
    tables: dict[str, Rows] = {"kernel_machines": rows}
    paired = [seed for seed in range(spec.seeds) if (PGD, seed) in right and (STANDARD, seed) in right]
    if paired:
        differences = torch.stack([right[PGD, s].double() - right[STANDARD, s].double() for s in paired])
        tables["kernel_machines_effect"] = [{"first": PGD, "second": STANDARD, **over_both(differences)}]
    return tables


def _measured(context: Context, spec: DynamicsSpec, network: nn.Module) -> tuple[dict[str, Any], Tensor]:
    """Return the machine's accuracy in the worst case and how well its first features survive one step, with outcomes."""
    threat = context.threat
    x_train, y_train = (tensor[: spec.machine_train] for tensor in context.train)
    x, y = (tensor[: spec.machine_test] for tensor in context.test)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{FOR_THE_KERNEL_ALONE}")
        try:
            machine = KernelMachine(empirical_kernel(network), Ridge(spec.machine_ridge)).fit(x_train, y_train)
        except UserWarning as warning:
            raise NumericalFailure(f"the network does not tell all images apart: {warning}") from None
    features = eigenfeatures(machine, min(spec.top_k, len(x_train)))
    indices = range(len(features))
    usefulness = features.usefulness(x, y, indices).values
    robustness = features.robustness(x, y, Threat(threat.eps, threat.norm), indices).values
    outcomes = worst_outcomes(context, spec, machine, [network], x, y)
    return {
        **worst_columns(*outcomes),
        "feature_usefulness": float(usefulness.mean()),
        "feature_robustness": float(robustness.mean()),
    }, outcomes[2]
