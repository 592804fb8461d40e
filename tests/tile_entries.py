"""Entries of small matrices for the tests of tiles, in a module that other processes can import."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.linalg.tiles import Layout


@dataclass
class Gaussian:
    """A Gaussian kernel of random points, with a little on the diagonal so that it is well conditioned.

    Attributes:
        n: number of points.
        nugget: what is added to the diagonal.
        seconds: how long a block takes besides.
    """

    n: int
    nugget: float = 0.01
    seconds: float = 0.0
    calls: int = 0

    def __call__(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        self.calls += 1
        time.sleep(self.seconds)
        x = torch.randn(self.n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        distance = (x[rows][:, None] - x[columns][None]).square().sum(dim=-1)
        index = torch.arange(self.n)
        same = index[rows][:, None] == index[columns][None]
        return torch.exp(-distance) + self.nugget * same

    def dense(self) -> Tensor:
        """Return the whole matrix."""
        return self(slice(None), slice(None))


def targets(n: int, outputs: int = 2) -> Tensor:
    return torch.randn(n, outputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


LAYOUT = Layout(203, 32)
"""28 tiles; those of the last row have 11 rows."""
