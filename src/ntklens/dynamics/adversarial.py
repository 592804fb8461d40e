"""The series of a tracker with an attack: how the tangents of adversarial images compare with those of the images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.kernels import EmpiricalKernel

_BLOCK = 10
"""Images per block: of a block's (2 · 10)² kernel values 3 · 10 are used."""


def tangent_series(
    kernel: EmpiricalKernel, x: Float[Tensor, "n *shape"], x_adv: Float[Tensor, "n *shape"]
) -> dict[str, float]:
    """Compute the mean cosine between clean and adversarial tangents, and the trace on the adversarial images.

    Args:
        kernel: of the network, with one value per pair of images.
        x: the images.
        x_adv: their adversarial images.
    """
    # The kernel of b images and their b adversarial images together, (2b, 2b), has Θ(x_i, x_i) and then
    # Θ(x_adv_i, x_adv_i) on its diagonal, and Θ(x_i, x_adv_i) on the diagonal that begins b columns to the right.
    # Nothing else of it is used, so blocks are small.
    cosines, traces = [], []
    for clean, adversarial in zip(torch.split(x, _BLOCK), torch.split(x_adv, _BLOCK), strict=True):
        theta, b = kernel(torch.cat([clean, adversarial])).double(), len(clean)
        norms, across = theta.diagonal(), theta.diagonal(b)
        cosines.append(across / (norms[:b] * norms[b:]).sqrt())
        traces.append(norms[b:])
    return {
        "adversarial_cosine": float(torch.cat(cosines).mean()),
        "adversarial_trace": float(torch.cat(traces).sum()),
    }
