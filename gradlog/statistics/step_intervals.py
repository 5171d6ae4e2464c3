"""Intervals of the changes between two runs, from how their per-step sums vary from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ..predictors import is_average, memory_rows
from ..results.projection import GROUPS
from ..results.result import Analysis, PredictorResult, ScopeResult
from .block_bootstrap import student
from .long_run_variance import LEAST_BINS, long_run_variance
from .retiming import Retiming, retiming
from .step_bins import MOST_BINS, bin_edges
from .step_sums import (
    FIGURES,
    KAPPA,
    PATH_LENGTH,
    SCALED_KAPPA,
    StepSums,
    figures,
    influences,
    states,
    tensor_sums,
    total_sums,
    worth_retiming,
)

Doubles = NDArray[np.float64]

START_SHARE = 10
"""At most one of so many rows counts as the start of a predictor with lags, when fewer have gone before."""
_WORDS = {PATH_LENGTH: "path_length", KAPPA: "kappa", SCALED_KAPPA: "scaled_kappa"}


@dataclass(frozen=True)
class Scope:
    """The same scope in both runs. tensors : its number in each; None for the whole model

    best : index of each run's best predictor among those that both measured; None where there is none
    results : of the scope, for the errors of sketches
    """

    tensors: tuple[int, int] | None
    best: tuple[int | None, int | None]
    results: tuple[ScopeResult, ScopeResult]


@dataclass(frozen=True)
class LogInterval:
    """Of the natural logarithm of the ratio of a figure in both runs."""

    lower: float
    upper: float

    def root(self, factor: float) -> LogInterval:
        """Of the square root of the figure, whose ratio is also multiplied by `factor`."""
        shift = math.log(factor)
        return LogInterval((self.lower + shift) / 2, (self.upper + shift) / 2)


@dataclass(frozen=True)
class _Spread:
    """Variances of figures, one row for each independent source, and the degrees of freedom of each."""

    variances: Doubles
    freedom: Doubles

    def half_widths(self, confidence: float) -> Doubles:
        """Of intervals: Student's quantile with Welch's degrees of freedom."""
        total = self.variances.sum(axis=0)
        spread = (self.variances**2 / self.freedom).sum(axis=0)
        freedom = np.divide(total**2, spread, out=np.full(total.shape, np.inf), where=spread > 0)
        quantile = student(NormalDist().inv_cdf((1 + confidence) / 2), freedom)
        return np.asarray(quantile * np.sqrt(total))


@dataclass(frozen=True)
class _Side:
    """One scope of one run: figures, and kappa of the best predictor at the end.

    points : (F,); influence : (F, n); states : (F, n, k); lags : (F,)
    """

    sums: StepSums
    points: Doubles
    influence: Doubles
    states: Doubles
    lags: Doubles


class StepIntervals:
    """Two runs cut into bins.

    specs : predictors that both measured, without `zero`
    align : None where each run varies on its own; "step" or "fraction" to compare the same bins of both,
    which are then bins of training steps, or of the fraction of rows
    """

    def __init__(
        self,
        runs: tuple[Analysis, Analysis],
        specs: Sequence[str],
        *,
        align: str | None,
        confidence: float,
    ) -> None:
        self._runs = runs
        self._specs = specs
        self._confidence = confidence
        self._paired = align is not None
        self._edges = _aligned_edges(runs, align) if align else tuple(bin_edges(r.run.rows) for r in runs)
        self._timings: list[list[Retiming | None]] = []
        if self.enough:
            self._timings = [[_timing(spec, edges) for spec in specs] for edges in self._edges]

    @property
    def enough(self) -> bool:
        """Whether there are enough rows in both runs to say how they vary."""
        return all(edges.size - 2 >= LEAST_BINS for edges in self._edges)

    def of(self, scope: Scope) -> list[LogInterval | None]:
        """Of the scope's figures, in the order of `step_sums`, and of kappa[best]."""
        sides = [self._side(side, scope) for side in (0, 1)]
        spread = self._spread(sides)
        sketched = np.stack([_sketch_variances(scope, side, self._specs) for side in (0, 1)])
        if _same(sides[0].sums, sides[1].sums):
            # A run against itself: nothing varies, nor does the projection.
            spread, sketched = _Spread(0 * spread.variances, spread.freedom), 0 * sketched
        spread = _Spread(
            np.concatenate([spread.variances, sketched]),
            np.concatenate([spread.freedom, np.full_like(sketched, GROUPS - 1)]),
        )
        widths = spread.half_widths(self._confidence)
        found: list[LogInterval | None] = []
        for at, (a, b, width) in enumerate(zip(sides[0].points, sides[1].points, widths, strict=True)):
            if not math.isfinite(a + b + width):
                found.append(None)
            elif at >= FIGURES and (at - FIGURES) % 3 == SCALED_KAPPA:
                found.append(_of_scaled_kappa(float(a), float(b), float(width)))
            else:
                found.append(LogInterval(float(b - a - width), float(b - a + width)))
        return found

    def _spread(self, sides: Sequence[_Side]) -> _Spread:
        if self._paired:
            a, b = sides
            joint = long_run_variance(
                b.influence - a.influence,
                np.concatenate([a.states, b.states], axis=2),
                np.maximum(a.lags, b.lags),
            )
            return _Spread(joint[0][None], joint[1][None])
        each = [long_run_variance(side.influence, side.states, side.lags) for side in sides]
        return _Spread(*(np.stack(list(values)) for values in zip(*each, strict=True)))

    def _side(self, side: int, scope: Scope) -> _Side:
        run, edges = self._runs[side], self._edges[side]
        if scope.tensors is None:
            sums = total_sums(run, self._specs, edges)
        else:
            sums = tensor_sums(run, scope.tensors[side], self._specs, edges)
        points = figures(sums.total, len(self._specs))
        timings = worth_retiming(sums, self._timings[side])
        influence, past = influences(sums, timings), states(sums, timings)
        lags = np.zeros(points.size)
        width = (edges[-1] - 1) / max(1, edges.size - 2)
        for p, spec in enumerate(self._specs):
            if is_average(spec):
                continue
            memory = memory_rows(spec, int(edges[-1]))
            at = FIGURES + 3 * p
            lags[at : at + 3] = 2 * memory / width
            start = int(min((memory - 1) / width, sums.bins.shape[0] / START_SHARE))
            for values in (influence[at : at + 3], past[at : at + 3]):
                values[:, :start] = values[:, start:].mean(axis=1, keepdims=True)
        best = scope.best[side]
        if None in scope.best or best is None:
            return _Side(sums, points, influence, past, lags)
        rows = np.append(np.arange(points.size), FIGURES + 3 * best + KAPPA)
        return _Side(sums, points[rows], influence[rows], past[rows], lags[rows])


