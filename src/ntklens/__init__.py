"""ntklens: see, attack and explain the adversarial robustness of a network through its tangent kernel.

Data flows one way, and each stage is usable alone: data, kernel, machine, attacks, features and dynamics, report.
"""

from importlib.metadata import version

from ntklens.attacks import AttackResult, attack, diagnose, fgsm, noise, pgd, square
from ntklens.data import Dataset, load_dataset
from ntklens.dynamics import KernelTracker
from ntklens.errors import InputError, NtklensError, NumericalFailure, UnsupportedLayer
from ntklens.features import NTKFeatures, eigenfeatures
from ntklens.kernels import (
    AnalyticKernel,
    EmpiricalKernel,
    LinearKernel,
    NNGPKernel,
    Parametrisation,
    RBFKernel,
    activation,
    analytic_kernel,
    empirical_kernel,
)
from ntklens.linalg import Band, GradientDescent, GradientFlow, Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import linearize, ntk_parametrize

__version__ = version("ntklens")

__all__ = [
    "AnalyticKernel",
    "AttackResult",
    "Band",
    "Dataset",
    "EmpiricalKernel",
    "GradientDescent",
    "GradientFlow",
    "InputError",
    "KernelMachine",
    "KernelTracker",
    "LinearKernel",
    "NNGPKernel",
    "NTKFeatures",
    "NtklensError",
    "NumericalFailure",
    "Parametrisation",
    "RBFKernel",
    "Ridge",
    "UnsupportedLayer",
    "activation",
    "analytic_kernel",
    "attack",
    "diagnose",
    "eigenfeatures",
    "empirical_kernel",
    "fgsm",
    "linearize",
    "load_dataset",
    "noise",
    "ntk_parametrize",
    "pgd",
    "square",
]
