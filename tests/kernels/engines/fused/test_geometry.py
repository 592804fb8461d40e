import pytest
import torch

from ntklens.kernels.engines.fused import codes, geometry
from ntklens.kernels.engines.fused.program import instruction
from ntklens.kernels.rules.operations import map_size
from ntklens.kernels.rules.windows import Window


def summed(columns: dict[str, int], source: torch.Tensor) -> torch.Tensor:
    """What a WINDOW instruction with these columns adds up, entry by entry."""
    out = torch.zeros(columns["h"], columns["w"], dtype=source.dtype)
    for y in range(columns["h"]):
        for x in range(columns["w"]):
            for i in range(columns["kernel_h"]):
                for j in range(columns["kernel_w"]):
                    row = columns["start_h"] + columns["stride_h"] * y + columns["dilation_h"] * i
                    column = columns["start_w"] + columns["stride_w"] * x + columns["dilation_w"] * j
                    if 0 <= row < columns["in_h"] and 0 <= column < columns["in_w"]:
                        out[y, x] += source[row, column]
    return out


@pytest.mark.parametrize(
    ("window", "shift"),
    [
        (Window((3, 3), (1, 1), (1, 1), (1, 1), (7, 6), (7, 6)), (0, 0)),
        (Window((3, 2), (2, 1), (1, 0), (1, 1), (7, 6), (4, 5)), (0, 0)),
        (Window((3, 3), (1, 1), (2, 2), (2, 2), (7, 6), (7, 6)), (0, 0)),
        (Window((2, 2), (2, 2), (0, 0), (1, 1), (7, 6), (3, 3)), (1, -1)),
        (Window((3, 3), (2, 2), (1, 1), (1, 1), (7, 6), (4, 3)), (-2, 1)),
    ],
    ids=["box", "strided", "dilated", "pooling", "padded pooling"],
)
@pytest.mark.parametrize("offset", [(0, 0), (1, -2), (-1, 1)])
def test_the_columns_of_a_window_are_those_of_its_rule(window, shift, offset):
    source_offset = window.source(offset, shift)
    if any(abs(d) >= n for d, n in zip(source_offset, window.in_size, strict=True)):
        pytest.skip("no input map is so far apart")
    shape, source_shape = map_size(window.out_size, offset), map_size(window.in_size, source_offset)
    source = torch.rand(source_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    columns = geometry.window_columns(window, shift, offset, source_offset, shape, source_shape)
    torch.testing.assert_close(summed(columns, source), window.slide(source, source_offset, offset, shift))


def test_a_box_is_a_window_of_three_by_three_that_keeps_the_size():
    def is_box(stride: int, padding: int, dilation: int, side: int) -> int:
        pairs = ((n, n) for n in (3, stride, padding, dilation, 7, side))
        return geometry.window_columns(Window(*pairs), (0, 0), (0, 0), (0, 0), (side, side), (7, 7))["is_box"]

    assert is_box(1, 1, 1, 7) == 1
    assert (is_box(1, 0, 1, 5), is_box(2, 1, 1, 4), is_box(1, 2, 2, 7)) == (0, 0, 0)


def test_the_ends_of_an_offset():
    assert geometry.origins((5, 5), (2, -1)) == ((0, 1), (2, 0))


@pytest.mark.parametrize(
    ("is_box", "op", "src", "dst", "fuses"),
    [
        (1, codes.RELU, 16, 16, True),
        (1, codes.RELU, 16, 48, True),
        (1, codes.NORMALISE, 16, 16, True),
        (0, codes.RELU, 16, 16, False),  # the loop of other windows runs nothing else
        (1, codes.AFFINE, 16, 16, False),  # not an activation
        (1, codes.RELU, 32, 32, False),  # not what the window has written
        (1, codes.RELU, 16, 8, False),  # would overwrite rows of the source that the window still has to read
    ],
)
def test_an_activation_is_run_within_the_window_before_it(is_box, op, src, dst, fuses):
    window, _ = instruction(codes.WINDOW, dst=16, src=0, h=4, w=4, is_box=is_box)
    activation, _ = instruction(op, dst=dst, src=src, h=4, w=4)
    assert geometry.is_fusible(window, activation) is fuses


@pytest.mark.parametrize(("dst", "fuses"), [(32, True), (48, False)])
def test_the_adjoint_of_an_activation_is_run_within_the_adjoint_of_the_window_after_it(dst, fuses):
    box, _ = instruction(codes.BOX_ADJOINT, dst=32, src=0, h=4, w=4, is_box=1)
    activation, _ = instruction(codes.RELU_ADJOINT, dst=dst, value=64, h=4, w=4)
    assert geometry.is_fusible(box, activation) is fuses
