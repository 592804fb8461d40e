"""The table of instructions, beside the constants that it describes and the programs that are written."""

import pytest
import torch

from kernels.engines.fused import programs
from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.adjoint import compile_adjoint
from ntklens.kernels.engines.fused.compiler import compile_graph
from ntklens.kernels.engines.fused.zonal import AngleSeries


def everything():
    """All programs of the networks in `programs`."""
    for name in programs.MODULES:
        graph = programs.graph(name)
        yield compile_graph(graph)
        yield compile_adjoint(graph)
    series = AngleSeries(programs.deep_graph())
    yield series.forward(("nngp", "ntk"), torch.float64, None)
    yield series.adjoint("ntk", torch.float64)


def test_each_operation_has_a_line_under_its_own_name():
    assert sorted(codes.INSTRUCTIONS) == list(range(len(codes.INSTRUCTIONS)))
    assert {getattr(codes, line.name): line.name for line in codes.INSTRUCTIONS.values()} == {
        op: line.name for op, line in codes.INSTRUCTIONS.items()
    }


def test_columns_and_constants_of_a_line_exist_once():
    for line in codes.INSTRUCTIONS.values():
        columns = [getattr(codes, name) for name in line.columns]
        assert all(codes.OP < column < codes.COLUMNS for column in columns)
        assert len(set(columns)) == len(columns), line.name
        assert all(0 <= getattr(codes, name) < codes.CONSTANTS for name in line.constants)


def test_programs_together_use_the_whole_language():
    emitted = {int(op) for program in everything() for op in program.code[:, codes.OP]}
    assert {codes.INSTRUCTIONS[op].name for op in set(codes.INSTRUCTIONS) - emitted} == set()


def test_programs_use_no_column_or_constant_that_the_table_does_not_tell():
    for program in everything():
        for row, constants in zip(program.code, program.constants, strict=True):
            line = codes.INSTRUCTIONS[int(row[codes.OP])]
            told = {codes.OP, *(getattr(codes, name) for name in line.columns)}
            assert set(row.nonzero()[0]) <= told, line.name
            if line.constants != ("WEIGHT", "WEIGHT_SHARE"):  # an adjoint rule has its layer's four, and reads two
                assert set(constants.nonzero()[0]) <= {getattr(codes, name) for name in line.constants}, line.name


@pytest.mark.parametrize("backward", [False, True])
def test_adjoint_operations_stand_in_programs_of_gradients_alone(backward):
    graph = programs.graph("pooled")
    program = compile_adjoint(graph) if backward else compile_graph(graph)
    assert bool((program.code[:, codes.OP] >= codes.SEED).any()) == backward