def _timing(spec: str, edges: NDArray[np.int64]) -> Retiming | None:
    # Aligned bins may be empty, and then have no rows to tell apart.
    return retiming(spec, edges) if (np.diff(edges) > 0).all() else None


def _same(a: StepSums, b: StepSums) -> bool:
    return np.array_equal(a.first, b.first) and np.array_equal(a.bins, b.bins)


def _of_scaled_kappa(a: float, b: float, width: float) -> LogInterval:
    """From arctanh |c| of both runs: scaled kappa is 1 - c^2 = cosh(arctanh c)^-2.

    The difference of both is varied about their mean; where that is less than the difference may be, about
    half of it, so that one of them can be 0.
    """
    middle = max((a + b) / 2, width / 2)

    def change(difference: float) -> float:
        return 2 * (_log_cosh(middle - difference / 2) - _log_cosh(middle + difference / 2))

    return LogInterval(change(b - a + width), change(b - a - width))


def _log_cosh(x: float) -> float:
    return abs(x) + math.log1p(math.exp(-2 * abs(x))) - math.log(2)


def _sketch_variances(scope: Scope, side: int, specs: Sequence[str]) -> Doubles:
    """(F,) of the figures, where a sketch estimates them: its error is the same at all steps."""
    result = scope.results[side]
    held = {p.predictor: p for p in result.predictors}
    errors = [_relative(result.energy_error, result.energy)]
    for spec in specs:
        errors += [_sketch_error(held[spec], offset) for offset in (PATH_LENGTH, KAPPA, SCALED_KAPPA)]
    best = scope.best[side]
    if None not in scope.best and best is not None:
        errors.append(errors[FIGURES + 3 * best + KAPPA])
    return np.asarray(np.square(errors))


def _sketch_error(result: PredictorResult, offset: int) -> float:
    word = _WORDS[offset]
    value, error = getattr(result, word), getattr(result, f"{word}_error")
    found = _relative(error, value)
    if offset == SCALED_KAPPA and found:
        # d log(1 - c^2) = -2 |c| d arctanh |c|
        found /= 2 * math.sqrt(max(1 - value, value * found))
    return found


def _relative(error: float | None, value: float | None) -> float:
    return 0.0 if not error or not value else error / value


def _aligned_edges(
    runs: tuple[Analysis, Analysis], align: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of as many bins in both runs; row 0 stays apart in each."""
    counts = [run.run.rows - 1 for run in runs]
    bins = min(*counts, MOST_BINS)
    shares = np.arange(bins + 1)
    if align == "fraction":
        first, second = (1 + shares * count // max(1, bins) for count in counts)
    else:
        steps = [run.steps.step for run in runs]
        fewest = 0 if counts[0] <= counts[1] else 1
        inner = steps[fewest][1 + shares[:-1] * counts[fewest] // max(1, bins)]
        first, second = (np.append(np.maximum(1, np.searchsorted(step, inner)), step.size) for step in steps)
        first[0] = second[0] = 1
    return np.insert(first, 0, 0), np.insert(second, 0, 0)
