"""Sums over inputs as directions in weight space: what a fitted machine evaluates without its training inputs.

Σ_j Θ(x, z_j) A_jc = Σ_o <∂f_o(x)/∂θ, w_oc> with w_oc = Σ_j A_jc ∂f_o(z_j)/∂θ: the machine on an empirical kernel is the
network's own first-order expansion. Its cost does not grow with the number of the z, and float32 loses little in it, since
the large coefficients of either sign have met in the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.kernels.empirical.tangents import Tangents
from ntklens.kernels.expansion import Slope

Directions = Mapping[str, list[Tensor]]
"""w_oc by block of the tangents."""


class ThroughWeights:
    """The function Σ_o <J_o(x), w_oc>, (n, k), and its gradients.

    Args:
        tangents: of a batch; with a graph where it requires a gradient.
        directions: w_oc.
        scale: of the sum.
        dtype: of the arithmetic.
        size: inputs that are taken at once.
    """

    def __init__(
        self,
        tangents: Callable[[Tensor], Tangents],
        directions: Directions,
        scale: float,
        dtype: torch.dtype,
        size: int,
    ) -> None:
        self._tangents, self._directions, self._scale = tangents, directions, scale
        self.dtype, self.size = dtype, size

    def __call__(self, x: Tensor) -> Tensor:
        """Its values."""
        with torch.inference_mode(False), torch.no_grad():
            return torch.cat([self.values(part) for part in self.parts(x)]).to(torch.float64)

    def vjp(self, x: Tensor) -> tuple[Tensor, Slope]:
        """Values, and their gradients, from the same pass where x is taken at once."""
        parts = self.parts(x)
        if len(parts) > 1:
            return self(x), _Anew(self, x)
        z, values = self.taped(parts[0])
        return values.detach().to(torch.float64), _Taped(self, z, values, x.dtype)

    def along(self, x: Tensor, columns: Tensor) -> tuple[Tensor, Slope]:
        """One value an input, and their gradients, found with it."""
        found = []
        for part, chosen in zip(self.parts(x), torch.split(columns, self.size), strict=True):
            z, values = self.taped(part)
            one_hot = torch.zeros_like(values).scatter_(1, chosen[:, None], 1)
            own = values.detach().gather(1, chosen[:, None])[:, 0].to(torch.float64)
            found.append((own, _Taped(self, z, values, x.dtype)(one_hot)))
        values, slopes = (torch.cat(part) for part in zip(*found, strict=True))
        return values, _Known(self, x, columns, slopes)

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Batches that fit the memory, without a graph."""
        with torch.inference_mode(False):
            inside = x.clone() if x.is_inference() else x.detach()
            return torch.split(inside.to(self.dtype), self.size)

    def taped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A leaf of the values of x, and f of it with a graph."""
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            z = x.clone().requires_grad_()
            values = self.values(z)
            return z, values if values.requires_grad else values + 0 * z.flatten(1).sum(1, keepdim=True)

    def values(self, x: Tensor) -> Tensor:
        """Values of one batch, in the dtype of the arithmetic."""
        blocks = self._tangents(x)
        terms = [block.against(self._directions[name]) for name, block in blocks.items()]
        return self._scale * sum(terms[1:], start=terms[0])


class _Taped:
    """Gradients from a graph that is kept."""

    def __init__(self, function: ThroughWeights, z: Tensor, values: Tensor, dtype: torch.dtype) -> None:
        self._function, self._z, self._values, self._dtype = function, z, values, dtype

    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        inside = weights.to(self._values)
        if rows is not None:
            if len(set(rows.tolist())) < len(rows):
                return _Anew(self._function, self._z.detach())(weights, rows).to(self._dtype)
            inside = torch.zeros_like(self._values).index_copy_(0, rows, inside)
        return self._back(inside) if rows is None else self._back(inside)[rows]

    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        out = self._z.new_empty(len(rows), *self._z.shape[1:], dtype=self._dtype)
        for column in sorted(set(columns.tolist())):
            weights = torch.zeros_like(self._values)
            weights[:, column] = 1
            here = columns == column
            out[here] = self._back(weights)[rows[here]]
        return out

    def _back(self, weights: Tensor) -> Tensor:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            return torch.autograd.grad(self._values, self._z, weights, retain_graph=True)[0].to(self._dtype)


class _Anew:
    """Gradients by another pass, part by part."""

    def __init__(self, function: ThroughWeights, x: Tensor) -> None:
        self._function, self._x = function, x

    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        x = self._x if rows is None else self._x[rows]
        parts = zip(self._function.parts(x), torch.split(weights, self._function.size), strict=True)
        return torch.cat([_Taped(self._function, *self._function.taped(part), x.dtype)(w) for part, w in parts])

    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        return self._function.along(self._x[rows], columns)[1].along(
            columns, torch.arange(len(rows), device=rows.device)
        )


class _Known(_Anew):
    """Gradients along some columns that were found beside their values, and others by another pass."""

    def __init__(self, function: ThroughWeights, x: Tensor, columns: Tensor, slopes: Tensor) -> None:
        super().__init__(function, x)
        self._columns, self._slopes = columns, slopes

    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        if torch.equal(self._columns[rows], columns):
            return self._slopes[rows]
        return super().along(columns, rows)
