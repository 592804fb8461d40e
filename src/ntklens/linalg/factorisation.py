"""A symmetric positive semidefinite matrix, factored once and applied often."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.errors import InputError, NotPositiveDefinite
from ntklens.linalg.applied import Applied
from ntklens.linalg.filters import Filter, Ridge, inverts, rounding_floor
from ntklens.linalg.spectrum import Spectrum, applied
from ntklens.linalg.tiles.equal import Groups, equal_to_rounding


class Factorisation:
    """The Cholesky factor and the spectrum of one matrix, each computed when it is first needed and stored for later calls.

    The stored factors save time and never change a result: which method answers a call depends on the arguments of the
    call alone, so the same call gives the same bits whatever was computed before.

    Args:
        matrix: Θ, (n, n), symmetric; it is held in float64.
    """

    def __init__(self, matrix: Float[Tensor, "n n"]) -> None:
        self.matrix = matrix.to(torch.float64)
        self._spectrum: Spectrum | None = None
        self._leading: dict[int, Spectrum] = {}
        self._cholesky: tuple[float, Tensor] | None = None
        self._merged: Tensor | None = None
        self.last: Applied | None = None

    def __len__(self) -> int:
        return len(self.matrix)

    def __repr__(self) -> str:
        return f"Factorisation({len(self.matrix)} x {len(self.matrix)})"

    @property
    def largest(self) -> float:
        """The largest eigenvalue, from the whole spectrum."""
        return float(self.spectrum.eigenvalues[0])

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue, from the whole spectrum; 0 for one that rounding has made negative."""
        return float(self.spectrum.eigenvalues[-1])

    @property
    def spectrum(self) -> Spectrum:
        """The whole eigendecomposition, computed once at a cost of about 9 n³."""
        if self._spectrum is None:
            eigenvalues, eigenvectors = torch.linalg.eigh(self.matrix)  # in ascending order
            self._spectrum = Spectrum(eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1))
        return self._spectrum

    def leading(self, count: int) -> Spectrum:
        """Return the `count` largest eigenvalues and their eigenvectors.

        Up to n / 10 of them come from the Lanczos method (ARPACK), at a cost of a few n² per eigenpair; more are cut from
        the whole spectrum.

        Raises:
            InputError: `count` is not between 1 and n.
        """
        n = len(self.matrix)
        if not 1 <= count <= n:
            raise InputError(f"expected from 1 to {n} eigenvectors, as many as training inputs at most; got {count}.")
        if count > n // 10:
            return Spectrum(self.spectrum.eigenvalues[:count], self.spectrum.eigenvectors[:, :count])
        # One entry per count: the leading part of a longer Lanczos run has other rounding errors than a run of its own.
        if count not in self._leading:
            self._leading[count] = _lanczos(self.matrix, count)
        return self._leading[count]

    def solve(self, rho: float, y: Float[Tensor, "n O"]) -> Float[Tensor, "n O"]:
        """Compute (Θ + ρ I)⁻¹ y by a Cholesky decomposition.

        The factor costs n³/3 and is stored until another ρ is asked for: one factor takes as much memory as the matrix, and
        a sweep over ridges needs each of them once.

        Raises:
            NotPositiveDefinite: Θ + ρ I is singular to rounding.
        """
        if self._cholesky is None or self._cholesky[0] != rho:
            self._cholesky = None  # frees the earlier factor before the next one is computed
            self._cholesky = rho, _cholesky(self.matrix, rho)
        y, factor = y.to(torch.float64), self._cholesky[1]
        return self._solution(torch.cholesky_solve(y, factor), y, rho, factor)

    def solve_merged(self, groups: Int[Tensor, " n"], y: Float[Tensor, "n O"]) -> Float[Tensor, "n O"]:
        """Compute Θ⁺ y where inputs are repeated: the solution of least squares that has the least norm.

        With P the matrix that repeats the distinct inputs, Θ = P Θ_u Pᵀ, and C = PᵀP counts the copies. Then
        Θ⁺ = P C⁻¹ Θ_u⁻¹ C⁻¹ Pᵀ: the mean of y over equal inputs is solved for, and divided among them.

        Args:
            groups: the number of the distinct input that each input is, from 0 on.
            y: targets.

        Raises:
            NotPositiveDefinite: Θ_u is singular to rounding.
        """
        count = int(groups.max()) + 1
        y = y.to(torch.float64)
        copies = torch.bincount(groups, minlength=count).to(y)[:, None]
        means = y.new_zeros(count, y.shape[1]).index_add(0, groups, y) / copies
        if self._merged is None:
            # A place of each distinct input; all copies have the same row in Θ.
            place = groups.new_zeros(count).index_copy(0, groups, torch.arange(len(groups), device=groups.device))
            self._merged = _cholesky(self.matrix[place][:, place], 0.0)
        solution = (torch.cholesky_solve(means, self._merged) / copies)[groups]
        return self._solution(solution, y, 0.0, self._merged)

    def equal_to_rounding(self) -> Int[Tensor, " n"]:
        """Return which rows are equal to the rounding of float64: for each the number of the distinct row that it is."""
        matrix = self.matrix
        groups = Groups(torch.arange(len(matrix)))
        return equal_to_rounding(lambda rows, columns: matrix[rows][:, columns].cpu(), groups, 1024).numbers

    def _solution(self, a: Tensor, y: Tensor, rho: float, factor: Tensor) -> Tensor:
        """Keep how far a solution can be trusted, and return it."""
        left = (self.matrix @ a + rho * a - y).norm(dim=0) / y.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        residual = max(left.tolist(), default=0.0)
        self.last = Applied(a, "Cholesky in float64", residual, smallest_pivot=float(factor.diagonal().min()) ** 2)
        return a

    def apply(self, g: Filter, y: Float[Tensor, "n O"], spectrum: Spectrum | None = None) -> Float[Tensor, "n O"]:
        """Compute V g(Λ) Vᵀ y, the coefficients of the predictor that a filter makes of the targets y.

        `Ridge` is solved by Cholesky, which costs a small part of an eigendecomposition and loses fewer digits; every other
        filter takes the whole spectrum. With `spectrum`, any filter, `Ridge` too, is applied to these eigenpairs instead.

        Args:
            g: the filter.
            y: targets.
            spectrum: eigenpairs of this matrix, from `spectrum` or `leading`; eigenvectors that are not among them have
                weight 0.

        Raises:
            NumericalFailure: the filter inverts eigenvalues that are zero to rounding.
            InputError: a band beyond the eigenpairs that are given.
        """
        if spectrum is None:
            if inverts(g):
                return self.solve(0.0, y)
            if isinstance(g, Ridge):
                return self.solve(g.rho, y)
            spectrum = self.spectrum
        self.last = Applied(applied(spectrum, g, y), f"{len(spectrum.eigenvalues):,} eigenpairs")
        return self.last.coefficients


