"""Series over training that an analysis holds, and where they change their level: norms, kappas, ranks.

All are taken by their logarithms. Norms and kappas are by row, of the whole model, and of tensors where there
are sums by step of them (by bins of rows, in long logs); r* is by windows that don't overlap. Kappa is that
of the predictor that looks back least far: others show for long what a single row did.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..predictors import memory_rows
from ..quick_dataclass import dataclass
from ..results.result import Analysis, ScopeResult
from ..results.windows import ScopeWindows
from ..statistics.level_changes import LevelChange, level_changes

Doubles = NDArray[np.float64]

NORM, KAPPA, RANK = "norm", "kappa", "rank"


@dataclass(frozen=True)
class LevelSeries:
    """series : NORM, KAPPA or RANK; of : the predictor or epsilon of the latter two

    rows : (n,) first row that each value is of; values : (n,) logarithms
    """

    tensor: str | None
    series: str
    of: str
    rows: NDArray[np.int64]
    values: Doubles


@dataclass(frozen=True)
class ChangedLevel:
    """row : the first one of the new level; change : of the logarithms; held : the series that it is of

    chance : with which levels that don't change would show one, in all series together
    """

    held: LevelSeries
    row: int
    change: LevelChange
    chance: float


def changed_levels(analysis: Analysis, chance: float, least: float) -> list[ChangedLevel]:
    """All changes, series by series. chance : of any, in all series together, where no level changes

    least : of the difference of two levels, as logarithms
    """
    every = [series for series in _series(analysis) if series.values.size]
    found = level_changes([series.values for series in every], chance / max(1, len(every)), least)
    return [
        ChangedLevel(series, int(series.rows[change.at]), change, min(1.0, change.chance * len(every)))
        for series, changes in zip(every, found, strict=True)
        for change in changes
    ]


def _series(analysis: Analysis) -> Iterator[LevelSeries]:
    steps, windows = analysis.steps, analysis.windows
    spec, epsilon = _nearest(analysis), analysis.settings.middle_epsilon
    rows = np.arange(steps.grad_norm.size)
    yield _known(None, NORM, "", rows, steps.grad_norm)
    if spec in steps.kappa:
        # At row 0 nothing is foretold.
        yield _known(None, KAPPA, spec, rows[1:], steps.kappa[spec][1:])
    apart = None if windows is None else _apart(windows.rows)
    if windows is not None and apart is not None:
        yield from _ranks(None, analysis.total, windows.total, epsilon, *apart)
    of_tensors = analysis.tensor_steps
    for number, tensor in enumerate(analysis.tensors):
        if of_tensors is not None:
            first, energy = of_tensors.edges[:-1], of_tensors.energy[number]
            yield _known(tensor.name, NORM, "", first, np.sqrt(energy / np.diff(of_tensors.edges)))
            if spec in of_tensors.path_length:
                left = of_tensors.path_length[spec][number]
                kappa = np.divide(left, energy, out=np.zeros_like(left), where=energy > 0)
                yield _known(tensor.name, KAPPA, spec, first[1:], kappa[1:])
        if windows is not None and apart is not None:
            yield from _ranks(tensor.name, tensor, windows.tensors[number], epsilon, *apart)


def _nearest(analysis: Analysis) -> str:
    """The predictor that looks back least far; "" where there is none."""
    listed = [p.predictor for p in analysis.total.predictors if p.predictor != "zero"]
    return min(listed, key=lambda spec: memory_rows(spec, analysis.run.rows), default="")


def _apart(windows: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """Numbers of windows (W, 2) that have no row in common, and the first rows of these."""
    numbers, last = [], 0
    for number, (begin, end) in enumerate(windows.tolist()):
        if begin >= last:
            numbers.append(number)
            last = end
    return numbers, windows[numbers, 0]


def _ranks(
    tensor: str | None,
    scope: ScopeResult,
    held: ScopeWindows,
    epsilon: float | None,
    apart: list[int],
    rows: NDArray[np.int64],
) -> Iterator[LevelSeries]:
    """r* of windows. apart, rows : as of `_apart`"""
    if epsilon is None or epsilon not in held.rank or scope.energy == 0:
        return
    yield _known(tensor, RANK, f"{epsilon:g}", rows, held.rank[epsilon][apart])


def _known(tensor: str | None, series: str, of: str, rows: NDArray[np.int64], values: Doubles) -> LevelSeries:
    """Of values above 0: the others have no logarithm, and are left out."""
    there = np.isfinite(values) & (values > 0)
    return LevelSeries(tensor, series, of, rows[there], np.log(values[there]))


def factor(change: LevelChange) -> float:
    """Of the new level over the old one; infinite beyond float64."""
    with np.errstate(over="ignore"):
        return float(np.exp(change.size))
