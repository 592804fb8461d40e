"""Windows on maps by offset against the same linear function on the full covariance K[p, p'].

A pooling, a padding or an upsampling is a matrix L from input positions to output positions, and K becomes L K Lᵀ. The
covariance of a convolution is the mean of L_i K L_iᵀ over the places i of its window. The matrices come from torch's own
functions on images with a single pixel.
"""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ntklens.kernels.rules.operations import Covariance, Scales, Size, all_offsets, ends
from ntklens.kernels.rules.windows import AveragePool, CircularPad, Conv, Pad, Upsample, Window, window_sum

SIZE = (5, 4)
PLAIN = Scales(1.0, 0.0, 1.0, 0.0)


def matrix(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Size]:
    """The function on images as a matrix (output positions, input positions), and the size of the output."""
    h, w = SIZE
    units = torch.eye(h * w, dtype=torch.float64).reshape(h * w, 1, h, w)
    out = function(units)
    return out.flatten(1).T, (out.shape[-2], out.shape[-1])


def maps_of(k: Tensor, size: Size, offsets) -> dict:
    """The maps of a full covariance (positions, positions)."""
    full = k.reshape(*size, *size)
    maps = {}
    for offset in offsets:
        first, second = ends(size, offset)
        rows = torch.arange(size[0])[first[0]][:, None], torch.arange(size[1])[first[1]]
        columns = torch.arange(size[0])[second[0]][:, None], torch.arange(size[1])[second[1]]
        maps[offset] = full[rows[0], rows[1], columns[0], columns[1]]
    return maps


def no_marginals(offset):
    raise AssertionError("no window reads variances")


def error(operation, expected: Tensor, k: Tensor, out: Size) -> float:
    """The largest deviation over all offsets at once, and over single offsets from no more than their sources."""
    offsets = all_offsets(out)
    truth = maps_of(expected, out, offsets)
    largest = 0.0
    for wanted in (offsets, {(0, 0)}, {(1 - out[0], 0)}, {(1, out[1] - 1)} & offsets):
        if not wanted or not (needed := operation.sources(wanted)):
            continue
        maps = maps_of(k, SIZE, needed)
        state = operation.push([Covariance(maps, {d: 2 * t for d, t in maps.items()})], wanted, no_marginals)
        for offset in wanted:
            assert state.nngp[offset].shape == truth[offset].shape
            largest = max(largest, float((state.nngp[offset] - truth[offset]).abs().max()))
            if not isinstance(operation, Conv):  # which adds its own share to the NTK
                largest = max(largest, float((state.ntk[offset] - 2 * truth[offset]).abs().max()))
    return largest


@pytest.fixture
def k() -> Tensor:
    n = SIZE[0] * SIZE[1]
    return torch.rand(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


WINDOWS = [
    # kernel, stride, padding, dilation
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 2), (2, 1), (1, 0), (1, 1)),
    ((2, 3), (1, 2), (0, 2), (2, 1)),
    ((1, 1), (3, 2), (0, 0), (1, 1)),
    ((3, 3), (2, 2), (4, 4), (1, 2)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WINDOWS)
def test_convolution_is_the_mean_over_the_places_of_its_window(k, kernel, stride, padding, dilation):
    places = list(itertools.product(range(kernel[0]), range(kernel[1])))
    expected = 0
    for place in places:
        weight = torch.zeros(1, 1, *kernel, dtype=torch.float64)
        weight[0, 0, place[0], place[1]] = 1
        shifted, out = matrix(lambda x, weight=weight: F.conv2d(x, weight, None, stride, padding, dilation))
        expected = expected + shifted @ k @ shifted.T / len(places)
    assert error(Conv(Window(kernel, stride, padding, dilation, SIZE, out), PLAIN), expected, k, out) < 1e-13


@pytest.mark.parametrize("include_padding", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), (2, 2), (0, 0)), ((3, 3), (1, 1), (1, 1)), ((3, 2), (2, 1), (1, 1)), ((4, 4), (1, 1), (2, 2))],
)
def test_average_pooling(k, kernel, stride, padding, include_padding):
    pool, out = matrix(lambda x: F.avg_pool2d(x, kernel, stride, padding, False, include_padding))
    operation = AveragePool(Window(kernel, stride, padding, (1, 1), SIZE, out), include_padding)
    assert error(operation, pool @ k @ pool.T, k, out) < 1e-13


@pytest.mark.parametrize("widths", [(1, 2, 0, 3), (0, 0, 5, 6), (2, 0, 1, 1)])
def test_zero_padding(k, widths):
    pad, out = matrix(lambda x: F.pad(x, widths))
    operation = Pad(Window((1, 1), (1, 1), (widths[2], widths[0]), (1, 1), SIZE, out))
    assert error(operation, pad @ k @ pad.T, k, out) < 1e-13


@pytest.mark.parametrize("widths", [(1, 1, 1, 1), (0, 3, 2, 0), (4, 4, 5, 5), (0, 0, 1, 0)])
def test_circular_padding(k, widths):
    pad, out = matrix(lambda x: F.pad(x, widths, "circular"))
    assert error(CircularPad((widths[2], widths[0]), SIZE, out), pad @ k @ pad.T, k, out) < 1e-13


@pytest.mark.parametrize("factor", [(2, 2), (3, 1), (1, 4)])
def test_upsampling(k, factor):
    repeat, out = matrix(lambda x: F.interpolate(x, scale_factor=factor))
    assert error(Upsample(factor, SIZE, out), repeat @ k @ repeat.T, k, out) < 1e-13


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [((3, 2), (1, 2), (1, 1)), ((2, 3), (2, 1), (2, 1))])
def test_a_sum_over_a_window_is_a_convolution_with_ones(kernel, stride, dilation):
    t = torch.rand(2, 1, 7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ones = torch.ones(1, 1, *kernel, dtype=torch.float64)
    expected = F.conv2d(t, ones, stride=stride, dilation=dilation)
    torch.testing.assert_close(window_sum(t, kernel, stride, dilation), expected)
