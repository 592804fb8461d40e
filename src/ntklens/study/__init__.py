"""Experiments: a Spec in, a Record out; the only place where all stages meet."""

from ntklens.study.run import planned, run
from ntklens.study.spec import (
    AttackSpec,
    DataSpec,
    DynamicsSpec,
    FeaturesSpec,
    KernelSpec,
    Spec,
    TransferSpec,
    demo_spec,
)

__all__ = [
    "AttackSpec",
    "DataSpec",
    "DynamicsSpec",
    "FeaturesSpec",
    "KernelSpec",
    "Spec",
    "TransferSpec",
    "demo_spec",
    "planned",
    "run",
]
