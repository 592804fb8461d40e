"""What certificates say, image by image and in sum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from ntklens.statistics import Estimate, proportion

ABOUT = (
    "The proof is about the kernel machine, the mean of infinitely wide trained networks, not about a finite network."
)
"""What every certificate of a kernel machine is about."""
TIERS = ("wrong", "attacked", "undecided", "linear", "quadratic")
"""Wrong without an attack; an attack succeeds; neither attack nor proof does; proved by the first or the second bound."""


@dataclass(frozen=True)
class Certificates:
    """What is proved and what is attacked, image by image.

    Attributes:
        certified: (m,), whether the prediction is right on every image of the ball: a proof.
        bound: (m,), a lower bound of the margin (the true class's logit minus the largest other one) over the ball. Where
            the second bound decides, it stops as soon as the sign is proved, and may be far from tight.
        tier: (m,), what decided each image, one of `TIERS`.
        attacked: (m,), whether the prediction is right on the clean image and still right under the attack.
        clean: (m,), whether it is right on the clean image.
        attacked_margin: (m,), the margin on the attacked image: no lower bound can be above it.
        eps: radius of the balls, in units of the pixels.
        norm: "linf" or "l2".
        radius: (m,), a radius up to which each prediction is proved right, 0 where it is wrong; None unless asked for.
        about: what the proof is about.
    """

    certified: Bool[Tensor, " m"]
    bound: Float[Tensor, " m"]
    tier: np.ndarray
    attacked: Bool[Tensor, " m"]
    clean: Bool[Tensor, " m"]
    attacked_margin: Float[Tensor, " m"]
    eps: float
    norm: str
    radius: Float[Tensor, " m"] | None = None
    about: str = field(default=ABOUT, repr=False)

    @property
    def certified_accuracy(self) -> Estimate:
        """The share of images that are right and proved to stay so, with its 95 % interval."""
        return _share(self.certified)

    @property
    def attacked_accuracy(self) -> Estimate:
        """The share of images that are right under the attack, with its 95 % interval."""
        return _share(self.attacked)

    @property
    def clean_accuracy(self) -> Estimate:
        """The share of images that are right, with its 95 % interval."""
        return _share(self.clean)

    def row(self) -> dict[str, Any]:
        """Return the figures in one line, for tables and JSON."""
        found = {
            "norm": self.norm,
            "eps": self.eps,
            "images": len(self.clean),
            **self.clean_accuracy.row("clean_accuracy"),
            **self.attacked_accuracy.row("attacked_accuracy"),
            **self.certified_accuracy.row("certified_accuracy"),
            **{tier: int((self.tier == tier).sum()) for tier in TIERS},
        }
        if self.radius is not None:
            right = self.radius[self.clean]
            found["median_radius"] = float(right.median()) if len(right) else 0.0
        return found

    def __repr__(self) -> str:
        shares = [100 * e.value for e in (self.clean_accuracy, self.attacked_accuracy, self.certified_accuracy)]
        return (
            f"Certificates(ε = {self.eps:.4g} {self.norm}, {len(self.clean)} images: {shares[0]:.1f} % right clean, "
            f"{shares[1]:.1f} % under attack, {shares[2]:.1f} % certified)"
        )


def _share(which: Tensor) -> Estimate:
    return proportion(int(which.sum()), len(which))
