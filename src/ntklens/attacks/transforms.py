"""What makes images that fool one model fool others too: momentum (MI), input diversity (DI) and translation (TI)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ntklens.attacks.balls import per_sample
from ntklens.attacks.model import Model

SMALLEST = 0.85
"""Smallest side of a shrunk image over its own side: 24 of 28 pixels, as 299 of 330 for large images."""


class Momentum:
    """A running sum of gradients: g ← μ g + ∇ / |∇|₁ (MI-FGSM, Dong et al. 2018, algorithm 1).

    Args:
        factor: μ; with 0 each gradient is returned as it is.
        start: (n, ...) the sum before the first gradient: zeros in the shape of the images.
    """

    def __init__(self, factor: float, start: Tensor) -> None:
        self.factor = factor
        self._sum = start

    def __call__(self, gradient: Tensor) -> Tensor:
        """Add a gradient to the sum and return the sum."""
        if not self.factor:
            return gradient
        # |∇|₁ can underflow to zero where the model is confident; such a gradient adds nothing.
        size = gradient.flatten(1).abs().sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        self._sum = self.factor * self._sum + gradient / per_sample(size, gradient)
        return self._sum

    def __getitem__(self, rows: Tensor | slice) -> Momentum:
        """Return the momentum of some of the images, from their sums so far on."""
        return Momentum(self.factor, self._sum[rows])


@dataclass(frozen=True)
class InputDiversity:
    """Random views of the images, one per step, of which the gradient is taken (DI, Xie et al. 2019).

    Attributes:
        probability: probability that an image is shrunk and moved at a step.
        draws: (steps, n, 4), uniform in [0, 1]: for each step and image whether, which size, which place.
    """

    probability: float
    draws: Tensor

    @classmethod
    def drawn(cls, probability: float, steps: int, n: int, generator: torch.Generator) -> InputDiversity:
        """Draw for n images and all steps at once, so that the batch size changes nothing."""
        draws = torch.rand(steps, n, 4, generator=generator, device=generator.device)
        return cls(probability, draws)

    def __getitem__(self, images: slice) -> InputDiversity:
        """Return the views of some images."""
        return InputDiversity(self.probability, self.draws[:, images])

    def view(self, model: Model, step: int, rows: Tensor | None = None) -> Model:
        """Return the model as it sees the views of a step.

        Args:
            model: images to logits.
            step: which step.
            rows: indices of the images that the model will be shown; all by default.
        """
        draws = self.draws[step] if rows is None else self.draws[step][rows.to(self.draws.device)]
        return lambda x: model(diverse(x, self.probability, draws))


def diverse(x: Tensor, probability: float, draws: Tensor) -> Tensor:
    """Shrink images at random, and put them at a random place into a frame of zeros of their own size.

    Args:
        x: (n, C, H, W).
        probability: probability that an image is changed.
        draws: (n, 4), uniform in [0, 1]: whether, which size, which place.
    """
    u = draws.to(x)
    side = torch.where(u[:, 0] < probability, SMALLEST + (1 - SMALLEST) * u[:, 1], 1.0)
    # An affine map from places in the frame to places in the image, both from -1 to 1: scaling by 1 / side shrinks the
    # image, and a shift of at most 1 / side - 1 keeps it inside the frame.
    theta = x.new_zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / side
    theta[:, :, 2] = (2 * u[:, 2:4] - 1) * (1 / side - 1)[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def translated(gradient: Tensor, size: int) -> Tensor:
    """Sum the gradient over shifts, with Gaussian weights: a convolution (TI, Dong et al. 2019).

    Args:
        gradient: (n, C, H, W).
        size: side of the window, odd; its edge is at three standard deviations. 15 was published for 299 pixels; 5 or 7
            suits 28 to 32, and 3 does next to nothing. With 0 the gradient is returned as it is.
    """
    if not size:
        return gradient
    line = torch.exp(-0.5 * torch.linspace(-3, 3, size, dtype=gradient.dtype, device=gradient.device).square())
    window = torch.outer(line, line) / line.sum() ** 2
    channels = gradient.shape[1]
    return F.conv2d(gradient, window.expand(channels, 1, size, size), padding=size // 2, groups=channels)
