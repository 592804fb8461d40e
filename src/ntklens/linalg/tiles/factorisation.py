"""A kernel matrix in tiles as kernel machines use it: filters, spectra, and training inputs that are equal."""

from __future__ import annotations

import dataclasses
import math
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.errors import InputError, NotPositiveDefinite, NumericalFailure
from ntklens.linalg.applied import Applied
from ntklens.linalg.filters import Band, Filter, GradientDescent, Ridge, check_indices, inverts
from ntklens.linalg.spectrum import Spectrum, applied
from ntklens.linalg.tiles.base import Entries, Home, Solution, TiledMatrix
from ntklens.linalg.tiles.equal import Groups, MergedEntries, equal_to_rounding
from ntklens.linalg.tiles.iterative.krylov import Space, apply_in, cell_of, descend, duration_of, gamma_of, space_of
from ntklens.linalg.tiles.iterative.leading import leading_pairs
from ntklens.linalg.tiles.layout import TILE, Layout
from ntklens.linalg.tiles.memory.packed import PackedMatrix
from ntklens.memory import available_memory
from ntklens.progress import Progress, Report

_DENSE_MATRICES = 4.5
"""Matrices (n, n) that an eigendecomposition holds at its peak, measured."""
_COLUMNS = 32
"""Right-hand sides of a Krylov space at most."""
_STEPS = 200
"""Steps of gradient descent up to which they are taken one by one."""


