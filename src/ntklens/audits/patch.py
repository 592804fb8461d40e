"""A square patch in a corner: the trigger, or the attribute, of an audit."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ntklens.arguments import as_count, as_number
from ntklens.attacks.checks import check_images
from ntklens.errors import InputError

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")


@dataclass(frozen=True)
class Patch:
    """Put a square patch of one brightness on images.

    Attributes:
        size: pixels of each side.
        brightness: of its pixels, in all channels, from 0 to 1.
        corner: "top-left", "top-right", "bottom-left" or "bottom-right".

    Raises:
        InputError: a number out of range, or an unknown corner.

    Example:
        >>> import torch
        >>> Patch(2)(torch.zeros(1, 1, 3, 3))[0, 0]
        tensor([[0., 0., 0.],
                [0., 1., 1.],
                [0., 1., 1.]])
    """

    size: int = 4
    brightness: float = 1.0
    corner: str = "bottom-right"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", as_count(self.size, "the size of the patch"))
        brightness = as_number(self.brightness, "brightness")
        if not 0 <= brightness <= 1:
            raise InputError(f"expected brightness from 0 to 1; got {brightness}.")
        object.__setattr__(self, "brightness", float(brightness))
        if self.corner not in CORNERS:
            raise InputError(f'expected corner as one of {", ".join(CORNERS)}; got "{self.corner}".')

    def __call__(self, x: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
        """Return copies of the images with the patch.

        Raises:
            InputError: no images (n, C, H, W) in [0, 1], a patch that is larger than an image, or one that changes none.
        """
        images = check_images(x, (0, 1)).clone()
        if images.ndim != 4:
            raise InputError(f"expected x as images (n, C, H, W), which have corners; got shape {tuple(images.shape)}.")
        height, width = images.shape[2:]
        if self.size > min(height, width):
            raise InputError(
                f"expected a patch of at most {min(height, width)} pixels, the side of the images; got {self.size}."
            )
        rows = slice(self.size) if self.corner.startswith("top") else slice(height - self.size, height)
        columns = slice(self.size) if self.corner.endswith("left") else slice(width - self.size, width)
        corner = images[..., rows, columns]
        if len(images) and bool((corner == self.brightness).all()):
            raise InputError(
                f"the patch changes no image: the {self.corner} corner of all of them has the brightness "
                f"{self.brightness:g}. Choose another brightness, corner or size."
            )
        corner.fill_(self.brightness)
        return images
