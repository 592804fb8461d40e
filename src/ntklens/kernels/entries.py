"""A kernel and its inputs as the entries of a matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.kernels.base import Kernel


class KernelEntries:
    """Blocks of Θ(X, X) in float64, from rows and columns.

    Args:
        kernel: Θ, with one value per pair of inputs.
        inputs: X, (n, *shape), in any precision; blocks are brought into float64 one by one.
    """

    def __init__(self, kernel: Kernel, inputs: Float[Tensor, "n *shape"]) -> None:
        self.kernel = kernel
        self.inputs = inputs

    def __call__(self, rows: slice | Tensor, columns: slice | Tensor) -> Tensor:
        """Compute a block; exactly symmetric for two equal slices, and where `columns` is the object `rows`.

        Raises:
            InputError: the kernel has several values per pair.
            NumericalFailure: a value is not a finite number.
        """
        x1 = self.inputs[rows].to(torch.float64)
        is_diagonal = rows is columns or (isinstance(rows, slice) and isinstance(columns, slice) and rows == columns)
        x2 = x1 if is_diagonal else self.inputs[columns].to(torch.float64)
        block = self.kernel.gram(x1) if is_diagonal else self.kernel.between(x1, x2)
        if block.shape != (len(x1), len(x2)):
            raise InputError(
                f"expected a kernel with one value per pair of inputs, ({len(x1)}, {len(x2)}); got {tuple(block.shape)}. "
                'An empirical kernel takes outputs="trace" or "pseudo".'
            )
        if not bool(block.sum().isfinite()) and not bool(block.isfinite().all()):
            i, j = (~block.isfinite()).nonzero()[0].tolist()
            numbers = torch.arange(len(self.inputs))
            raise NumericalFailure(
                f"the kernel of the training inputs {int(numbers[rows][i])} and {int(numbers[columns][j])} is "
                f"{float(block[i, j])}, not a finite number. Are the network's weights finite?"
            )
        return block.to(torch.float64)
