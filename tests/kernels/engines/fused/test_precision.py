import torch.nn.functional as F
from torch import nn

from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused.precision import mixed_into_the_origin
from ntklens.kernels.rules.operations import ORIGIN, Activation


def marked(*layers: nn.Module, features: int):
    """The marked maps, the nodes of the activations, and the graph of a network on images of 4 x 4."""
    graph = analytic_kernel(nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 1))).graph((1, 4, 4))
    activations = [i for i, node in enumerate(graph.nodes) if isinstance(node.operation, Activation)]
    return mixed_into_the_origin(graph), activations, graph


def conv() -> nn.Conv2d:
    return nn.Conv2d(1, 1, 3, padding=1)


def test_nothing_without_a_pooling():
    assert marked(conv(), nn.ReLU(), conv(), nn.ReLU(), features=16)[0] == set()


def test_nothing_where_no_activation_follows_the_pooling():
    assert marked(conv(), nn.ReLU(), nn.AvgPool2d(2), features=4)[0] == set()


def test_all_that_a_pooling_mixes_into_what_an_activation_reads():
    maps, (first, second), graph = marked(conv(), nn.ReLU(), nn.AvgPool2d(2), conv(), nn.ReLU(), features=4)
    pooled_offsets = {(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    assert {offset for node, offset in maps if node == first} == pooled_offsets
    assert {offset for node, offset in maps if node == second - 1} == {ORIGIN}  # what the second activation reads
    assert {node for node, _ in maps} == set(range(second))
    assert all(offset in graph.needs()[node] for node, offset in maps)


def test_other_offsets_of_the_activation_are_not_marked():
    """A global pooling needs the second activation at every offset; only its own input at offset zero is compared."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out = conv(), conv(), nn.Linear(1, 1)

        def forward(self, x):
            x = F.avg_pool2d(self.first(x).relu(), 2)
            return self.out(self.second(x).relu().mean((2, 3)))

    graph = analytic_kernel(Net()).graph((1, 4, 4))
    maps = mixed_into_the_origin(graph)
    second = max(i for i, node in enumerate(graph.nodes) if isinstance(node.operation, Activation))
    assert len(graph.needs()[second]) == 9
    assert {offset for node, offset in maps if node == second - 1} == {ORIGIN}
    assert not {node for node, _ in maps} & set(range(second, len(graph.nodes)))
