"""Intervals of the changes between two runs, from how their per-step sums vary from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..predictors import is_average, memory_rows
from ..quick_dataclass import dataclass
from ..results.projection import GROUPS
from ..results.result import Analysis, PredictorResult, ScopeResult
from .block_bootstrap import student
from .long_run_variance import LEAST_BINS, LEAST_FREEDOM, long_run_variance
from .multiple_testing import student_p
from .noise_reference import FEW_CARRY, LEAST_EFFECTIVE_ROWS, effective_rows
from .retiming import Retiming, retiming
from .step_bins import MOST_BINS, bin_edges
from .step_sums import (
    ENERGY,
    FIGURES,
    KAPPA,
    PATH_LENGTH,
    SCALED_KAPPA,
    StepSums,
    figures,
    influences,
    tensor_sums,
    total_sums,
    worth_retiming,
)

Doubles = NDArray[np.float64]

MOST_LOGARITHM = 709.0
"""Of a ratio, whose exponential float64 holds."""
LEAST_LEVEL_ROWS = 500
"""Norms of a run stay high or low for tens of rows (GARCH of persistence 0.98: 50): ten times that."""
OUTSIDE = 0.1
"""Share of a run's rows that may lie beyond the training steps of the one that it is aligned with."""
LEVELS_STAY = f"norms stay high or low for long, and take {LEAST_LEVEL_ROWS} rows"
NO_LOGARITHM = "it is 0 or beyond float64"
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
    """Of the natural logarithm of the ratio of a figure in both runs.

    difference, error, freedom : what it was made of, on the scale of `step_sums.figures`: the difference of
    both runs, its standard error, and the degrees of freedom that this is known with
    """

    lower: float
    upper: float
    difference: float
    error: float
    freedom: float

    def root(self, factor: float) -> LogInterval:
        """Of the square root of the figure, whose ratio is also multiplied by `factor`."""
        shift = math.log(factor)
        ends = (self.lower + shift) / 2, (self.upper + shift) / 2
        return LogInterval(*ends, self.difference + shift, self.error, self.freedom)

    @property
    def p(self) -> float:
        """Chance that a figure which is the same in both comes out so far apart, two-sided."""
        if self.error == 0:
            return float(self.difference == 0)
        return student_p(self.difference / self.error, self.freedom)


@dataclass(frozen=True)
class _Spread:
    """Variances of figures, one row for each independent source, and the degrees of freedom of each."""

    variances: Doubles
    freedom: Doubles

    def joined(self) -> tuple[Doubles, Doubles]:
        """(F,) standard errors, and degrees of freedom by Welch's formula."""
        total = self.variances.sum(axis=0)
        spread = (self.variances**2 / self.freedom).sum(axis=0)
        freedom = np.divide(total**2, spread, out=np.full(total.shape, np.inf), where=spread > 0)
        return np.sqrt(total), freedom


@dataclass(frozen=True)
class _Side:
    """One scope of one run: figures, and kappa of the best predictor at the end.

    points : (F,); influence : (F, n); first : (F,), variance of what row 0 adds; lags : (F,)
    effective : rows that carry the energy
    """

    sums: StepSums
    points: Doubles
    influence: Doubles
    first: Doubles
    lags: Doubles
    effective: float


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

    def of(self, scope: Scope) -> list[LogInterval | str]:
        """Of the scope's figures, in the order of `step_sums`, and of kappa[best]; or why there is none."""
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
        errors, freedom = spread.joined()
        quantile = student(NormalDist().inv_cdf((1 + self._confidence) / 2), freedom)
        few_carry = min(side.effective for side in sides) < LEAST_EFFECTIVE_ROWS
        few_rows = min(run.run.rows for run in self._runs) < LEAST_LEVEL_ROWS
        found: list[LogInterval | str] = []
        for at, (a, b, error) in enumerate(zip(sides[0].points, sides[1].points, errors, strict=True)):
            if not math.isfinite(a + b + error):
                found.append(NO_LOGARITHM)
            elif few_carry:
                found.append(FEW_CARRY)
            elif few_rows and self._levels[at]:
                found.append(LEVELS_STAY)
            else:
                numbers = float(a), float(b), float(error), float(freedom[at])
                scaled = at >= FIGURES and (at - FIGURES) % 3 == SCALED_KAPPA
                found.append((_of_scaled_kappa if scaled else _of_logarithm)(*numbers, float(quantile[at])))
        return found

    def _spread(self, sides: Sequence[_Side]) -> _Spread:
        each = [long_run_variance(side.influence, side.lags) for side in sides]
        variances, freedom = (np.stack(values) for values in zip(*each, strict=True))
        if self._paired:
            a, b = sides
            joint = long_run_variance(b.influence - a.influence, np.maximum(a.lags, b.lags))
            # A run's norms remember its past: what two runs share of their levels is no reason to think that
            # they share the rest.
            apart = self._levels[: variances.shape[1]]
            variances = np.where(apart, variances, np.stack([joint[0], 0 * joint[0]]))
            freedom = np.where(apart, freedom, joint[1])
        first = np.stack([side.first for side in sides])
        return _Spread(
            np.concatenate([variances, first]),
            np.concatenate([freedom, np.full_like(first, LEAST_FREEDOM)]),
        )

    def _side(self, side: int, scope: Scope) -> _Side:
        run, edges = self._runs[side], self._edges[side]
        if scope.tensors is None:
            sums = total_sums(run, self._specs, edges)
        else:
            sums = tensor_sums(run, scope.tensors[side], self._specs, edges)
        points = figures(sums.total, len(self._specs))
        timings = worth_retiming(sums, self._timings[side])
        influence = influences(sums, timings)
        width = (edges[-1] - 1) / max(1, edges.size - 2)
        lags = np.zeros(points.size)
        for p, spec in enumerate(self._specs):
            if not is_average(spec):
                lags[FIGURES + 3 * p : FIGURES + 3 * p + 3] = memory_rows(spec, int(edges[-1])) / width
        effective = scope.results[side].effective_rows
        if effective is None:
            effective = float(effective_rows(sums.bins[:, ENERGY], np.maximum(np.diff(edges)[1:], 1)))
        first = _of_first_row(sums, len(self._specs), edges)
        best = scope.best[side]
        if None in scope.best or best is None:
            return _Side(sums, points, influence, first, lags, effective)
        rows = np.append(np.arange(points.size), FIGURES + 3 * best + KAPPA)
        return _Side(sums, points[rows], influence[rows], first[rows], lags[rows], effective)

    @property
    def _levels(self) -> NDArray[np.bool_]:
        """(F + 1,) whether figures are as high as norms are: energy and path lengths."""
        found = np.zeros(FIGURES + 3 * len(self._specs) + 1, dtype=np.bool_)
        found[ENERGY] = True
        found[FIGURES + PATH_LENGTH : -1 : 3] = True
        return found


