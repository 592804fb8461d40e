"""Tangent kernels of finite networks at their current weights, structured layer by layer."""

from ntklens.kernels.empirical.kernel import EmpiricalKernel, check_mode, empirical_kernel

__all__ = ["EmpiricalKernel", "check_mode", "empirical_kernel"]
