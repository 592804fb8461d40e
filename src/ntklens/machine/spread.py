"""The spread of infinitely wide trained networks about their mean, which is the machine's prediction."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.kernels.base import Kernel
from ntklens.linalg import Filter, Ridge, trained_covariance
from ntklens.machine.matrix import DENSE


def spread(
    x: Tensor,
    *,
    kernel: Kernel,
    filter: Filter,
    train: Float[Tensor, "n *shape"],
    readout: Float[Tensor, "m n"],
    kept: dict[str, Any],
    diagonal: bool,
) -> Tensor:
    """Compute the covariance of the trained networks at x, (m, m), or its diagonal, (m,), in the dtype of x.

    A network that starts at f_0 ends at f_0(x) + A (Y - f_0(X)) with A = Θ(x, X) V g(Λ) Vᵀ. That is a linear function
    of f_0, whose covariance is the prior K; `trained_covariance` has the formula.

    Args:
        x: (m, *shape), images.
        kernel: Θ.
        filter: g.
        train: X, in float64.
        readout: A at x.
        kept: where the prior of the training inputs is kept between calls.
        diagonal: return the diagonal alone.
    """
    prior, z = kernel.prior, x.to(torch.float64)
    # Where the kernel is the prior, Θ = K, a machine with a ridge is not a trained network but a Gaussian process that
    # is conditioned on noisy targets: Y has the covariance K(X, X) + ρ I.
    bayesian = id(prior) == id(kernel)
    noise = filter.rho if bayesian and isinstance(filter, Ridge) else 0.0
    if len(train) <= DENSE:
        if "prior" not in kept:
            kept["prior"] = prior(train)
        through = readout @ kept["prior"]
    else:
        # A K(X, X) is the transpose of f(X) for f(x) = K(x, X) Aᵀ, which has a block of the matrix in memory at a time.
        through = prior.expansion(train, readout.T, torch.float64)(train).T
    before = prior.diagonal(z) if diagonal else prior(z)
    return trained_covariance(before, prior(z, train), through, readout, noise).to(x.dtype)
