import pytest

from kernels.engines.fused import programs
from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.compiler import compile_graph
from ntklens.kernels.engines.fused.program import instruction


def test_an_instruction_has_zeros_where_nothing_is_given():
    row, constants = instruction(codes.RELU, (0.25,), dst=3, src=2, h=4, w=5)
    assert len(row) == codes.COLUMNS
    assert {i: value for i, value in enumerate(row) if value} == {
        codes.OP: codes.RELU, codes.DST: 3, codes.SRC: 2, codes.H: 4, codes.W: 5,
    }  # fmt: skip
    assert constants == [0.25, 0.0, 0.0, 0.0]


def test_a_column_that_the_operation_does_not_read_is_refused():
    with pytest.raises(KeyError, match="expected a column of ZERO; got 'src'"):
        instruction(codes.ZERO, dst=0, src=1)


def test_a_program_prints_one_line_per_instruction():
    program = compile_graph(programs.graph("dense"))
    lines = str(program).splitlines()
    assert [line.split()[0] for line in lines] == ["LOAD", "AFFINE", "NORMALISE", "RELU", "AFFINE"]
    assert lines[1] == "AFFINE dst=0 src=0 h=1 w=32 weight=2 bias=0.01 weight_share=2 bias_share=0.01"
