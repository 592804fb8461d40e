"""Conjugate gradients for many right-hand sides at once, which can be interrupted and continued.

Every column has step sizes of its own; the columns share the products with the matrix, which are what costs. The residual
that the recursion carries along drifts away from y - A x by rounding. So it is computed anew when the recursion has
converged, and where it is above the tolerance the iteration starts again on it: this is iterative refinement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ntklens.errors import NotPositiveDefinite, NumericalFailure
from ntklens.progress import Report

ACCEPTED = 1e-8
"""The relative residual up to which a solution that float64 cannot improve is returned rather than refused."""


@dataclass(frozen=True)
class State:
    """All that the iteration needs to go on, between two steps. Continuing from it gives the same bits as not stopping.

    Attributes:
        x: the solutions so far, (n, k).
        r: their residuals as the recursion has them, (n, k).
        p: the search directions, (n, k).
        rz: rᵀ M⁻¹ r for each column, (k,).
        active: which columns have not converged, (k,).
        best: the least true residual of each column at a start, relative to |y|, (k,).
        steps: products so far.
    """

    x: Float[Tensor, "n k"]
    r: Float[Tensor, "n k"]
    p: Float[Tensor, "n k"]
    rz: Float[Tensor, " k"]
    active: Bool[Tensor, " k"]
    best: Float[Tensor, " k"]
    steps: int

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors by name, to be saved."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "steps"}
        return {name: tensor.contiguous() for name, tensor in named.items()} | {"steps": torch.tensor(self.steps)}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> State:
        """Return the state that `tensors` gave."""
        rest = {name: tensor for name, tensor in tensors.items() if name != "steps"}
        return cls(**rest, steps=int(tensors["steps"]))


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor],
    y: Float[Tensor, "n k"],
    precondition: Callable[[Tensor], Tensor],
    *,
    tolerance: float = 1e-12,
    most: int = 1000,
    floor: float = 0.0,
    progress: Report | None = None,
    start: State | None = None,
    save: Callable[[State], None] | None = None,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, " k"], int]:
    """Solve A X = Y for a symmetric positive definite matrix A.

    Args:
        multiply: computes A P for P of shape (n, k), in float64.
        y: Y.
        precondition: computes M⁻¹ R, an approximation of A⁻¹ R that is symmetric positive definite.
        tolerance: of the residuals |Y - A X| / |Y|, column by column. Where float64 does not reach it, the solution that
            it reaches is returned, up to a residual of 1e-8.
        most: products at most.
        floor: no eigenvalue of A above rounding errors is smaller.
        progress: called with a share from 0 to 1, by the digits of the largest residual.
        start: the state to continue from.
        save: called with the state after each step; it decides by itself how often to keep one.

    Returns:
        X; the true residual of each column relative to Y's, in float64; and the number of products.

    Raises:
        NumericalFailure: A is singular to rounding, or the residuals stay too large.
    """
    y = y.to(torch.float64)
    scale = y.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    state = _first(y, precondition) if start is None else start
    share = 0.0
    while True:
        while bool(state.active.any()) and state.steps < most - 1:
            state = _step(state, multiply, precondition, tolerance * scale, floor)
            if progress is not None:
                worst = float((state.r.norm(dim=0) / scale).max())
                share = max(share, min(1.0, math.log(max(worst, tolerance)) / math.log(tolerance)))
                progress(share)
            if save is not None:
                save(state)
        # The recursion has converged. Start again on the true residual, unless that has not helped the last time.
        residual = y - multiply(state.x)
        relative = residual.norm(dim=0) / scale
        state = replace(state, steps=state.steps + 1)
        again = (relative > tolerance) & (relative < state.best / 2)
        if not bool(again.any()) or state.steps >= most:
            break
        z = precondition(residual)
        state = replace(
            state,
            r=residual,
            p=z,
            rz=(residual * z).sum(dim=0),
            active=again,
            best=torch.minimum(relative, state.best),
        )
    worst = float(relative.max())
    if not worst <= max(tolerance, ACCEPTED):
        raise NumericalFailure(
            f"conjugate gradients did not converge in {state.steps} products with the kernel matrix: the residual is "
            f"{worst:.1e} of the targets. Use a larger ridge, such as Ridge(1e-6) or --ridge 1e-6, or a finite time."
        )
    return state.x, relative, state.steps


def _first(y: Tensor, precondition: Callable[[Tensor], Tensor]) -> State:
    z = precondition(y)
    # Without a residual nothing is to be done: the solution of A x = 0 is 0.
    active = y.norm(dim=0) > 0
    best = torch.full((y.shape[1],), math.inf, dtype=torch.float64)
    return State(torch.zeros_like(y), y.clone(), z, (y * z).sum(dim=0), active, best, 0)


def _step(
    state: State,
    multiply: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    target: Tensor,
    floor: float,
) -> State:
    """Take one step in the columns that have not converged; the others stay as they are."""
    columns = state.active.nonzero().flatten()
    x, r, p = (tensor[:, columns] for tensor in (state.x, state.r, state.p))
    rz = state.rz[columns]
    image = multiply(p)
    curvature = (p * image).sum(dim=0)
    # pᵀAp / pᵀp is no less than the smallest eigenvalue. One that is zero to rounding makes every further step noise.
    least = float((curvature / p.square().sum(dim=0)).min())
    if not least > floor:
        raise NotPositiveDefinite(
            f"the kernel matrix is not positive definite to rounding: conjugate gradients met the curvature {least:.1e}. "
            "Use a larger ridge, such as Ridge(1e-6) or --ridge 1e-6, or a finite time."
        )
    alpha = rz / curvature
    x, r = x + alpha * p, r - alpha * image
    z = precondition(r)
    rz_next = (r * z).sum(dim=0)
    p = z + (rz_next / rz) * p
    new = {"x": state.x.clone(), "r": state.r.clone(), "p": state.p.clone(), "rz": state.rz.clone()}
    for name, tensor in (("x", x), ("r", r), ("p", p), ("rz", rz_next)):
        new[name][..., columns] = tensor
    active = state.active.clone()
    active[columns] = r.norm(dim=0) > target[columns]
    return replace(state, **new, active=active, steps=state.steps + 1)
