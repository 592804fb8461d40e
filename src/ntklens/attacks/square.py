"""Square: a black-box attack by random search, which sees outputs alone and counts its queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count, as_number, check_generator
from ntklens.attacks.balls import Bounds, lengths, per_sample
from ntklens.attacks.checks import check_attack, check_reach
from ntklens.attacks.losses import negative_margin
from ntklens.attacks.model import Model
from ntklens.attacks.objective import Objective
from ntklens.attacks.threat import Threat
from ntklens.errors import InputError
from ntklens.modules import guarded
from ntklens.progress import Progress, Report

_HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
"""Iterations, of 10,000, after which the share of pixels in a square is halved (the published schedule)."""


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
    progress: Report | None = None,
) -> Float[Tensor, "n *shape"]:
    """Lower the margin by random changes of square windows of pixels (Square, Andriushchenko et al. 2020).

    The attack on an image ends as soon as the image is misclassified; an image that is wrong from the start is not
    changed. What is drawn for an image depends on its place
    among the images, and neither on the other images' pixels and success nor on the batch size.

    Args:
        model: images to logits; no gradient is asked for.
        x: images (n, C, H, W) within the bounds; vectors (n, d) are taken as images of one row.
        y: true classes.
        eps: radius of the ball, in units of the pixels.
        norm: "linf" or "l2".
        queries: maximum number of queries of the model per image.
        share: share of the pixels in the first squares; 0.3 as published for images of this size in linf.
        bounds: lowest and highest pixel value.
        generator: source of all draws.
        batch_size: images at a time; all at once by default.
        progress: called with the share of the queries that is done, from 0 to 1.

    Returns:
        Adversarial images, within the ball and the bounds, in the dtype and on the device of x.

    Raises:
        InputError: arguments that do not fit.
    """
    threat = Threat(eps, norm, bounds=bounds)
    x, y = check_attack(x, y, threat.bounds)
    check_reach(threat, x)
    check_generator(generator)
    if batch_size is not None:
        as_count(batch_size, "batch_size")
    share = as_number(share, "share")
    if as_count(queries, "queries", least=0) < 1 or not 0 < share <= 1:
        raise InputError(f"expected queries of 1 or more and a share in (0, 1]; got {queries} and {share}.")
    if not len(x):
        return x
    with guarded(model, x, y, generator=generator) as (model, x, y):
        images = x if x.ndim == 4 else x.reshape(len(x), 1, 1, -1)
        objective = Objective(negative_margin)

        def scores(candidates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            return objective.scores(model, candidates.reshape(-1, *x.shape[1:]), y[rows], batch_size)

        proposals = _Proposals(images, threat, generator)
        x_adv = images.clone()
        value, fooled = scores(x_adv, torch.arange(len(x), device=x.device))
        for query in range(1, queries):
            # Proposals are drawn for all images, fooled or not, so that no image's draws depend on the others.
            side = _side(images, share, query, queries)
            proposed = proposals.first() if query == 1 else proposals.next(x_adv, side)
            active = torch.nonzero(~fooled).flatten()
            if not len(active):
                break
            candidates = threat.project(proposed[active], images[active])
            candidate_value, reached = scores(candidates, active)
            # The search starts from the first pattern even where the clean image has the larger value.
            better = (candidate_value > value[active]) | reached | (query == 1)
            improved = active[better]
            x_adv[improved] = candidates[better]
            value[improved] = candidate_value[better]
            fooled[active] |= reached
            Progress(progress).step(query + 1, queries)
        return x_adv.reshape(x.shape)


def _side(images: Tensor, share: float, query: int, queries: int) -> int:
    """Return the side of the squares at a query: the published schedule, stretched over the number of queries."""
    iteration = query / queries * 10_000
    height, width = images.shape[2:]
    pixels = share / 2 ** sum(iteration > step for step in _HALVINGS) * height * width
    # An image of one row has segments in place of squares.
    side = round(math.sqrt(pixels)) if height > 1 else round(pixels)
    return max(1, min(side, width))


@dataclass
class _Proposals:
    """The random proposals, drawn for all images at once.

    Attributes:
        x: (n, C, H, W), the clean images.
        threat: the ball around them.
        generator: source of the draws.
    """

    x: Tensor
    threat: Threat
    generator: torch.Generator

    def first(self) -> Tensor:
        """Draw vertical stripes for linf, a chessboard of bumps for l2: (n, C, H, W)."""
        n, c, h, w = self.x.shape
        if self.threat.norm == "linf":
            stripes = self._signs(n, c, 1, w)
            return self.threat.project(self.x + self.threat.eps * stripes, self.x)
        # Tiles with about a fifth of the shorter side, each a bump of a random sign per image and channel.
        side = max(1, min(h, w) // 5)
        rows = []
        for top in range(0, h, side):
            bumps = [_bump(min(side, h - top), min(side, w - left), self.x) for left in range(0, w, side)]
            rows.append(torch.cat([self._signs(n, c, 1, 1) * bump for bump in bumps], 3))
        return self._on_the_sphere(torch.cat(rows, 2))

    def next(self, x_adv: Tensor, side: int) -> Tensor:
        """Draw a change in one square of each image: (n, C, H, W).

        Args:
            x_adv: (n, C, H, W), the best images so far.
            side: side of the square.
        """
        n, c, h, w = self.x.shape
        height, width = min(side, h), min(side, w)
        if self.threat.norm == "linf":
            # All pixels of one channel in the square move to the same face of the ball.
            square = self._window(height, width)
            return torch.where(square, self.x + self.threat.eps * self._signs(n, c, 1, 1), x_adv)
        return self._next_l2(x_adv, height, width)

    def _next_l2(self, x_adv: Tensor, height: int, width: int) -> Tensor:
        """Move the budget of two windows W₁ and W₂ into W₁ (Andriushchenko et al. 2020, algorithm 3).

        With ν = x_adv - x and η the bump of unit length, W₁ receives the direction of ρ η + ν_W₁ / |ν_W₁| at the length
        that the ball leaves, and W₂ becomes zero. The paper divides the unused budget evenly among the channels and
        normalises each channel; here all channels share the budget and are normalised together.
        """
        n, c = self.x.shape[:2]
        # W₁ and W₂: two windows at independent places, (n, 1, H, W) each.
        target = self._window(height, width)
        source = self._window(height, width)
        # ρ η: the bump, placed in W₁, with a random sign per channel.
        bump = self._placed(target, _bump(height, width, self.x)) * self._signs(n, c, 1, 1)
        delta = x_adv - self.x
        # The budget: the length that the ball leaves beside what stays outside both windows.
        outside = torch.where(target | source, 0.0, delta)
        budget = (self.threat.eps**2 - outside.square().flatten(1).sum(1)).clamp_min(0).sqrt()
        # The new direction in W₁: the bump, and the direction that W₁ has already.
        direction = torch.where(target, bump + _unit(torch.where(target, delta, 0.0)), 0.0)
        return self._on_the_sphere(outside + per_sample(budget, delta) * _unit(direction))

    def _on_the_sphere(self, delta: Tensor) -> Tensor:
        """Return the images moved along delta by ε, brought within the bounds."""
        return self.threat.project(self.x + self.threat.eps * _unit(delta), self.x)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.x.device)

    def _signs(self, *shape: int) -> Tensor:
        return torch.where(self._uniform(*shape) < 0.5, -1.0, 1.0).to(self.x)

    def _window(self, height: int, width: int) -> Tensor:
        """Draw a rectangle's place in each image and return where it lies: (n, 1, H, W), bool."""
        n, _, h, w = self.x.shape
        u = self._uniform(n, 2)
        top = (u[:, 0] * (h - height + 1)).floor()[:, None]
        left = (u[:, 1] * (w - width + 1)).floor()[:, None]
        rows, columns = (torch.arange(size, device=self.x.device)[None] for size in (h, w))
        in_rows = (rows >= top) & (rows < top + height)
        in_columns = (columns >= left) & (columns < left + width)
        return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]

    def _placed(self, window: Tensor, pattern: Tensor) -> Tensor:
        """Return the pattern in each image's window and zero elsewhere: (n, 1, H, W)."""
        placed = torch.zeros_like(self.x[:, :1])
        # The entries of a window follow one another row by row, image by image, so the pattern is repeated for each image.
        placed[window] = pattern.flatten().repeat(len(self.x))
        return placed


