"""Sets of rows as ranges (first, last), in order and apart: those of a tensor that were filled with zeros."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Ranges = tuple[tuple[int, int], ...]

ABSENT_ROWS = "absent_rows"
"""In the `gradlog` attribute of a tensor: [[first, last], ...], rows that came without a gradient."""
MERGED = "absent_rows_merged"
"""True once neighbouring ranges were merged: they then hold all such rows, and others between them."""
MOST_RANGES = 1000
"""More would make metadata, which is written anew with every chunk, larger than it is worth."""


def clipped(ranges: Ranges, stop: int) -> Ranges:
    """The part below row `stop`."""
    return tuple((first, min(last, stop - 1)) for first, last in ranges if first < stop)


def between(ranges: Ranges, first: int, stop: int) -> Ranges:
    """The part from row `first` on and below row `stop`, counted from row `first`."""
    return tuple((max(0, a - first), b - first) for a, b in clipped(ranges, stop) if b >= first)


def extended(ranges: Ranges, rows: Iterable[int]) -> Ranges:
    """The ranges and more rows, in order and behind them."""
    longer = list(ranges)
    for row in rows:
        if longer and longer[-1][1] + 1 == row:
            longer[-1] = (longer[-1][0], row)
        else:
            longer.append((row, row))
    return tuple(longer)


def merged(ranges: Ranges) -> Ranges:
    """Half as many ranges: each takes in its neighbour and the rows between."""
    return tuple((ranges[at][0], ranges[min(at + 1, len(ranges) - 1)][1]) for at in range(0, len(ranges), 2))


def noted(attributes: Mapping[str, Any], ranges: Ranges, was_merged: bool) -> dict[str, Any]:
    """A tensor's attributes with those ranges in them."""
    declared = attributes.get("gradlog")
    mark = dict(declared) if isinstance(declared, dict) else {}
    for key in (ABSENT_ROWS, MERGED):
        mark.pop(key, None)
    if ranges:
        mark[ABSENT_ROWS] = [list(pair) for pair in ranges]
    if ranges and was_merged:
        mark[MERGED] = True
    others = {key: value for key, value in attributes.items() if key != "gradlog"}
    return others | ({"gradlog": mark} if mark else {})


def read_ranges(attributes: Mapping[str, Any]) -> tuple[Ranges, bool]:
    """The ranges in a tensor's attributes, and whether they were merged; ValueError for what is none."""
    declared = attributes.get("gradlog")
    found = declared.get(ABSENT_ROWS, []) if isinstance(declared, dict) else []
    before = -1
    ranges = []
    for pair in found if isinstance(found, list) else [found]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(row) is int for row in pair)):
            raise ValueError(f"{ABSENT_ROWS} holds {pair!r:.40}, which is no range of rows")
        if not before < pair[0] <= pair[1]:
            raise ValueError(f"{ABSENT_ROWS} holds {pair}, which is out of order")
        before = pair[1]
        ranges.append((pair[0], pair[1]))
    return tuple(ranges), isinstance(declared, dict) and declared.get(MERGED) is True
