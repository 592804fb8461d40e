"""Gaussian functions after training: what is left of a prior's covariance once a linear predictor has read the data."""

from __future__ import annotations

from torch import Tensor


def trained_covariance(prior: Tensor, cross: Tensor, train: Tensor, readout: Tensor, noise: float = 0.0) -> Tensor:
    """K + A (K_XX + ρ I) Aᵀ - A K_Xx - (A K_Xx)ᵀ for f = f_0 + A (Y - f_0(X)), f_0 of covariance K (Lee et al. 2019).

    With A = K_xX (K_XX + ρ I)⁻¹ it is the posterior of a Gaussian process seen through noise of variance ρ.

    Args:
        prior: K(x, x), (m, m), or its diagonal alone, (m,).
        cross: K(x, X), (m, n).
        train: K(X, X), (n, n).
        readout: A, (m, n).
        noise: ρ.

    Returns:
        Tensor in the shape of `prior`.
    """
    through = readout @ train + noise * readout
    if prior.ndim == 1:
        return (prior + ((through - 2 * cross) * readout).sum(1)).clamp(min=0)
    shared = readout @ cross.T
    return prior + through @ readout.T - shared - shared.T
