"""Neural tangent kernels: analytic, empirical, and elementary ones as controls."""

from ntklens.kernels.analytic import AnalyticKernel, analytic_kernel
from ntklens.kernels.base import Kernel
from ntklens.kernels.elementary import LinearKernel, RBFKernel
from ntklens.kernels.empirical import EmpiricalKernel, empirical_kernel
from ntklens.kernels.nngp import NNGPKernel
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.tracing.activations import activation

__all__ = [
    "AnalyticKernel",
    "EmpiricalKernel",
    "Kernel",
    "LinearKernel",
    "NNGPKernel",
    "Parametrisation",
    "RBFKernel",
    "activation",
    "analytic_kernel",
    "empirical_kernel",
]
