"""Intervals of the changes between two runs: their per-step sums, resampled in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .block_bootstrap import LEAST_BINS, block_lengths, content_seed, draw_weights, interval_ends
from .predictors import memory_rows
from .result import Analysis
from .step_bins import MOST_BINS, bin_edges
from .step_sums import (
    FIGURES,
    KAPPA,
    StepSums,
    figure_columns,
    log_figures,
    log_influence,
    tensor_sums,
    total_sums,
)

Doubles = NDArray[np.float64]

SCOPES_AT_ONCE = 64
"""Resampled figures of so many scopes are in memory together."""
_SEED_BITS = (1 << 64) - 1


@dataclass(frozen=True)
class Scope:
    """The same scope in both runs. tensors : its number in each; None for the whole model

    best : index of each run's best predictor among those that both measured; None where there is none
    """

    tensors: tuple[int, int] | None
    best: tuple[int | None, int | None]


@dataclass(frozen=True)
class LogInterval:
    """Of the natural logarithm of the ratio of a figure in both runs."""

    lower: float
    upper: float

    def root(self, factor: float) -> LogInterval:
        """Of the square root of the figure, whose ratio is also multiplied by `factor`."""
        shift = math.log(factor)
        return LogInterval((self.lower + shift) / 2, (self.upper + shift) / 2)


class Resampling:
    """Two runs cut into bins, and how they are resampled.

    specs : predictors that both measured, without `zero`
    align : None to resample each run on its own; "step" or "fraction" to draw the same bins in both, which
    are then bins of training steps, or of the fraction of rows
    """

    def __init__(
        self,
        runs: tuple[Analysis, Analysis],
        specs: Sequence[str],
        *,
        align: str | None,
        confidence: float,
        resamples: int,
    ) -> None:
        self._runs = runs
        self._specs = specs
        self._confidence = confidence
        self._resamples = resamples
        self._paired = align is not None
        self._edges = _aligned_edges(runs, align) if align else tuple(bin_edges(r.run.rows) for r in runs)
        seeds = [content_seed(run.steps.grad_norm) for run in runs]
        # The same for either order of the runs.
        self._seeds = [sum(seeds) & _SEED_BITS] * 2 if self._paired else seeds
        self._needs = figure_columns(len(specs))

    @property
    def enough(self) -> bool:
        """Whether there are enough rows in both runs to say how they vary."""
        return all(edges.size - 2 >= LEAST_BINS for edges in self._edges)

    def intervals(self, scopes: Sequence[Scope]) -> Iterator[list[LogInterval | None]]:
        """For each scope the intervals of its figures, in the order of `step_sums`, and of kappa[best]."""
        for first in range(0, len(scopes), SCOPES_AT_ONCE):
            yield from self._intervals(scopes[first : first + SCOPES_AT_ONCE])

    def _intervals(self, scopes: Sequence[Scope]) -> Iterator[list[LogInterval | None]]:
        sums = [[self._sums(side, scope) for scope in scopes] for side in (0, 1)]
        memory = [self._memory(side) for side in (0, 1)]
        figures = self._needs.shape[0]
        if self._paired:
            joint = []
            for a, b in zip(*sums, strict=True):
                joint.append(block_lengths(log_influence(b) - log_influence(a), np.maximum(*memory)))
            lengths = [joint, joint]
        else:
            lengths = [[block_lengths(log_influence(s), memory[side]) for s in sums[side]] for side in (0, 1)]
        replicates = [self._replicates(side, sums[side], lengths[side]) for side in (0, 1)]
        for at, scope in enumerate(scopes):
            logs = [replicates[side][at] for side in (0, 1)]
            points = [log_figures(sums[side][at].total, np.arange(figures)) for side in (0, 1)]
            blocks = [sums[side][at].bins.shape[0] / lengths[side][at] for side in (0, 1)]
            columns = [np.arange(figures), np.arange(figures)]
            if scope.best[0] is not None and scope.best[1] is not None:
                columns = [np.append(np.arange(figures), FIGURES + 3 * (p or 0) + KAPPA) for p in scope.best]
            yield self._of_scope(
                [log[:, column] for log, column in zip(logs, columns, strict=True)],
                [point[column] for point, column in zip(points, columns, strict=True)],
                [block[column] for block, column in zip(blocks, columns, strict=True)],
            )

    def _of_scope(
        self, logs: list[Doubles], points: list[Doubles], blocks: list[Doubles]
    ) -> list[LogInterval | None]:
        resampled = logs[1] - logs[0]
        change = points[1] - points[0]
        usable = np.isfinite(resampled).all(axis=0) & np.isfinite(change)
        resampled = np.where(usable, resampled, 0.0)
        if self._paired:
            variances, counts = resampled.var(axis=0)[None], blocks[0][None]
        else:
            variances = np.stack([np.where(usable, log, 0.0).var(axis=0) for log in logs])
            counts = np.stack(blocks)
        lower, upper = interval_ends(change, resampled, variances, counts, self._confidence)
        return [
            LogInterval(float(low), float(high)) if good else None
            for low, high, good in zip(lower, upper, usable, strict=True)
        ]

    def _sums(self, side: int, scope: Scope) -> StepSums:
        run, edges = self._runs[side], self._edges[side]
        if scope.tensors is None:
            return total_sums(run, self._specs, edges)
        return tensor_sums(run, scope.tensors[side], self._specs, edges)

    def _memory(self, side: int) -> Doubles:
        """(figures,) twice the bins that each figure's predictor looks back on."""
        edges = self._edges[side]
        width = (edges[-1] - 1) / max(1, edges.size - 2)
        memory = np.zeros(self._needs.shape[0])
        for p, spec in enumerate(self._specs):
            at = FIGURES + 3 * p
            memory[at : at + 3] = 2 * memory_rows(spec, int(edges[-1])) / width
        return memory

    def _replicates(
        self, side: int, sums: Sequence[StepSums], lengths: Sequence[NDArray[np.int64]]
    ) -> list[Doubles]:
        """For each scope (resamples, figures): logarithms of the resampled figures."""
        figures = self._needs.shape[0]
        found = [np.empty((self._resamples, figures)) for _ in sums]
        for length in np.unique(np.concatenate(list(lengths))):
            bins = sums[0].bins.shape[0]
            weights = draw_weights(self._seeds[side], bins, int(length), self._resamples)
            for scope, of_scope, logs in zip(sums, lengths, found, strict=True):
                wanted = np.flatnonzero(of_scope == length)
                if not wanted.size:
                    continue
                columns = np.flatnonzero(self._needs[wanted].any(axis=0))
                resampled = np.zeros((self._resamples, self._needs.shape[1]))
                resampled[:, columns] = scope.first[columns] + weights @ scope.bins[:, columns]
                logs[:, wanted] = log_figures(resampled, wanted)
        return found


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
