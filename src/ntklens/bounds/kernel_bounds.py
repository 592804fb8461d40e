"""Lower bounds of functions Σ_j a_j K(x, x_j) over balls around images, for many columns of coefficients at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ntklens.arguments import as_count
from ntklens.attacks import Threat
from ntklens.bounds.balls import Balls, balls
from ntklens.bounds.linear import linear_bounds
from ntklens.bounds.profile import Profile
from ntklens.bounds.quadratic import quadratic_bound
from ntklens.bounds.terms import Training, terms
from ntklens.errors import NumericalFailure, UnsupportedLayer
from ntklens.kernels.analytic import AnalyticKernel
from ntklens.kernels.base import Kernel
from ntklens.kernels.elementary import LinearKernel
from ntklens.kernels.nngp import NNGPKernel

_PER_TERM = {True: 64, False: 600}
"""Numbers that are held per image and training input while terms are enclosed; more where H depends on ρ."""
_AGREE = 1e-10
"""By how much, relative to the largest value, the network's kernel may differ from the form that is bounded."""
_BLOCK = 64
"""Images whose terms are enclosed together at most."""
_COMPARED = 32
"""Training inputs on which the two are compared."""


class KernelBounds:
    """Bounds of all functions Σ_j a_j K(x, x_j) of one kernel and its training inputs.

    Args:
        kernel: the NTK or the NNGP of a network of dense layers with leaky rectifiers, erf or GELU, or a linear kernel.
        inputs: (n, *shape), in float64.
        memory_limit: bytes of working memory, about.

    Raises:
        UnsupportedLayer: no bound is known for this kernel.
        NumericalFailure: the kernel differs from the form that is bounded.
    """

    def __init__(self, kernel: Kernel, inputs: Tensor, memory_limit: int = 1 << 30) -> None:
        self.inputs = inputs.to(torch.float64)
        self.memory_limit = as_count(memory_limit, "memory_limit")
        self.profile: Profile | None = None
        if isinstance(kernel, LinearKernel):
            return
        if isinstance(kernel, AnalyticKernel):
            self.profile = Profile(kernel.graph(tuple(inputs.shape[1:])))
        elif isinstance(kernel, NNGPKernel):
            self.profile = Profile(kernel.ntk.graph(tuple(inputs.shape[1:])), "nngp")
        else:
            raise UnsupportedLayer(
                f"no certificate for a machine on {kernel!r}: proofs are known for the analytic kernels of dense networks "
                "with ReLU, erf or GELU. Use nl.smooth, which certifies a smoothed classifier with a stated probability."
            )
        self.seen = self._not_black()
        self.training = Training.of(self.inputs[self.seen], self.profile)
        self._compare(kernel)

    def _not_black(self) -> Tensor:
        """Return which training inputs the first layer does not map to zero: (n,), bool.

        Where no layer but the last has biases, the kernel with one that it does is the constant that the last one adds.
        """
        assert self.profile is not None
        seen = (self.inputs.flatten(1) != 0).any(1) | (self.profile.first.b_std > 0)
        if not bool(seen.all()) and not (self.profile.is_homogeneous and bool(seen.any())):
            raise UnsupportedLayer(
                f"no certificate for this machine: its training input {int((~seen).nonzero()[0])} is black, and the first "
                "layer has no biases. Give it some, or leave the black input out."
            )
        return seen

    def _compare(self, kernel: Kernel) -> None:
        """Check the form that is bounded against the kernel itself, because a proof about another function is none."""
        assert self.profile is not None
        inputs = self.inputs[self.seen]
        some = inputs[: _COMPARED // 4]
        other = inputs[torch.linspace(0, len(inputs) - 1, min(_COMPARED, len(inputs))).long()]
        x, z = Training.of(some, self.profile), Training.of(other, self.profile)
        bias = self.profile.first.b_std**2 / (x.norms[:, None] * z.norms)
        cosines = (x.units @ z.units.T + bias).clamp(max=1.0)
        value, _, _ = self.profile.along(cosines, x.norms[:, None], z.norms)
        ours = value * x.norms[:, None] * z.norms + self.profile.offset
        theirs = kernel(some, other)
        # Near equal and near opposite inputs the arc cosine has half of the digits.
        far = cosines.abs() < 1 - 1e-6
        difference = ((ours - theirs).abs() * far).max() / theirs.abs().max().clamp(min=1e-300)
        if not float(difference) <= _AGREE:
            raise NumericalFailure(
                f"the kernel differs by {float(difference):.1e} of its largest value from the form that is bounded, so "
                "that nothing can be certified. Please report this network."
            )

    def linear(self, x: Tensor, threat: Threat, coefficients: Tensor) -> Tensor:
        """Bound every column's function over the ball around every image, in milliseconds per image: (m, F).

        Args:
            x: (m, *shape), images within the threat's bounds.
            threat: the balls.
            coefficients: (n, F), in float64.
        """
        results = [part.linear(coefficients) for _, part in self.parts(x, threat, coefficients.shape[1])]
        return torch.cat(results) if results else torch.empty(0, coefficients.shape[1], dtype=torch.float64)

    def quadratic(self, x: Tensor, threat: Threat, column: Tensor) -> Tensor:
        """Bound one function over the ball around each image, in a tenth of a second or more per image: (m,).

        Args:
            x: (m, *shape), images within the threat's bounds.
            threat: the balls.
            column: (n,) coefficients, or (n, m) for one function per image.
        """
        columns = column[:, None].expand(-1, len(x)) if column.ndim == 1 else column
        result = torch.empty(len(x), dtype=torch.float64)
        for rows, part in self.parts(x, threat):
            for place, i in enumerate(range(rows.start, min(rows.stop, len(x)))):
                result[i] = part.quadratic(place, columns[:, i])
        return result

    def parts(
        self, x: Tensor, threat: Threat, columns: int = 1, radii: Tensor | None = None
    ) -> Iterator[tuple[slice, BallBounds]]:
        """Yield the balls around images, so many together that their terms fit the memory limit.

        Args:
            x: (m, *shape), images within the threat's bounds.
            threat: the balls.
            columns: number of columns that will be bounded together.
            radii: (m,), a radius for each image in place of the threat's.
        """
        area = balls(x, threat, radii)
        numbers = 3 * columns + (_PER_TERM[self.profile.is_homogeneous] if self.profile is not None else 1)
        size = max(1, min(_BLOCK, self.memory_limit // (8 * numbers * max(1, len(self.inputs)))))
        for start in range(0, len(area), size):
            rows = slice(start, start + size)
            yield rows, BallBounds(self, area[rows])


class BallBounds:
    """Bounds over the balls around a few images, whose terms are enclosed once for all coefficients.

    Args:
        kernel: the kernel and its training inputs.
        area: the balls.
    """

    def __init__(self, kernel: KernelBounds, area: Balls) -> None:
        self._kernel = kernel
        self._area = area
        self._terms = None if kernel.profile is None else terms(kernel.profile, kernel.training, area)

    def linear(self, coefficients: Tensor) -> Tensor:
        """Bound every column's function over every ball: (m, F)."""
        if self._terms is None:
            return self._exact(coefficients)
        return linear_bounds(self._terms, self._kernel.training, self._area, *self._scaled(coefficients))

    def quadratic(self, row: int, column: Tensor) -> Tensor:
        """Bound one function over the ball of one image: a tensor without axes."""
        one = slice(row, row + 1)
        if self._terms is None:
            return self._exact(column[:, None])[row, 0]
        alpha, offset = self._scaled(column[:, None])
        found = self._terms.of(one)
        assert self._kernel.profile is not None
        return quadratic_bound(
            self._kernel.profile, found, self._kernel.training, self._area[one], alpha[:, 0], offset[0]
        )

    def _scaled(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Return α = a |ẑ|, and what the constant part of the kernel adds to each function."""
        assert self._kernel.profile is not None
        a = coefficients.to(torch.float64)
        alpha = a[self._kernel.seen] * self._kernel.training.norms[:, None]
        return alpha, self._kernel.profile.offset * a.sum(0)

    def _exact(self, coefficients: Tensor) -> Tensor:
        """Compute the exact minimum of linear functions: (m, F)."""
        flat, area = self._kernel.inputs.flatten(1), self._area
        weights = coefficients.T.to(torch.float64) @ flat / flat.shape[1]
        values = area.centres @ weights.T
        slack = 1e-12 * (area.centres.abs() @ weights.abs().T)
        return values - area.reach(weights.expand(len(area), *weights.shape)) - slack
