"""A symmetric matrix in tiles: what is asked of it wherever the tiles are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import NumericalFailure
from ntklens.linalg.spectrum import Spectrum
from ntklens.linalg.tiles.layout import Layout
from ntklens.progress import Report

if TYPE_CHECKING:
    from ntklens.linalg.tiles.plan import Plan


@runtime_checkable
class Entries(Protocol):
    """The entries of a symmetric positive semidefinite matrix, computed block by block.

    A cluster sends this object to its workers, so that it has to be one that can be copied to another process.
    """

    def __call__(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Compute a block in float64.

        Args:
            rows: which rows, as a slice or as indices.
            columns: which columns. For two equal slices, and where this is the object `rows`, the block is exactly
                symmetric.
        """
        ...


@dataclass(frozen=True)
class Solution:
    """(Θ + ρ I)⁻¹ y, and how far it can be trusted.

    Attributes:
        coefficients: (n, O), in float64.
        method: how it was computed, as a phrase for a report.
        residual: |(Θ + ρ I) A - y| / |y| in the Frobenius norm, in float64; the largest of the columns.
        smallest_pivot: the smallest pivot of an exact factor; None where there is none.
        jitter: what was added to the diagonal of a preconditioner to keep it positive definite; it changes the speed alone.
        iterations: steps of conjugate gradients; 0 for a direct solution.
    """

    coefficients: Tensor
    method: str
    residual: float
    smallest_pivot: float | None = None
    jitter: float = 0.0
    iterations: int = 0


class TiledMatrix(ABC):
    """A symmetric positive semidefinite matrix Θ whose lower triangle is kept in tiles.

    Attributes:
        layout: where the tiles are cut.
    """

    layout: Layout

    @abstractmethod
    def write(self, progress: Report | None = None) -> None:
        """Compute the tiles that are missing.

        Args:
            progress: called with the share of the entries that is there, from 0 to 1.
        """

    @abstractmethod
    def multiply(self, y: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Compute Θ y in float64."""

    @abstractmethod
    def solve(self, rho: float, y: Float[Tensor, "n O"], progress: Report | None = None) -> Solution:
        """Compute (Θ + ρ I)⁻¹ y.

        Raises:
            NumericalFailure: Θ + ρ I is singular to rounding, or the iteration does not converge.
        """

    @abstractmethod
    def leading(self, count: int, progress: Report | None = None) -> Spectrum:
        """Return the `count` largest eigenvalues and their eigenvectors.

        Raises:
            InputError: `count` is not between 1 and n.
        """

    def dense(self) -> Float[Tensor, "n n"]:
        """Return the whole matrix in float64, in a tensor of its own."""
        return self.multiply(torch.eye(self.layout.n, dtype=torch.float64))

    def release(self) -> None:  # noqa: B027
        """Give back what memory the matrix takes; what is needed later is computed again."""


def check_finite_block(block: Tensor) -> None:
    """Raise NumericalFailure unless all entries of a block are finite numbers."""
    # The sum of finite numbers may overflow, so that each of them is looked at only where the sum is not finite.
    if not bool(block.sum().isfinite()) and not bool(block.isfinite().all()):
        raise NumericalFailure(
            "an entry of the kernel matrix is not a finite number. Are the network's weights finite?"
        )


class Home(ABC):
    """Where the tiles of a matrix are kept: in memory, in a store on disk, or on a cluster."""

    @abstractmethod
    def matrix(self, layout: Layout, entries: Entries, identity: str) -> TiledMatrix:
        """Return the matrix with these entries; nothing is computed yet.

        Args:
            layout: its tiles.
            entries: what computes them.
            identity: a text that no other matrix has, by which tiles that were kept are recognised.
        """

    @abstractmethod
    def plan(self, layout: Layout, entries: Entries | None = None) -> Plan:
        """Return what a matrix of this layout takes, before any work.

        Args:
            layout: its tiles.
            entries: what computes them; a block is timed, for the time of all. Without them it is not told.

        Raises:
            InputError: the place cannot be reached.
        """

    def apart(self, name: str) -> Home:
        """Return the home of a further matrix beside the first one: this one, where it has room for any number."""
        del name
        return self
