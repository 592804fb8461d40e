"""Neural tangent kernels: analytic, empirical, and elementary ones as controls."""

from ntklens.kernels.analytic import AnalyticKernel, analytic_kernel
from ntklens.kernels.base import Kernel
from ntklens.kernels.elementary import LinearKernel, RBFKernel

__all__ = ["AnalyticKernel", "Kernel", "LinearKernel", "RBFKernel", "analytic_kernel"]
