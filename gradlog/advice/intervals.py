"""Intervals of figures that are made of sums over one run's rows: the circular block bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from ..statistics.block_bootstrap import (
    RESAMPLES,
    block_lengths,
    content_seed,
    draw_weights,
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


@dataclass(frozen=True)
class Asked:
    """A figure whose interval is asked for: `formula` of the sum of all rows.

    sums : (bins, columns), over consecutive rows; the first `fixed` bins are in every resample: row 0, which
    nothing predicts. More than `MOST_BINS` are added up to wider ones first
    memory : bins that a row hangs together with
    """

    sums: Doubles
    formula: Formula
    memory: float = 1.0
    confidence: float = CONFIDENCE
    fixed: int = 1

    @property
    def kind(self) -> tuple[object, ...]:
        """What figures have in common that are resampled together."""
        return self.formula, self.sums.shape, self.confidence, self.fixed


@dataclass
class RunBootstrap:
    """Resamples the rows of one run. norms : (N,), gradient norms, which the draws follow from."""

    norms: Doubles
    _draws: dict[tuple[int, int], NDArray[np.uint16]] = field(default_factory=dict)

    def intervals(self, asked: Sequence[Asked]) -> list[Interval]:
        """Each figure with its interval: those of a kind are resampled together, which costs next to one."""
        kinds: dict[tuple[object, ...], list[int]] = {}
        for number, each in enumerate(asked):
            kinds.setdefault(each.kind, []).append(number)
        found: dict[int, Interval] = {}
        for numbers in kinds.values():
            found |= zip(numbers, self._of_a_kind([asked[number] for number in numbers]), strict=True)
        return [found[number] for number in range(len(asked))]

    def _of_a_kind(self, asked: Sequence[Asked]) -> list[Interval]:
        formula, fixed, confidence = asked[0].formula, asked[0].fixed, asked[0].confidence
        sums = np.stack([each.sums for each in asked])
        total, first, bins = sums.sum(axis=1), sums[:, :fixed].sum(axis=1), sums[:, fixed:]
        width = -(-bins.shape[1] // MOST_BINS) or 1
        if width > 1:
            bins = np.add.reduceat(bins, np.arange(0, bins.shape[1], width), axis=1)
        count = bins.shape[1]
        with np.errstate(all="ignore"):
            values = formula(total)
            found = [Interval(value if math.isfinite(value) else None) for value in values.tolist()]
            known = np.flatnonzero(np.isfinite(values))
            if count < LEAST_BINS or not known.size:
                return found
            influence = np.einsum("qnc,qc->qn", bins[known], _slopes(total[known], formula))
            influence = np.nan_to_num(influence, posinf=0.0, neginf=0.0)
            memory = np.array([each.memory for each in asked])[known]
            lengths = block_lengths(influence, memory / width)
            for length in np.unique(lengths).tolist():
                some = known[lengths == length]
                columns = bins[some].transpose(1, 0, 2)
                drawn = self._weights(count, length) @ columns.reshape(count, -1)
                resampled = formula(first[some] + drawn.reshape(RESAMPLES, *columns.shape[1:]))
                blocks = np.full((1, some.size), count / length)
                variances = resampled.var(axis=0)[None]
                ends = np.stack(interval_ends(values[some], resampled, variances, blocks, confidence))
                sound = np.flatnonzero(np.isfinite(resampled).all(axis=0) & np.isfinite(ends).all(axis=0))
                for at, (lower, upper) in zip(some[sound].tolist(), ends.T[sound].tolist(), strict=True):
                    found[at] = Interval(float(values[at]), lower, upper)
        return found

    def _weights(self, bins: int, length: int) -> Doubles:
        key = bins, length
        if key not in self._draws:
            seed = content_seed(self.norms)
            self._draws[key] = draw_weights(seed, bins, length, RESAMPLES).astype(np.uint16)
        return self._draws[key].astype(np.float64)


def _slopes(totals: Doubles, formula: Formula) -> Doubles:
    """(Q, columns) derivatives of a smooth figure at (Q, columns), by central differences."""
    shift = 1e-6 * np.where(totals == 0.0, 1.0, np.abs(totals))
    steps = shift[:, None] * np.eye(totals.shape[1])
    above, below = (formula(totals[:, None] + sign * steps) for sign in (1, -1))
    return np.asarray((above - below) / (2 * shift))
