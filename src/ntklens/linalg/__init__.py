"""Kernel matrices as linear algebra: filters, factorisations, spectra. Knows no kernel."""

from ntklens.linalg.applied import Applied
from ntklens.linalg.cost import factor_seconds
from ntklens.linalg.cross_entropy import CrossEntropy, cross_entropy_flow
from ntklens.linalg.description import describe, described
from ntklens.linalg.factorisation import Factorisation, equal_rows
from ntklens.linalg.filters import (
    Band,
    Filter,
    GradientDescent,
    GradientFlow,
    Indices,
    Ridge,
    Trained,
    Unfiltered,
    check_filter,
    check_indices,
    inverts,
    rounding_floor,
    whole_indices,
)
from ntklens.linalg.gaussian import trained_covariance
from ntklens.linalg.spectrum import Spectrum
from ntklens.linalg.tiles import ClusterHome, MemoryHome, StoreHome

__all__ = [
    "Applied",
    "Band",
    "ClusterHome",
    "CrossEntropy",
    "Factorisation",
    "Filter",
    "GradientDescent",
    "GradientFlow",
    "Indices",
    "MemoryHome",
    "Ridge",
    "Spectrum",
    "StoreHome",
    "Trained",
    "Unfiltered",
    "check_filter",
    "check_indices",
    "cross_entropy_flow",
    "describe",
    "described",
    "equal_rows",
    "factor_seconds",
    "inverts",
    "rounding_floor",
    "trained_covariance",
    "whole_indices",
]
