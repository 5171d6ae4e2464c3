"""The one table that CSV and Parquet hold: a line for each value, whatever it is of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .exported_series import Series

TEXTS = ("run", "scope", "tensor", "per", "quantity", "argument")
"""Equal in all lines of a series."""
WHOLES = ("first_row", "last_row", "first_step", "step")
DOUBLES = ("value", "lower", "upper")
COLUMNS = (*TEXTS, *WHOLES, *DOUBLES)
BATCH_LINES = 1 << 17


@dataclass(frozen=True)
class Lines:
    """Lines of one series, those alone that hold a number.

    texts : by TEXTS, None for nothing
    wholes : by WHOLES, (n,) int64 each, None for a column of nothing
    doubles : by DOUBLES, (n,) float64 each, NaN for nothing, None for a column of it
    """

    texts: tuple[str | None, ...]
    wholes: tuple[NDArray[np.int64] | None, ...]
    doubles: tuple[NDArray[np.float64] | None, ...]

    @property
    def count(self) -> int:
        """Their number n."""
        value = self.doubles[0]
        assert value is not None
        return value.size


def lines_of(run: str, series: Series) -> Iterator[Lines]:
    """The lines of a series, at most BATCH_LINES at a time. run : path of the run"""
    figures = [series.values, series.lower, series.upper]
    there = np.zeros(series.values.size, dtype=bool)
    for values in figures:
        if values is not None:
            there |= np.isfinite(values)
    kept = np.flatnonzero(there)
    texts = (run, series.scope, series.name, series.spans.per, series.quantity, series.argument or None)
    rows, steps = series.spans.rows, series.spans.steps
    for first in range(0, kept.size, BATCH_LINES):
        at = kept[first : first + BATCH_LINES]
        yield Lines(
            texts,
            (
                rows[at, 0],
                rows[at, 1],
                None if steps is None else steps[at, 0],
                None if steps is None else steps[at, 1],
            ),
            tuple(None if values is None else _finite(values[at]) for values in figures),
        )


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, with NaN for infinities too: neither is a value."""
    return np.where(np.isfinite(values), values, np.nan)
