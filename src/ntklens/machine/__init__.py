"""Kernel machines: where kernels meet linear algebra."""

from ntklens.machine.kernel_machine import KernelMachine

__all__ = ["KernelMachine"]
