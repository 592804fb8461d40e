"""Square: a black-box attack by random search, which sees outputs alone and counts its queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks.ascent import Ascent, Model
from ntklens.attacks.balls import Bounds, lengths, project
from ntklens.attacks.checks import check_attack
from ntklens.attacks.losses import negative_margin
from ntklens.errors import InputError

_HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 iterations: where the share of pixels in a square is halved."""


def square(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    eps: float,
    norm: str = "linf",
    *,
    queries: int = 1000,
    share: float = 0.3,
    bounds: Bounds = (0, 1),
    generator: torch.Generator,
    batch_size: int | None = None,
) -> Float[Tensor, "n *shape"]:
    """Random search over squares of pixels (Andriushchenko et al. 2020), on the margin.

    An image is left alone as soon as it is misclassified, from the start on where it is so as it comes. What is drawn for
    an image does not depend on the others' fates or on the batch size.

    Args:
        model: images to logits; no gradient is asked for.
        x: images (n, C, H, W) within the bounds; vectors (n, d) are taken as images of one row.
        y: true classes.
        eps: radius of the ball, in units of the pixels.
        norm: "linf" or "l2".
        queries: most queries of the model an image.
        share: of the pixels in the first squares; 0.3 as published for images of this size in linf.
        bounds: lowest and highest pixel value.
        generator: source of all draws.
        batch_size: images at a time.

    Returns:
        Adversarial images, within the ball and the bounds, in dtype and on device of x.

    Raises:
        InputError: arguments that do not fit.
    """
    check_attack(x, y, eps, norm, bounds)
    if queries < 1 or not 0 < share <= 1:
        raise InputError(f"queries of 1 or more and a share in (0, 1] were expected; {queries} and {share} came.")
    x = x.detach()
    if not len(x):
        return x
    images = x if x.ndim == 4 else x.reshape(len(x), 1, 1, -1)
    judge = Ascent(negative_margin)

    def score(candidates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return judge.scores(model, candidates.reshape(-1, *x.shape[1:]), y[rows], batch_size)

    search = _Search(images, eps, norm, bounds, generator)
    best = images.clone()
    value, fooled = score(best, torch.arange(len(x), device=x.device))
    for query in range(1, queries):
        tried = search.first() if query == 1 else search.propose(best, _side(images, share, query, queries))
        rows = torch.nonzero(~fooled).flatten()
        if not len(rows):
            break
        candidates = project(tried[rows], images[rows], eps, norm, bounds)
        found, hit = score(candidates, rows)
        better = (found > value[rows]) | hit | (query == 1)  # the search starts from the pattern, whatever it does
        won = rows[better]
        best[won], value[won] = candidates[better], found[better]
        fooled[rows] |= hit
    return best.reshape(x.shape)


def _side(images: Tensor, share: float, query: int, queries: int) -> int:
    """Side of the squares: the published schedule, stretched over the number of queries."""
    at = query / queries * 10_000
    height, width = images.shape[2:]
    pixels = share / 2 ** sum(at > step for step in _HALVINGS) * height * width
    return max(1, min(round(math.sqrt(pixels)) if height > 1 else round(pixels), width))


@dataclass
class _Search:
    """The random proposals, drawn for all images at once."""

    x: Tensor
    eps: float
    norm: str
    bounds: Bounds
    generator: torch.Generator

    def first(self) -> Tensor:
        """Vertical stripes for linf; a chessboard of bumps for l2."""
        n, c, h, w = self.x.shape
        if self.norm == "linf":
            stripes = self._signs(n, c, 1, w)
            return project(self.x + self.eps * stripes, self.x, self.eps, "linf", self.bounds)
        side = max(1, min(h, w) // 5)
        rows = []
        for top in range(0, h, side):
            bumps = [_bump(min(side, h - top), min(side, w - left), self.x) for left in range(0, w, side)]
            rows.append(torch.cat([self._signs(n, c, 1, 1) * bump for bump in bumps], 3))
        pattern = torch.cat(rows, 2)
        return self._on_the_sphere(pattern)

    def propose(self, best: Tensor, side: int) -> Tensor:
        """A change in one square, image by image."""
        n, c, h, w = self.x.shape
        height, width = min(side, h), min(side, w)
        if self.norm == "linf":
            inside = self._window(height, width)
            changed = self.x + self.eps * self._signs(n, c, 1, 1)
            return torch.where(inside, changed, best)
        inside, away = self._window(height, width), self._window(height, width)
        bump = self._placed(inside, _bump(height, width, self.x)) * self._signs(n, c, 1, 1)
        delta = best - self.x
        held = torch.where(inside | away, delta, 0.0)
        left = (self.eps**2 - (delta - held).square().flatten(1).sum(1)).clamp_min(0).sqrt()
        old = torch.where(inside, delta, 0.0)
        new = bump + _unit(old)
        moved = torch.where(inside | away, 0.0, delta) + left.reshape(-1, 1, 1, 1) * _unit(
            torch.where(inside, new, 0.0)
        )
        return self._on_the_sphere(moved)

    def _on_the_sphere(self, delta: Tensor) -> Tensor:
        return project(self.x + self.eps * _unit(delta), self.x, self.eps, "l2", self.bounds)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.x.device)

    def _signs(self, *shape: int) -> Tensor:
        return torch.where(self._uniform(*shape) < 0.5, -1.0, 1.0).to(self.x)

    def _window(self, height: int, width: int) -> Tensor:
        """Where a rectangle at a random place lies: (n, 1, H, W)."""
        n, _, h, w = self.x.shape
        u = self._uniform(n, 2)
        top = (u[:, 0] * (h - height + 1)).floor()[:, None]
        left = (u[:, 1] * (w - width + 1)).floor()[:, None]
        rows, columns = (torch.arange(size, device=self.x.device)[None] for size in (h, w))
        tall = (rows >= top) & (rows < top + height)
        wide = (columns >= left) & (columns < left + width)
        return (tall[:, :, None] & wide[:, None, :])[:, None]

    def _placed(self, inside: Tensor, pattern: Tensor) -> Tensor:
        """The pattern in each image's window, zero elsewhere."""
        out = torch.zeros_like(self.x[:, :1])
        out[inside] = pattern.flatten().repeat(len(self.x))
        return out


def _bump(height: int, width: int, like: Tensor) -> Tensor:
    """Two opposed hills of concentric rectangles, of unit length: the published pattern, (height, width)."""
    half = height // 2
    if not half:
        return _hill(height, width, like)
    pattern = torch.cat([_hill(half, width, like), -_hill(height - half, width, like)])
    return _unit(pattern[None, None])[0, 0]


def _hill(height: int, width: int, like: Tensor) -> Tensor:
    """The sum of 1 / (r + 1)² over the rectangles r = 0, 1, … around the middle that hold a pixel."""
    rows = (torch.arange(height) - (height - 1) / 2).abs().floor()
    columns = (torch.arange(width) - (width - 1) / 2).abs().floor()
    ring = torch.maximum(rows[:, None], columns[None]).long()
    last = int(ring.max())
    weights = torch.tensor([1 / (r + 1) ** 2 for r in range(last + 1)], dtype=like.dtype)
    hill = weights.flip(0).cumsum(0).flip(0)[ring].to(like)
    return _unit(hill[None, None])[0, 0]


def _unit(delta: Tensor) -> Tensor:
    size = lengths(delta).reshape(-1, 1, 1, 1)
    return torch.where(size > 0, delta / torch.where(size > 0, size, 1.0), 0.0)
