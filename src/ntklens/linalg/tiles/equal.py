"""Training inputs that are equal, or equal for the kernel: one row of the matrix stands for all of them."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.linalg.filters import rounding_floor
from ntklens.linalg.spectrum import Spectrum
from ntklens.linalg.tiles.base import Entries
from ntklens.linalg.tiles.layout import Layout


class Groups:
    """Which inputs are equal.

    With P the matrix that repeats the distinct inputs and C = PᵀP their numbers, U = P C^(-1/2) has orthonormal columns.

    Args:
        numbers: (n,), the number of the distinct input that each input is, from 0 on without gaps.

    Attributes:
        count: number of distinct inputs.
        places: (count,), an input for each distinct one: the first.
        roots: (count,), the square root of the number of copies of each, in float64.
    """

    def __init__(self, numbers: Int[Tensor, " n"]) -> None:
        n = len(numbers)
        # Distinct inputs are numbered in the order in which they come, so that inputs that all differ are 0, 1, 2, ...
        first = torch.full((int(numbers.max()) + 1,), n).scatter_reduce(0, numbers, torch.arange(n), "amin")
        self.places, order = first.sort()
        self.numbers = torch.empty_like(order).index_copy(0, order, torch.arange(len(order)))[numbers]
        self.count = len(self.places)
        self.roots = torch.bincount(self.numbers, minlength=self.count).to(torch.float64).sqrt()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def are_alone(self) -> bool:
        """Whether no two inputs are equal."""
        return self.count == len(self.numbers)

    def identity(self) -> str:
        """Return a text that other groups do not have."""
        if self.are_alone:
            return "all distinct"
        digest = hashlib.blake2b(self.numbers.numpy().tobytes(), digest_size=8).hexdigest()
        return f"{self.count} distinct ({digest})"

    def merged(self, y: Float[Tensor, "n k"]) -> Float[Tensor, "count k"]:
        """Compute Uᵀ y."""
        if self.are_alone:
            return y
        return y.new_zeros(self.count, y.shape[1]).index_add(0, self.numbers, y) / self.roots[:, None]

    def spread(self, a: Float[Tensor, "count k"]) -> Float[Tensor, "n k"]:
        """Compute U a."""
        return a if self.are_alone else (a / self.roots[:, None])[self.numbers]

    def orthogonal(self, y: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Compute (I - U Uᵀ) y: how each target differs from the mean of those of equal inputs."""
        return torch.zeros_like(y) if self.are_alone else y - self.spread(self.merged(y))

    def lifted(self, spectrum: Spectrum, *, whole: bool) -> Spectrum:
        """Return eigenpairs of Θ from those of the merged matrix.

        Args:
            spectrum: of C^(1/2) Θ_u C^(1/2).
            whole: whether eigenvectors of the eigenvalue 0 are added, one for each copy of an input.
        """
        if self.are_alone:
            return spectrum
        vectors = self.spread(spectrum.eigenvectors)
        if not whole:
            return Spectrum(spectrum.eigenvalues, vectors)
        contrasts = self._contrasts()
        zeros = spectrum.eigenvalues.new_zeros(contrasts.shape[1])
        return Spectrum(torch.cat([spectrum.eigenvalues, zeros]), torch.cat([vectors, contrasts], 1))

    def _contrasts(self) -> Tensor:
        """Return an orthonormal basis of what U leaves out: each copy against the mean of the earlier ones."""
        columns = torch.zeros(len(self), len(self) - self.count, dtype=torch.float64)
        seen: dict[int, list[int]] = {}
        column = 0
        for i, number in enumerate(self.numbers.tolist()):
            earlier = seen.setdefault(number, [])
            if earlier:
                size = len(earlier)
                columns[earlier, column] = 1 / (size * (size + 1)) ** 0.5
                columns[i, column] = -((size / (size + 1)) ** 0.5)
                column += 1
            earlier.append(i)
        return columns


class MergedEntries:
    """The entries of C^(1/2) Θ_u C^(1/2), from those of Θ.

    Args:
        entries: of Θ.
        groups: which rows are equal.
    """

    def __init__(self, entries: Entries, groups: Groups) -> None:
        self.entries = entries
        self.places = None if groups.are_alone else groups.places
        self.roots = groups.roots

    def __call__(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Compute a block in float64."""
        if self.places is None:
            return self.entries(rows, columns)
        if isinstance(rows, slice) and rows == columns:
            own = self.places[rows]
            block = self.entries(own, own)
        else:
            block = self.entries(self.places[rows], self.places[columns])
        return block * self.roots[rows][:, None] * self.roots[columns]


def equal_to_rounding(entries: Entries, groups: Groups, side: int) -> Groups:
    """Return the groups of inputs that are equal for the kernel, to the rounding of float64.

    Their distance in the kernel's feature space is zero: Θ_ii + Θ_jj - 2 Θ_ij. Inputs that are parallel there, such as an
    image and its half for a network without biases, leave a singular matrix too, and are not equal.

    Args:
        entries: of Θ.
        groups: those that are known already.
        side: rows of the blocks that are looked at.
    """
    places, layout = groups.places, Layout(groups.count, side)
    spans = [places[layout.span(i)] for i in range(layout.blocks)]
    diagonals = [entries(span, span).diagonal() for span in spans]
    floor = rounding_floor(1.0, groups.count)
    joined = list(range(groups.count))
    for i, j in layout.tiles():
        block = entries(spans[i], spans[i] if i == j else spans[j])
        left, right = diagonals[i][:, None], diagonals[j]
        is_equal = left + right - 2 * block <= floor * torch.maximum(left, right)
        if i == j:
            is_equal &= torch.ones_like(is_equal).tril(-1)
        for row, column in is_equal.nonzero().tolist():
            _join(joined, i * side + row, j * side + column)
    roots = torch.tensor([_root(joined, i) for i in range(len(joined))])
    _, numbers = torch.unique(roots, return_inverse=True)
    return Groups(numbers[groups.numbers])


def _root(joined: list[int], i: int) -> int:
    while joined[i] != i:
        i = joined[i]
    return i


def _join(joined: list[int], a: int, b: int) -> None:
    a, b = _root(joined, a), _root(joined, b)
    joined[max(a, b)] = min(a, b)