def _bump(height: int, width: int, like: Tensor) -> Tensor:
    """Return two opposed hills of concentric rectangles, of unit length together: the published η, (height, width)."""
    half = height // 2
    if not half:
        return _hill(height, width, like)
    pattern = torch.cat([_hill(half, width, like), -_hill(height - half, width, like)])
    return _unit(pattern[None, None])[0, 0]


def _hill(height: int, width: int, like: Tensor) -> Tensor:
    """Return Σ 1 / (r + 1)² over the concentric rectangles r = 0, 1, … that hold a pixel, at unit length."""
    rows = (torch.arange(height) - (height - 1) / 2).abs().floor()
    columns = (torch.arange(width) - (width - 1) / 2).abs().floor()
    # The smallest rectangle that holds a pixel; all larger ones hold it too, so its value is a sum from there on.
    ring = torch.maximum(rows[:, None], columns[None]).long()
    largest = int(ring.max())
    weights = torch.tensor([1 / (r + 1) ** 2 for r in range(largest + 1)], dtype=like.dtype)
    hill = weights.flip(0).cumsum(0).flip(0)[ring].to(like)
    return _unit(hill[None, None])[0, 0]


def _unit(delta: Tensor) -> Tensor:
    """Divide each sample by its Euclidean length; zeros stay zeros."""
    length = per_sample(lengths(delta), delta)
    return torch.where(length > 0, delta / torch.where(length > 0, length, 1.0), 0.0)