class TiledFactorisation:
    """Θ of many training inputs: what `Factorisation` does, with half of the storage and without a whole spectrum.

    Training inputs that are equal are one row of the matrix: with P the matrix that repeats the distinct inputs, and
    C = PᵀP their numbers, Θ = U M Uᵀ with U = P C^(-1/2), whose columns are orthonormal, and M = C^(1/2) Θ_u C^(1/2). So a
    filter is g(Θ) = U g(M) Uᵀ + g(0) (I - U Uᵀ), and for one that inverts Θ the pseudo-inverse has 0 in place of g(0):
    equal inputs are fitted to the mean of their targets.

    Args:
        home: where the tiles are kept.
        entries: of Θ.
        groups: the number of the distinct input that each input is.
        identity: a text by which tiles that were kept are recognised.
        side: rows of a tile.
    """

    def __init__(
        self, home: Home, entries: Entries, groups: Int[Tensor, " n"], identity: str, side: int = TILE
    ) -> None:
        self.home = home
        self.entries = entries
        self.identity = identity
        self.side = side
        self.last: Applied | None = None
        self._largest: float | None = None
        self._smallest: float | None = None
        self._leading: dict[int, Spectrum] = {}
        self._spaces: dict[tuple[int, int], tuple[Tensor, Space]] = {}
        self._take(Groups(groups))

    def _take(self, groups: Groups) -> None:
        self.groups = groups
        merged = MergedEntries(self.entries, groups)
        layout = Layout(groups.count, self.side)
        self.tiled: TiledMatrix = self.home.matrix(layout, merged, f"{self.identity} {groups.identity()}")
        self._largest = self._smallest = None
        self._leading, self._spaces = {}, {}

    def __len__(self) -> int:
        return len(self.groups)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes over: not the Krylov spaces, which belong to the matrix of this one."""
        return self.__dict__ | {"_spaces": {}}

    def __repr__(self) -> str:
        merged = "" if self.groups.are_alone else f", {self.groups.count} distinct"
        return f"TiledFactorisation({len(self)} x {len(self)}{merged})"

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        if self._largest is None:
            self._largest = float(self.tiled.leading(1).eigenvalues[0])
        return self._largest

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue, to three digits: the inverse of the largest one of Θ⁻¹; 0 where Θ is singular."""
        if self._smallest is None:
            self._smallest = 0.0
            if self.groups.are_alone:
                with suppress(NotPositiveDefinite):
                    inverse, _ = leading_pairs(
                        lambda v: self.tiled.solve(0.0, v).coefficients, len(self), 1, tolerance=1e-3
                    )
                    self._smallest = 1 / float(inverse.eigenvalues[0])
        return self._smallest

    @property
    def spectrum(self) -> Spectrum:
        """The whole eigendecomposition, where it fits into memory.

        Raises:
            InputError: it does not.
        """
        if len(self) not in self._leading:
            n = self.groups.count
            room, size = available_memory(), 8 * _DENSE_MATRICES * n * n
            if isinstance(self.tiled, PackedMatrix):
                size += 4 * n * n
            if room is not None and size > room:
                raise InputError(
                    f"the whole spectrum of {n:,} training inputs takes {size / 1e9:.1f} GB, and {room / 1e9:.1f} GB are "
                    "available. Ask for the leading features, such as eigenfeatures(machine, 100), or use Ridge, "
                    "GradientFlow or GradientDescent, which need no spectrum."
                )
            dense = self.tiled.dense()
            self.tiled.release()
            eigenvalues, eigenvectors = torch.linalg.eigh(dense)
            merged = Spectrum(eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1))
            self._leading[len(self)] = self.groups.lifted(merged, whole=True)
        return self._leading[len(self)]

    def leading(self, count: int, progress: Report | None = None) -> Spectrum:
        """Return the `count` largest eigenvalues and their eigenvectors.

        Up to n / 10 of them come from block Krylov iterations with residuals of 1e-10 λ_1; more are cut from the whole
        spectrum.

        Raises:
            InputError: `count` is not between 1 and n, or the spectrum that it needs does not fit into memory.
        """
        n = len(self)
        if not 1 <= count <= n:
            raise InputError(f"expected from 1 to {n} eigenvectors, as many as training inputs at most; got {count}.")
        if count > self.groups.count // 10:
            return Spectrum(self.spectrum.eigenvalues[:count], self.spectrum.eigenvectors[:, :count])
        if count not in self._leading:
            self._leading[count] = self.groups.lifted(self.tiled.leading(count, progress), whole=False)
        return self._leading[count]

    def apply(
        self,
        g: Filter,
        y: Float[Tensor, "n O"],
        spectrum: Spectrum | None = None,
        progress: Report | None = None,
    ) -> Float[Tensor, "n O"]:
        """Compute V g(Λ) Vᵀ y; `last` then says how it was found.

        `Ridge` is a linear system, `GradientFlow` and `GradientDescent` are found in a Krylov space, `Band` from the
        leading eigenpairs, and every other filter from the whole spectrum.

        Args:
            g: the filter.
            y: targets.
            spectrum: eigenpairs of this matrix that the filter acts on instead.
            progress: called with the share of the work that is done.

        Raises:
            NumericalFailure: the filter inverts eigenvalues that are zero to rounding.
            InputError: a band beyond the eigenpairs that are given, or a spectrum that does not fit into memory.
        """
        y = y.to(torch.float64)
        if spectrum is None and (inverts(g) or isinstance(g, Ridge)):
            self.last = self._solved(0.0 if inverts(g) else g.rho, y, progress)  # type: ignore[attr-defined]
        elif spectrum is None and duration_of(g) is not None:
            self.last = self._stopped(g, y, progress)
        else:
            if spectrum is None and isinstance(g, Band):
                check_indices(g.indices, len(self))
                spectrum = self.leading(max(g.indices, default=0) + 1, progress)
            chosen = self.spectrum if spectrum is None else spectrum
            self.last = Applied(applied(chosen, g, y), f"{len(chosen.eigenvalues):,} eigenpairs")
        Progress(progress)(1.0)
        return self.last.coefficients

    def _solved(self, rho: float, y: Tensor, progress: Report | None) -> Applied:
        try:
            solution = self.tiled.solve(rho, self.groups.merged(y), progress)
        except NumericalFailure:
            # Two inputs may be equal for the kernel without being so pixel by pixel.
            nearer = equal_to_rounding(self.entries, self.groups, self.side)
            if nearer.count == self.groups.count:
                raise
            # The first matrix may be in a folder, which keeps it.
            before, self.home = self.home, self.home.apart("merged")
            self.tiled.release()
            try:
                self._take(nearer)
            except InputError:
                self.home = before
                raise
            solution = self.tiled.solve(rho, self.groups.merged(y), progress)
        apart = self.groups.orthogonal(y)
        a = self.groups.spread(solution.coefficients) + (apart / rho if rho > 0 else 0.0)
        fields = {f.name: getattr(solution, f.name) for f in dataclasses.fields(Solution)}
        return Applied(**fields | {"coefficients": a, "residual": self._residual(solution.residual, rho, y, apart)})

    def _residual(self, merged: float, rho: float, y: Tensor, apart: Tensor) -> float:
        """Return the residual of the whole system: at ridge 0 no solution fits targets of equal inputs that differ."""
        if self.groups.are_alone or rho > 0:
            return merged
        sizes = y.norm(dim=0)
        missed = (apart.norm(dim=0) / sizes)[sizes > 0].tolist()
        return math.hypot(merged, max(missed, default=0.0))

    def _stopped(self, g: Filter, y: Tensor, progress: Report | None) -> Applied:
        """Apply a filter that stops early, and whose value at the eigenvalue 0 is τ."""
        duration = duration_of(g)
        assert duration is not None
        merged = self.groups.merged(y)
        rest = duration * self.groups.orthogonal(y)
        if duration == 0 or not bool(merged.any()):
            return Applied(duration * y, "no step is taken" if duration == 0 else "targets of zero", error=0.0)
        if isinstance(g, GradientDescent):
            g(torch.tensor([self.largest], dtype=torch.float64))  # raises where the descent diverges
            if g.steps <= _STEPS:
                a = self.groups.spread(descend(self.tiled.multiply, g, merged)) + rest
                return Applied(a, f"{g.steps} steps of gradient descent", error=0.0, iterations=g.steps)
        if y.shape[1] > _COLUMNS:
            # A Krylov space keeps a block per application: many columns are taken a few at a time.
            parts = [self._stopped(g, y[:, i : i + _COLUMNS], None) for i in range(0, y.shape[1], _COLUMNS)]
            a = torch.cat([part.coefficients for part in parts], 1)
            return dataclasses.replace(parts[0], coefficients=a, error=max(part.error or 0.0 for part in parts))
        if duration * self.largest < 1e-17:
            return Applied(duration * y, "the first order in a time near zero", error=1e-17)
        cell = cell_of(duration)
        try:
            space = self._space(cell, merged, progress)
            found, error, applications = apply_in(space, g)
        except NumericalFailure as failure:
            # Targets that lie in few eigenvectors are found by the spectrum alone, where it fits.
            try:
                chosen = self.spectrum
            except InputError:
                raise failure from None
            return Applied(applied(chosen, g, y), f"{len(chosen.eigenvalues):,} eigenpairs")
        a = self.groups.spread(found) + rest
        method = f"a rational Krylov space with the shift {1 / gamma_of(cell):.2g}"
        return Applied(a, method, error=error, iterations=applications)

    def _space(self, cell: int, merged: Tensor, progress: Report | None) -> Space:
        """Return the Krylov space of a cell that starts at these targets; a few are kept."""
        for key, (targets, space) in self._spaces.items():
            if key[0] == cell and targets.shape == merged.shape and torch.equal(targets, merged):
                return space
        largest, rho = self.largest, 1 / gamma_of(cell)

        def shifted_inverse(v: Tensor) -> tuple[Tensor, float]:
            solution = self.tiled.solve(rho, v)
            return rho * solution.coefficients, solution.residual

        space = space_of(cell, shifted_inverse, merged, largest, progress)
        if len(self._spaces) >= 4:
            self._spaces.pop(next(iter(self._spaces)))
        self._spaces[cell, len(self._spaces)] = merged, space
        return space