def _of_first_row(sums: StepSums, predictors: int, edges: NDArray[np.int64]) -> Doubles:
    """(F,) variance of what row 0 adds to each figure, which no predictor has foretold.

    It is alone of its kind: how far its energy could be off is taken from the rows of the first bin.
    """
    alone = StepSums(sums.total - sums.first, sums.first[None])
    after = sums.bins[0, ENERGY] / max(1, edges[2] - edges[1]) if sums.bins.size else 0.0
    energy = float(sums.first[ENERGY])
    off = min(1.0, abs(1 - after / energy)) if energy > 0 else 0.0
    return np.square(influences(alone, [None] * predictors)[:, 0] * off)


def _timing(spec: str, edges: NDArray[np.int64]) -> Retiming | None:
    # Aligned bins may be empty, and then have no rows to tell apart.
    return retiming(spec, edges) if (np.diff(edges) > 0).all() else None


def _same(a: StepSums, b: StepSums) -> bool:
    return np.array_equal(a.first, b.first) and np.array_equal(a.bins, b.bins)


def _of_logarithm(a: float, b: float, error: float, freedom: float, quantile: float) -> LogInterval:
    width = quantile * error
    return LogInterval(b - a - width, b - a + width, b - a, error, freedom)


def _of_scaled_kappa(a: float, b: float, error: float, freedom: float, quantile: float) -> LogInterval:
    """From arctanh |c| of both runs: scaled kappa is 1 - c^2 = cosh(arctanh c)^-2.

    The difference of both is varied about their mean; where that is less than the difference may be, about
    half of it, so that one of them can be 0.
    """
    width = quantile * error
    middle = max((a + b) / 2, width / 2)

    def change(difference: float) -> float:
        return 2 * (_log_cosh(middle - difference / 2) - _log_cosh(middle + difference / 2))

    return LogInterval(change(b - a + width), change(b - a - width), b - a, error, freedom)


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
    """Edges of as many bins in both runs; row 0 stays apart in each.

    Raises UsageError where the same steps are to be compared, and runs span others.
    """
    counts = [run.run.rows - 1 for run in runs]
    bins = min(*counts, MOST_BINS)
    shares = np.arange(bins + 1)
    if align == "fraction":
        first, second = (1 + shares * count // max(1, bins) for count in counts)
    else:
        steps = [run.steps.step for run in runs]
        _check_spans(steps, [run.run.path for run in runs])
        fewest = 0 if counts[0] <= counts[1] else 1
        inner = steps[fewest][1 + shares[:-1] * counts[fewest] // max(1, bins)]
        first, second = (
            np.append(np.clip(np.searchsorted(step, inner), 1, step.size - 1), step.size) for step in steps
        )
        first[0] = second[0] = 1
    return np.insert(first, 0, 0), np.insert(second, 0, 0)


def _check_spans(steps: Sequence[NDArray[np.int64]], names: Sequence[str]) -> None:
    """Raise UsageError where more of either run's rows lie beyond the other's training steps than OUTSIDE."""
    for step, other in ((steps[0], steps[1]), (steps[1], steps[0])):
        if ((step < other[0]) | (step > other[-1])).mean() > OUTSIDE:
            spans = ", ".join(f"{n} {s[0]} to {s[-1]}" for n, s in zip(names, steps, strict=True))
            raise UsageError(
                f"the runs span other training steps ({spans}): analyze the rows within those that both have "
                "(see shared_rows), or align by fraction"
            )
