"""What a surrogate is shown in place of an image, so that an attack on it fools other models too."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 0.85
"""Side of a shrunk image over its own: 24 of 28 pixels, as 299 of 330 for large ones."""


def draws(steps: int, n: int, generator: torch.Generator) -> Tensor:
    """Four uniform numbers a step and image: all at once, so that batches change nothing. (steps, n, 4)."""
    return torch.rand(steps, n, 4, generator=generator, device=generator.device)


def diverse(x: Tensor, probability: float, numbers: Tensor) -> Tensor:
    """Input diversity (Xie et al. 2019) for small images: shrink at random, and put into a frame of zeros at random.

    Args:
        x: (n, C, H, W).
        probability: of doing so, an image.
        numbers: (n, 4), uniform in [0, 1]: whether, which size, which place.
    """
    u = numbers.to(x)
    side = torch.where(u[:, 0] < probability, SMALLEST + (1 - SMALLEST) * u[:, 1], 1.0)
    theta = x.new_zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / side
    theta[:, :, 2] = (2 * u[:, 2:4] - 1) * (1 / side - 1)[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def translated(gradient: Tensor, size: int) -> Tensor:
    """The gradient summed over shifts, with Gaussian weights: a convolution (Dong et al. 2019).

    Args:
        gradient: (n, C, H, W).
        size: side of the window, odd; its edge is at three standard deviations. 15 was published for 299 pixels; 5 or 7
            suits 28 to 32, and 3 does next to nothing.
    """
    line = torch.exp(-0.5 * torch.linspace(-3, 3, size, dtype=gradient.dtype, device=gradient.device).square())
    window = torch.outer(line, line) / line.sum() ** 2
    channels = gradient.shape[1]
    return F.conv2d(gradient, window.expand(channels, 1, size, size), padding=size // 2, groups=channels)
