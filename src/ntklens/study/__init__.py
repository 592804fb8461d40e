"""Experiments: a Spec in, a Record out; the only place where all stages meet."""

from ntklens.study.export import export_robust_data
from ntklens.study.run import planned, run
from ntklens.study.shipped import PAPERS, demo_spec, paper_spec
from ntklens.study.spec import (
    AttackSpec,
    FeaturesSpec,
    KernelSpec,
    LazySpec,
    Spec,
    TransferSpec,
    VictimSpec,
)
from ntklens.study.spec_data import DataSpec
from ntklens.study.spec_dynamics import DynamicsSpec

__all__ = [
    "PAPERS",
    "AttackSpec",
    "DataSpec",
    "DynamicsSpec",
    "FeaturesSpec",
    "KernelSpec",
    "LazySpec",
    "Spec",
    "TransferSpec",
    "VictimSpec",
    "demo_spec",
    "export_robust_data",
    "paper_spec",
    "planned",
    "run",
]
