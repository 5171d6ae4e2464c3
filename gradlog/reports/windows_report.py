"""Windows of training as a table, and a line for each tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figures import NOTHING, count, numbers, percent
from .report import Column, Table
from .sparkline import draw_sparkline

if TYPE_CHECKING:
    from ..results.result import Analysis
    from ..results.windows import Windows

MOST_WINDOWS = 20
"""More are shown as a line."""
WIDTH = 20
"""Characters of a tensor's line."""


def windows_table(analysis: Analysis, windows: Windows, epsilon: float | None) -> Table | None:
    """The whole model, window by window; None where there are too many to read. epsilon : of ranks shown"""
    best = analysis.total.best
    if best is None or len(windows.rows) > MOST_WINDOWS:
        return None
    total = windows.total
    spec = best.predictor
    energy = float(total.energy.sum())
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("steps", "left"), [f"{first} to {last}" for first, last in windows.step.tolist()]),
        (Column("rows", yields=2), [count(last - first) for first, last in windows.rows.tolist()]),
        (Column("energy", "decimal", yields=1), [percent(e / energy) for e in total.energy.tolist()]),
        (Column("kappa", "decimal"), _numbers(total.kappa[spec])),
        (Column("noise", "decimal"), _numbers(total.reference[spec])),
        (Column("scaled", "decimal", yields=3), _numbers(total.scaled_kappa[spec])),
    ]
    if epsilon is not None and epsilon in total.rank:
        columns.append((Column(f"r*({epsilon:g})"), _counts(total.rank[epsilon])))
    if epsilon is not None and epsilon in total.rank_reference:
        columns.append((Column("noise"), _counts(total.rank_reference[epsilon])))
    title = f"{len(windows.rows)} windows of training, kappa of {spec}"
    return Table.of(title, columns)


def lines_of_tensors(analysis: Analysis, windows: Windows, order: Sequence[int]) -> tuple[Column, list[str]]:
    """Kappa of each tensor's best predictor over the windows, as a line. order : numbers of the tensors"""
    cells = []
    for number in order:
        best = analysis.tensors[number].best
        values = [] if best is None else windows.tensors[number].kappa[best.predictor].tolist()
        drawn = draw_sparkline(values, WIDTH)
        cells.append(NOTHING if drawn is None else drawn.text)
    return Column("kappa over training", "left", yields=2), cells


def _numbers(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[str]:
    return numbers([None if math.isnan(value) else value for value in values.tolist()])


def _counts(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[str]:
    return [NOTHING if math.isnan(value) else count(int(value)) for value in values.tolist()]
