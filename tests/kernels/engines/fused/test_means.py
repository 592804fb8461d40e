"""Sums of means over positions, and the parts into which they divide a program."""

from kernels.engines.fused.programs import graph, pooled_graph
from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.compiler import compile_graph
from ntklens.kernels.engines.fused.means import SUMS, Mean


def test_pairs_of_sums_get_equal_shares():
    mean = Mean(sums=0, pairs=3, entries=12)
    added = [mean.add(entries) for entries in (2, 2, 1, 3, 2, 1, 1)]
    assert added == [(0, True), (0, False), (1, True), (1, False), (2, True), (2, False), (2, False)]


def test_a_large_map_takes_the_share_of_several_pairs():
    mean = Mean(sums=0, pairs=4, entries=8)
    # The pairs that begin are consecutive, and none is left without a map.
    assert [mean.add(entries) for entries in (5, 1, 1, 1)] == [(0, True), (1, True), (2, True), (3, True)]


def test_maps_that_are_alive_between_the_sums_forbid_parts():
    mean = Mean(sums=0, pairs=2, entries=2)
    mean.add(1)
    mean.cut = (5, False)
    mean.add(1)
    mean.cut = (9, True)
    assert mean.parts == ()


def test_a_pooling_of_chains_divides_the_program():
    program = compile_graph(pooled_graph())
    assert program.parts[0] == 0
    assert len(program.parts) == SUMS + 1
    for start, end in zip(program.parts, program.parts[1:], strict=False):
        # Each part begins with the covariance of pixels, and ends with the last addition to its own pair of sums.
        assert program.code[start, codes.OP] == codes.GRAM
        assert program.code[end - 1, codes.OP] == codes.REDUCE
        reductions = [row for row in program.code[start:end] if row[codes.OP] == codes.REDUCE]
        assert [row[codes.ADDS] for row in reductions] == [0] + [1] * (len(reductions) - 1)
        assert {row[codes.DST] for row in reductions} == {program.sums + 2 * program.parts.index(start)}
    mean = program.code[program.parts[-1]]
    assert (mean[codes.OP], mean[codes.SRC], mean[codes.IN_H]) == (codes.MEAN, program.sums, SUMS)


def test_other_programs_are_one_piece():
    assert [compile_graph(graph(name)).parts for name in ("flattened", "pooled", "dense")] == [(), (), ()]
