"""Which offsets a graph needs, and how it prints."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernels.networks import Forward
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules.graph import Graph, Node
from ntklens.kernels.rules.operations import ORIGIN, Flatten, Input, Scale, all_offsets
from ntklens.kernels.tracing.trace import trace
from ntklens.networks import build

SIZE = (5, 6)


def graph(*end: nn.Module, stride: int = 1) -> Graph:
    body = [nn.Conv2d(1, 4, 3, padding=1, stride=stride), nn.ReLU(), *end, nn.Flatten(), nn.LazyLinear(1)]
    module = nn.Sequential(*body)
    module(torch.zeros(1, 1, *SIZE))
    return trace(module, (1, *SIZE), Parametrisation())


def test_flattening_needs_only_equal_positions():
    assert all(need == {ORIGIN} for need in graph().needs())


def test_global_pooling_needs_every_pair_of_positions():
    needs = graph(nn.AdaptiveAvgPool2d(1)).needs()
    assert needs[0] == needs[1] == needs[2] == all_offsets(SIZE)
    assert needs[-1] == {ORIGIN}


def test_a_stride_spares_offsets_of_the_input():
    needs = graph(nn.AdaptiveAvgPool2d(1), stride=2).needs()
    assert needs[0] == {(2 * a, 2 * b) for a, b in all_offsets((3, 3))}


def test_without_the_output_only_variances_are_needed():
    needs = graph(nn.AdaptiveAvgPool2d(1)).needs(output=False)
    assert needs[:2] == ({ORIGIN}, {ORIGIN})
    assert all(not need for need in needs[2:])


def test_what_a_pair_costs():
    pooled = graph(nn.AdaptiveAvgPool2d(1))
    assert pooled.maps() == (2 * 5 - 1) * (2 * 6 - 1)
    assert pooled.entries() == (5 * 6) ** 2
    assert graph().entries() == 5 * 6


def test_the_last_reader_of_a_shortcut_is_its_sum():
    net = Forward(
        lambda s, x: s.c(s.a(x) + s.b(F.relu(s.stem(x)))), **{k: nn.Linear(4, 4) for k in ("stem", "a", "b", "c")}
    )
    traced = trace(net, (4,), Parametrisation())
    (shortcut,) = (i for i, node in enumerate(traced.nodes) if node.path == "a")
    (total,) = (i for i, node in enumerate(traced.nodes) if len(node.inputs) == 2)
    assert traced.readers()[shortcut] == total
    assert traced.readers()[-1] == len(traced.nodes) - 1


def test_the_table_tells_the_functions_of_the_forward_from_the_input():
    nodes = (Node(Input(), (), "", (1, 5, 6)), Node(Scale(2.0), (0,), "", (1, 5, 6)), Node(Flatten(), (1,), "f", (30,)))
    rows = list(Graph(nodes).rows())
    assert [row["path"] for row in rows] == ["input", "forward", "f"]
    assert [row["entries per pair"] for row in rows] == [30, 30, 1]
    assert [row["maps"] for row in rows] == [1, 1, 1]
    assert str(Graph(nodes)).splitlines()[1].startswith("input ")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, (1, 3), padding=(0, 1))

    def forward(self, x):
        return x + self.conv2(F.gelu(self.bn(self.conv1(F.relu(x)))))


def resnet() -> nn.Module:
    stem = [nn.Conv2d(3, 8, 3, padding=1), Block(), nn.AvgPool2d(2), Block(), nn.ReLU()]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def deep_names() -> nn.Module:
    stages = nn.ModuleDict({"stage_number_one_of_a_great_many_stages": resnet()})
    net = nn.Sequential(nn.ModuleDict({"backbone_of_the_whole_network_with_a_long_name": stages}))
    net.forward = lambda x: next(iter(next(iter(net[0].values())).values()))(x)
    return net


@pytest.mark.parametrize("name", ["myrtle10", "resnet", "deep names"])
def test_the_table_fits_a_hundred_columns(name):
    make = {"myrtle10": lambda: build("myrtle10", (3, 16, 16), 10), "resnet": resnet, "deep names": deep_names}[name]
    text = str(trace(make(), (3, 16, 16), Parametrisation()))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "Conv 3x3, stride 1, padding 1" in text
    assert "global AvgPool" in text
    assert "65,536 entries per pair at a time, 1.05 MB" in lines[-1]
    assert ("0.back" in text and "…" in text) == (name == "deep names")


def test_standard_deviations_are_told_once_and_where_they_differ():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 1))
    traced = trace(net, (4,), Parametrisation(w_std={"0": 1.5, "2": 1.0, "4": 1.5}, b_std=0.1))
    assert [row["operation"] for row in traced.rows()][1:4] == ["Dense", "ReLU", "Dense, w_std 1, b_std 0"]
    assert "w_std 1.5 and b_std 0.1 in every layer that says nothing else" in str(traced)


def test_a_graph_starts_with_its_input():
    with pytest.raises(TypeError, match="starts with its input"):
        _ = Graph((Node(Flatten(), (), "", (3,)),)).input
