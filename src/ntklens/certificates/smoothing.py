"""Randomised smoothing: l2 certificates of any classifier, with a stated probability (Cohen, Rosenfeld & Kolter 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.arguments import as_classes, as_count, as_images, as_number, check_generator
from ntklens.attacks.checks import check_logits
from ntklens.attacks.model import BATCH, Model
from ntklens.errors import InputError
from ntklens.modules import guarded
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, proportion

ABSTAINS = -1
"""Prediction where no class has more than half of the draws with the confidence that is asked for."""
_TOGETHER = 50
"""Noisy copies that are drawn together: a fixed number, so that the draws do not depend on the batch size."""


@dataclass(frozen=True)
class Smoothed:
    """What is certified of a smoothed classifier, which predicts the class that the given one predicts most under noise.

    Attributes:
        predictions: (m,), the predicted classes; `ABSTAINS` (-1) where none is certain.
        radius: (m,), in l2: with the stated confidence no perturbation that is shorter changes the prediction; 0 where it
            abstains. Each image has that confidence on its own.
        share: (m,), the lower end of the share of draws in the predicted class.
        sigma: standard deviation of the noise, in units of the pixels.
        draws: noisy copies per image.
        confidence: of each image's statement.
    """

    predictions: Int[Tensor, " m"]
    radius: Float[Tensor, " m"]
    share: Float[Tensor, " m"]
    sigma: float
    draws: int
    confidence: float

    @property
    def largest(self) -> float:
        """The largest radius that this many draws can certify."""
        return self.sigma * _quantile(_lower(self.draws, self.draws, self.confidence))

    def certified(self, y: Int[Tensor, " m"], eps: float) -> Bool[Tensor, " m"]:
        """Return which predictions are right and certified up to a radius in l2."""
        y = as_classes(y, len(self.predictions), device=self.predictions.device)
        eps = as_number(eps, "ε")
        if not eps >= 0:
            raise InputError(f"expected ε of 0 or more, in units of the pixels; got {eps}.")
        return (self.predictions == y) & (self.radius >= eps)

    def accuracy(self, y: Int[Tensor, " m"], eps: float) -> Estimate:
        """Return the share of predictions that are right and certified, with its 95 % interval."""
        held = self.certified(y, eps)
        return proportion(int(held.sum()), len(held))

    def __repr__(self) -> str:
        certain = int((self.predictions != ABSTAINS).sum())
        return (
            f"Smoothed(σ = {self.sigma:.4g}, {self.draws} draws, {len(self.predictions)} images: {certain} certain, radii "
            f"up to {self.largest:.3g} in l2)"
        )


def smooth(
    model: Model,
    x: Float[Tensor, "m *shape"],
    sigma: float,
    *,
    generator: torch.Generator,
    draws: int = 1000,
    selection: int = 100,
    confidence: float = 0.999,
    batch_size: int = BATCH,
    progress: Report | None = None,
) -> Smoothed:
    """Certify the smoothed version of any classifier in l2, by counting its predictions under Gaussian noise.

    The smoothed classifier is another one than the given: it predicts the class that is most likely under the noise. Some
    draws choose that class, others bound its probability p from below (Clopper & Pearson 1934), and the radius is σ Φ⁻¹(p).
    Noisy pixels are not clipped.

    Args:
        model: images to logits.
        x: images.
        sigma: standard deviation of the noise, in units of the pixels.
        generator: source of the noise.
        draws: noisy copies per image that bound the probability. With 1,000 no radius exceeds 2.5 σ.
        selection: noisy copies that choose the class.
        confidence: of the statement on each image, below 1.
        batch_size: noisy copies at a time. The result does not depend on it.
        progress: called with the share of the images that are done, from 0 to 1.

    Raises:
        InputError: arguments that do not fit.
    """
    x = as_images(x)
    sigma, confidence = float(as_number(sigma, "sigma")), float(as_number(confidence, "confidence"))
    if not 0 < sigma < float("inf"):
        raise InputError(f"expected sigma above 0, in units of the pixels; got {sigma}.")
    if not 0 < confidence < 1:
        raise InputError(f"expected confidence between 0 and 1; got {confidence}.")
    draws, selection = as_count(draws, "draws"), as_count(selection, "selection")
    batch_size = as_count(batch_size, "batch_size")
    check_generator(generator)
    predictions = torch.full((len(x),), ABSTAINS, device=x.device)
    radius, share = (torch.zeros(len(x), dtype=torch.float64, device=x.device) for _ in range(2))
    report = Progress(progress)
    with guarded(model, x, generator=generator) as (model, x), torch.no_grad():
        for i, image in enumerate(x):
            # One seed per image, and a fixed number of draws at a time: no noise depends on the batch size.
            seed = torch.randint(1 << 62, (), generator=generator, device=generator.device)
            own = torch.Generator().manual_seed(int(seed))
            chosen = int(_counts(model, image, sigma, selection, own, batch_size).argmax())
            count = _counts(model, image, sigma, draws, own, batch_size)
            hits = int(count[chosen]) if chosen < len(count) else 0
            share[i] = lower = _lower(hits, draws, confidence)
            if lower > 0.5:
                predictions[i], radius[i] = chosen, sigma * _quantile(lower)
            report.step(i + 1, len(x))
    return Smoothed(predictions, radius, share, sigma, draws, confidence)


def _counts(
    model: Model, image: Tensor, sigma: float, draws: int, generator: torch.Generator, batch_size: int
) -> Tensor:
    """Return how often each class is predicted under noise."""
    total = torch.zeros(1, dtype=torch.long)
    for start in range(0, draws, _TOGETHER):
        count = min(_TOGETHER, draws - start)
        noise = torch.randn(_TOGETHER, *image.shape, generator=generator, dtype=torch.float64)[:count]
        noisy = image + sigma * noise.to(image)
        for part in torch.split(noisy, batch_size):
            logits = model(part)
            check_logits(logits, torch.zeros(len(part), dtype=torch.long))
            found = torch.bincount(logits.argmax(1).cpu())
            longer, shorter = (found, total) if len(found) > len(total) else (total, found)
            total = longer + torch.nn.functional.pad(shorter, (0, len(longer) - len(shorter)))
    return total


def _lower(hits: int, draws: int, confidence: float) -> float:
    """Return the lower end of Clopper and Pearson's one-sided interval of a share."""
    from scipy.stats import beta  # slow to import

    return float(beta.ppf(1 - confidence, hits, draws - hits + 1)) if hits else 0.0


def _quantile(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(share))
