import math

import pytest
import torch
from torch import nn

from kernels import networks
from kernels.engines.fused import programs
from ntklens.kernels import activation, analytic_kernel
from ntklens.kernels.engines.fused import codes, numbers
from ntklens.kernels.engines.fused.compiler import compile_graph, supported


def test_global_pooling_keeps_few_maps_alive():
    """1,521 offsets of a 20 x 20 image; one chain of layers and the sum are alive at a time."""
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    program = compile_graph(analytic_kernel(net).graph((1, 20, 20)))
    assert int((program.code[:, codes.OP] == codes.GRAM).sum()) == 39 * 39
    assert program.size < 4 * 20 * 20


def test_a_chain_of_layers_works_in_place():
    """Each offset of a flattened network has one map, and no layer of it needs a second one but a window."""
    program = compile_graph(programs.graph("flattened"))
    assert program.size == 2 * 36


@pytest.mark.parametrize("name", sorted(programs.MODULES))
def test_marginals_are_numbered_without_gaps(name):
    graph = programs.graph(name)
    program = compile_graph(graph)
    sizes = [numbers.count(dual) * math.prod(graph.nodes[node].size) for node, dual in program.marginals]
    starts = list(program.marginals.values())
    assert starts == [sum(sizes[:i]) for i in range(len(sizes))]
    assert program.marginal_size == sum(sizes)


def test_what_has_no_instruction_is_not_supported():
    assert supported(programs.graph("pooled"))
    shifted = activation(lambda u: torch.tanh(u - 1).abs(), kinks=(1.0,))
    assert not supported(analytic_kernel(networks.dense(shifted)).graph((1, 4, 4)))
