"""Where the positions of a map lie: in the image, in the pixels of its two inputs, and under a sliding window."""

from __future__ import annotations

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.rules.operations import Offset, Size, ends
from ntklens.kernels.rules.windows import Window


def origins(size: Size, offset: Offset) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the positions of x and of z that the first entry of the map at this offset belongs to."""
    x_end, z_end = ends(size, offset)
    return (x_end[0].start, x_end[1].start), (z_end[0].start, z_end[1].start)


def window_columns(
    window: Window, shift: Offset, offset: Offset, source_offset: Offset, shape: Size, source_shape: Size
) -> dict[str, int]:
    """Return the columns of a WINDOW instruction; the geometry is that of `Window.slide`.

    Args:
        window: the window.
        shift: e, by which the window place of z differs from that of x; zero for a convolution.
        offset: the offset of the output map.
        source_offset: the offset of the input map.
        shape: rows and columns of the output map.
        source_shape: rows and columns of the input map.
    """
    starts = [window.start(axis, source_offset, offset, shift) for axis in (0, 1)]
    places = [window.places(axis, shift) for axis in (0, 1)]
    # A position and its eight neighbours; beyond the map, the zeros of the padding.
    is_plain = window.stride == window.dilation == (1, 1) and starts == [-1, -1] and places == [3, 3]
    return {
        "h": shape[0], "w": shape[1], "in_h": source_shape[0], "in_w": source_shape[1],
        "kernel_h": places[0], "kernel_w": places[1], "start_h": starts[0], "start_w": starts[1],
        "stride_h": window.stride[0], "stride_w": window.stride[1],
        "dilation_h": window.dilation[0], "dilation_w": window.dilation[1],
        "is_box": int(is_plain and source_shape == shape),
    }  # fmt: skip


def is_fusible(row: list[int], following: list[int]) -> bool:
    """Return whether the second instruction can be run within the first, on each row as soon as it is written."""
    op, next_op = row[codes.OP], following[codes.OP]
    # Backwards: the activation's adjoint changes the box's result in place.
    if op == codes.BOX_ADJOINT:
        is_activation = next_op in codes.ACTIVATION_ADJOINTS
        return is_activation and following[codes.DST] == row[codes.DST]
    # Forwards: only the fast loop over boxes runs another instruction within itself.
    is_box = op == codes.WINDOW and row[codes.IS_BOX]
    if not is_box or next_op not in codes.ACTIVATIONS or following[codes.SRC] != row[codes.DST]:
        return False
    # The activation must not overwrite rows that the box has yet to read: it works in place, or away from the source.
    size = row[codes.H] * row[codes.W]
    in_place = following[codes.DST] == row[codes.DST]
    return in_place or abs(following[codes.DST] - row[codes.SRC]) >= size
