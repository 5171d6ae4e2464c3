"""Intervals of figures that are made of sums over one run's rows: the circular block bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..statistics.block_bootstrap import (
    RESAMPLES,
    block_lengths,
    content_seed,
    draw_starts,
    drawn_sums,
    interval_ends,
)
from ..statistics.long_run_variance import LEAST_BINS
from ..statistics.step_bins import MOST_BINS

Doubles = NDArray[np.float64]
Formula = Callable[[Doubles], Doubles]
"""A figure from sums (..., columns)."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure's value and its interval; lower and upper are None where there are too few rows to say."""

    value: float | None
    lower: float | None = None
    upper: float | None = None


@dataclass
class RunBootstrap:
    """Resamples the rows of one run. norms : (N,), gradient norms, which the draws follow from."""

    norms: Doubles
    _draws: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)

    def interval(
        self,
        sums: Doubles,
        formula: Formula,
        memory: float = 1.0,
        confidence: float = CONFIDENCE,
        *,
        fixed: int = 1,
    ) -> Interval:
        """The figure `formula` of the sum of all rows, with its interval.

        sums : (bins, columns), over consecutive rows; the first `fixed` bins are in every resample: row 0,
        which nothing predicts. More than `MOST_BINS` are added up to wider ones first
        memory : bins that a row hangs together with
        """
        total, first, bins = sums.sum(axis=0), sums[:fixed].sum(axis=0), sums[fixed:]
        width = -(-bins.shape[0] // MOST_BINS) or 1
        if width > 1:
            bins = np.add.reduceat(bins, np.arange(0, bins.shape[0], width), axis=0)
        with np.errstate(all="ignore"):
            value = float(formula(total))
            if not np.isfinite(value):
                return Interval(None)
            if bins.shape[0] < LEAST_BINS:
                return Interval(value)
            influence = bins @ _slopes(total, formula)
            influence = np.nan_to_num(influence, posinf=0.0, neginf=0.0)
            (length,) = block_lengths(influence[None], np.array([memory / width]))
            drawn = drawn_sums(self._starts(bins.shape[0], int(length)), int(length), bins)
            values = formula(first + drawn)
            if not np.isfinite(values).all():
                return Interval(value)
            blocks = np.array([[bins.shape[0] / int(length)]])
            variance = values.var()[None, None]
            ends = interval_ends(np.array([value]), values[:, None], variance, blocks, confidence)
        if not np.isfinite(ends).all():
            return Interval(value)
        return Interval(value, *(float(end[0]) for end in ends))

    def _starts(self, bins: int, length: int) -> NDArray[np.int64]:
        key = bins, length
        if key not in self._draws:
            self._draws[key] = draw_starts(content_seed(self.norms), bins, length, RESAMPLES)
        return self._draws[key]


def _slopes(total: Doubles, formula: Formula) -> Doubles:
    """(columns,) derivatives of a smooth figure, by central differences."""
    shift = 1e-6 * np.where(total == 0.0, 1.0, np.abs(total))
    steps = np.diag(shift)
    return np.asarray((formula(total + steps) - formula(total - steps)) / (2 * shift))
