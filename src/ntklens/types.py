"""Shapes that recur in signatures: jaxtyping annotations, checked when the tests run."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

Inputs = Float[Tensor, "n *shape"]
"""A batch of n inputs, pixels in [0, 1]: images (n, C, H, W) or vectors (n, d)."""

Labels = Int[Tensor, " n"]
"""Class indices, one an input."""

Logits = Float[Tensor, "n classes"]
"""One raw score a class."""

Matrix = Float[Tensor, "n1 n2"]
"""A kernel matrix: rows for the first argument, columns for the second."""

Classifier = Callable[[Tensor], Tensor]
"""Anything that maps a batch of inputs to logits; every nn.Module is one."""
