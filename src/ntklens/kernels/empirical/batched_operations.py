"""Operations of torch whose batched backward is known to be right, by the names of their nodes in a graph.

`torch.autograd.grad(..., is_grads_batched=True)` runs the backward of all outputs in one pass by a rule per operation. The
tests hold those of this table to single backward passes, at sizes that coincide too (as many images as outputs, as many
channels as images), where a rule that takes one axis for another stays unseen. Graphs with other operations are compared
with a single backward pass whenever they are batched.
"""

from __future__ import annotations

from torch import Tensor

BATCHED = frozenset(
    {
        "Accumulate",
        "Add",
        "Addmm",
        "Alias",
        "AvgPool2D",
        "Bmm",
        "Clone",
        "Convolution",
        "Div",
        "Elu",
        "Exp",
        "Expand",
        "Flip",
        "Gelu",
        "MaxPool2DWithIndices",
        "Mean",
        "Mm",
        "Mul",
        "NativeBatchNorm",
        "NativeLayerNorm",
        "Neg",
        "Permute",
        "Pow",
        "Relu",
        "Select",
        "Sigmoid",
        "Silu",
        "Slice",
        "Softmax",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "View",
    }
)
"""Names of nodes without their ending, such as Relu for ReluBackward0."""


def operations(f: Tensor) -> set[str]:
    """Return the names of all nodes in the graph of f."""
    names: set[str] = set()
    waiting, visited = [f.grad_fn], {f.grad_fn}
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        names.add(node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward").removesuffix("Grad"))
        for following, _ in node.next_functions:
            if following not in visited:
                visited.add(following)
                waiting.append(following)
    return names
