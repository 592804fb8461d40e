"""Kernel matrices as linear algebra: filters, factorisations, spectra. Knows no kernel."""

from ntklens.linalg.factorisation import Factorisation, Spectrum
from ntklens.linalg.filters import Band, Filter, GradientDescent, GradientFlow, Ridge
from ntklens.linalg.gaussian import trained_covariance

__all__ = [
    "Band",
    "Factorisation",
    "Filter",
    "GradientDescent",
    "GradientFlow",
    "Ridge",
    "Spectrum",
    "trained_covariance",
]
