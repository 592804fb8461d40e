"""A graph as a table for people: at most 100 columns wide, with its totals and the meaning of its columns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ntklens.kernels.rules.operations import Input, Operation, Scales
from ntklens.texts import shortened

if TYPE_CHECKING:
    from ntklens.kernels.rules.graph import Graph

WIDTH = 100
"""Most columns of a line."""

_BYTES = 2 * 8
"""Bytes of one entry in float64, for the NNGP and for the NTK."""
_GAP = "  "
_LONGEST_OPERATION = 38
_LONGEST_SHAPE = 16
_NUMBERS = ("maps", "entries per pair")
_LEGEND = (
    "maps: offsets between a position of one image and a position of the other at which covariances",
    "  are computed; 1 where only equal positions count, or where there are no positions.",
    "entries per pair: covariances in these maps for one pair of images; time and memory go with them.",
)


def rows(graph: Graph) -> list[dict[str, object]]:
    """Return one row per operation: its path in the module, its words, the shape of its output, and what it costs."""
    usual = usual_scales(graph)
    return [
        {
            "path": "input" if isinstance(node.operation, Input) else node.path or "forward",
            "operation": _words(node.operation, usual),
            "shape": "x".join(map(str, node.shape)),
            "maps": len(need),
            "entries per pair": cost,
        }
        for node, need, cost in zip(graph.nodes, graph.needs(), graph.costs(), strict=True)
    ]


def table(graph: Graph) -> str:
    """Return the table, its legend and a line with the totals."""
    cells = [
        {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in row.items()}
        for row in rows(graph)
    ]
    longest = {name: max(len(name), *(len(row[name]) for row in cells)) for name in cells[0]}
    longest["shape"] = min(longest["shape"], _LONGEST_SHAPE)
    longest["operation"] = min(longest["operation"], _LONGEST_OPERATION)
    taken = sum(longest[name] for name in longest if name != "path") + len(_GAP) * (len(longest) - 1)
    longest["path"] = min(longest["path"], WIDTH - taken)

    def line(row: dict[str, str]) -> str:
        parts = []
        for name, width in longest.items():
            # The end of a path tells more than its beginning, of an operation the beginning tells more.
            cell = shortened(row[name], width, keep_start=0.4 if name == "path" else 1.0)
            parts.append(cell.rjust(width) if name in _NUMBERS else cell.ljust(width))
        return _GAP.join(parts).rstrip()

    header = line({name: name for name in longest})
    return "\n".join([header, *map(line, cells), "", *_scales_line(graph), *_LEGEND, _totals(graph)])


def usual_scales(graph: Graph) -> tuple[float, float] | None:
    """Return (w_std, b_std) of most layers, which the table need not repeat; None without layers."""
    found = Counter((s.w_std, s.b_std) for node in graph.nodes if (s := _scales(node.operation)) is not None)
    return found.most_common(1)[0][0] if found else None


def _scales(operation: Operation) -> Scales | None:
    scales = getattr(operation, "scales", None)
    return scales if isinstance(scales, Scales) else None


def _words(operation: Operation, usual: tuple[float, float] | None) -> str:
    """Return an operation with its standard deviations where they are not the usual ones."""
    scales = _scales(operation)
    texts = [str(operation)]
    if scales is not None and usual is not None:
        texts += [f"w_std {scales.w_std:.4g}"] if scales.w_std != usual[0] else []
        texts += [f"b_std {scales.b_std:.4g}"] if scales.b_std != usual[1] else []
    return ", ".join(texts)


def _scales_line(graph: Graph) -> list[str]:
    usual = usual_scales(graph)
    if usual is None:
        return []
    layers = [s for node in graph.nodes if (s := _scales(node.operation)) is not None]
    same = all((s.w_std, s.b_std) == usual for s in layers)
    where = "in every layer" if same else "in every layer that says nothing else (0 without a bias)"
    return [f"w_std {usual[0]:.4g} and b_std {usual[1]:.4g} {where}."]


def _totals(graph: Graph) -> str:
    entries = graph.entries()
    return (
        f"{len(graph.nodes) - 1:,} operations; at most {entries:,} entries per pair at a time, "
        f"{_size(_BYTES * entries)} in float64 (NNGP, NTK)."
    )


def _size(count: float) -> str:
    """Write a number of bytes with three digits.

    Example:
        >>> _size(16), _size(12544), _size(9.8e6)
        ('16 bytes', '12.5 kB', '9.8 MB')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    power = next(p for p in (1, 2, 3) if count < 1000 ** (p + 1) or p == 3)
    return f"{count / 1000**power:.3g} {('kB', 'MB', 'GB')[power - 1]}"
