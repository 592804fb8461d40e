"""Gaussian functions after training: the covariance that a prior keeps once a linear predictor has read the data."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def trained_covariance(
    prior: Float[Tensor, "m m"] | Float[Tensor, " m"],
    cross: Float[Tensor, "m n"],
    through: Float[Tensor, "m n"],
    readout: Float[Tensor, "m n"],
    noise: float = 0.0,
) -> Float[Tensor, "m m"] | Float[Tensor, " m"]:
    """Compute the covariance of f = f_0 + A (Y - f_0(X)), where f_0 has the covariance K (Lee et al. 2019, eq. 16).

    With A = K(x, X) (K(X, X) + ρ I)⁻¹ it is the posterior of a Gaussian process that is observed with noise of variance ρ.

    Args:
        prior: K(x, x), (m, m), or its diagonal alone, (m,).
        cross: K(x, X), (m, n).
        through: A K(X, X), (m, n), which can be had without K(X, X) in memory.
        readout: A, (m, n).
        noise: ρ, the variance of Gaussian noise on the targets.

    Returns:
        The covariance, (m, m), or its diagonal, (m,), as `prior` is.
    """
    # f is the linear map f_0(x) - A f_0(X) of the prior, plus the noise A ε, so with S = K(X, X) + ρ I its covariance is
    #     K(x, x) - A K(X, x) - K(x, X) Aᵀ + A S Aᵀ.
    noisy = through + noise * readout  # A S
    if prior.ndim == 1:
        # The diagonal of A S Aᵀ is the row sum of (A S) ∘ A, and both mixed terms have the diagonal of K(x, X) Aᵀ. Where
        # the data fix f, the terms cancel, and rounding may leave a negative variance.
        return (prior + ((noisy - 2 * cross) * readout).sum(1)).clamp(min=0)
    mixed = readout @ cross.T
    return prior + noisy @ readout.T - mixed - mixed.T