def _lanczos(matrix: Tensor, count: int) -> Spectrum:
    """Compute the leading eigenpairs from a fixed starting vector, so that every run gives the same bits."""
    from scipy.sparse.linalg import eigsh  # slow to import, and used by this function alone

    n = len(matrix)
    start = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eigenvalues, eigenvectors = eigsh(matrix.cpu().numpy(), count, which="LA", v0=start.numpy())
    order = eigenvalues.argsort()[::-1]
    return Spectrum(
        torch.from_numpy(eigenvalues[order].copy()).to(matrix.device),
        torch.from_numpy(eigenvectors[:, order].copy()).to(matrix.device),
    )


def _cholesky(matrix: Tensor, rho: float) -> Tensor:
    """Compute L with L Lᵀ = Θ + ρ I.

    Raises:
        NotPositiveDefinite: a pivot is not above what rounding leaves of zero.
    """
    shifted = matrix.clone()
    shifted.diagonal().add_(rho)
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(shifted)
    # LAPACK stops at pivots that are not positive. A pivot L_ii² is an upper bound of the smallest eigenvalue: if one is
    # no larger than rounding errors, the matrix is singular as far as float64 can tell, and the solution would be noise.
    smallest_pivot = float(factor.diagonal().min()) ** 2
    floor = rounding_floor(float(shifted.diagonal().max()), len(shifted))
    if int(info) or not smallest_pivot > floor:
        raise NotPositiveDefinite(
            f"the kernel matrix is not positive definite to rounding (ridge {rho:g}): {_reason(matrix)}. Use a larger "
            "ridge, such as Ridge(1e-6) or --ridge 1e-6, or a finite time."
        )
    return factor


def _reason(matrix: Tensor) -> str:
    """Say why a kernel matrix is singular: two inputs that it hardly tells apart, or a rank below their number."""
    scale = matrix.diagonal().clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    best, pair = -1.0, (0, 0)
    for start in range(0, len(matrix), 1024):  # in blocks, because memory is scarce where matrices are large
        block = scale[start : start + 1024, None] * matrix[start : start + 1024] * scale
        rows = torch.arange(len(block), device=block.device)
        block[rows, start + rows] = -1.0
        value, place = block.flatten().max(0)
        if float(value) > best:
            best, pair = float(value), divmod(int(place), len(matrix))
            pair = (start + pair[0], pair[1])
    if 1 - best < 1e-8:
        return f"the inputs {min(pair)} and {max(pair)} are duplicates for the kernel"
    return "its rank is below the number of inputs"


def equal_rows(rows: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Number the distinct rows of a matrix from 0 on, in the order in which they come; return the number of each row."""
    numbers: dict[bytes, int] = {}
    result = []
    for row in rows.detach():
        # The addition makes the two zeros one. A digest of 16 bytes stands for the row, so that memory does not grow.
        plain = (row.to(torch.float64) + 0.0).cpu().contiguous().numpy()
        digest = hashlib.blake2b(plain.data, digest_size=16).digest()
        result.append(numbers.setdefault(digest, len(numbers)))
    return torch.tensor(result, device=rows.device)
