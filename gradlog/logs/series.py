"""Scalar series of a log that guarantees and decisions take: losses and learning rates, by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from .log import GradientLog, Series

Doubles = NDArray[np.float64]

LOSSES = ("loss", "train_loss", "losses")
RATES = ("lr", "learning_rate")


def series_of_rows(
    log: GradientLog, names: Sequence[str], rows: tuple[int, int], keep: NDArray[np.bool_] | None
) -> dict[str, Doubles]:
    """(rows,) values of those series that the log holds, by name.

    Raises DataError for one that cannot be decoded.

    rows : (first, last + 1) stored rows; keep : (rows,) bool, False for rows to leave out; None keeps all
    """
    found = {}
    for name in names:
        array = log.series.get(name)
        if array is None or not np.issubdtype(array.dtype, np.number) or array.shape[0] < rows[1]:
            continue
        values = read_series(log, name, rows).astype(np.float64)
        found[name] = values if keep is None else values[keep]
    return found


def read_series(log: GradientLog, name: str, rows: tuple[int, int]) -> NDArray[Any]:
    """(rows,) values of a series as stored. Raises DataError where they cannot be decoded."""
    try:
        return np.asarray(log.series[name][slice(*rows)])
    except MemoryError:
        raise
    except Exception as error:
        told = f"{log.path}: `{name}` cannot be read: {first_line(error)}"
        raise DataError(f"{told}; restore it, or move it away") from error


def series_attributes(series: Series) -> dict[str, Any]:
    """The attributes of a series, where it has any."""
    return dict(getattr(series, "attrs", {}))


def first_of(series: Mapping[str, Doubles], names: Sequence[str]) -> Doubles | None:
    """The first series there is of those names."""
    return next((series[name] for name in names if name in series), None)
