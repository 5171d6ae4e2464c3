"""How well a choice made on some rows predicts others, and how far that figure could have come out otherwise.

A predictor that is chosen in hindsight among hundreds looks good on pure noise too. Here the rows are dealt
out, a run of consecutive rows at a time, to BLOCKS blocks, ROUNDS times around, so that each block has rows
of all phases of training. For each block the choice is made on all others, and what it leaves of the block
is kept: those residuals, put together, owe nothing to the search. (The predictor itself runs over the whole
history, as it would in training; only the choice of its parameters leaves the block out.)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...statistics.block_bootstrap import RESAMPLES, block_lengths, draw_weights, interval_ends
from ...statistics.long_run_variance import LEAST_BINS

Doubles = NDArray[np.float64]

BLOCKS = 8
ROUNDS = 4
MOST_RESAMPLED = 512
"""Bins that rows are resampled in, at most."""


def block_sums(table: Doubles) -> Doubles:
    """(BLOCKS, ...) sums of the rows of each block."""
    edges = _edges(table.shape[0])
    runs = np.add.reduceat(table, np.minimum(edges[:-1], table.shape[0] - 1), axis=0)
    runs[np.diff(edges) == 0] = 0.0  # reduceat gives the row itself there
    return np.asarray(runs.reshape(ROUNDS, BLOCKS, *table.shape[1:]).sum(axis=0))


@functools.lru_cache(maxsize=4)
def block_rows(rows: int) -> list[NDArray[np.int64]]:
    """Numbers of the rows of each block."""
    of_run = np.repeat(np.arange(ROUNDS * BLOCKS), np.diff(_edges(rows)))
    return [np.flatnonzero(of_run % BLOCKS == block) for block in range(BLOCKS)]


def _edges(rows: int) -> NDArray[np.int64]:
    return np.arange(ROUNDS * BLOCKS + 1) * rows // (ROUNDS * BLOCKS)


def enough_rows(rows: int) -> bool:
    """Whether there are rows enough to say anything about those held out."""
    return rows > LEAST_BINS


def held_out_column(table: Doubles) -> Doubles:
    """(n,) residuals, each block's from the column of (n, Q) that leaves least on the other blocks."""
    sums = block_sums(table)
    choices = (sums.sum(axis=0) - sums).argmin(axis=1)
    found = np.empty(table.shape[0])
    for rows, choice in zip(block_rows(table.shape[0]), choices, strict=True):
        found[rows] = table[rows, choice]
    return found


def ratio_intervals(
    residuals: Doubles, energy: Doubles, memory: Sequence[float], confidence: float
) -> list[tuple[float, float] | None]:
    """Intervals of sum(residual) / sum(energy) for each of Q columns, by circular block bootstrap.

    residuals : (n, Q); energy : (n,), > 0 in sum; memory : rows that each column's predictor looks back on

    Row 0, which nothing predicts, is never resampled. None where a column adds up to 0.
    """
    width = -(-(energy.size - 1) // MOST_RESAMPLED)
    starts = np.arange(1, energy.size, width)
    scale = energy.sum()
    sums = np.add.reduceat(np.column_stack([energy, residuals]), starts, axis=0) / scale
    first = np.concatenate([energy[:1], residuals[0]]) / scale
    total = first + sums.sum(axis=0)
    points = total[1:] / total[0]
    usable = points > 0
    safe = np.where(usable, total[1:], 1.0)
    influence = sums[:, 1:].T / safe[:, None] - sums[:, 0] / total[0]
    lengths = block_lengths(influence, 2 * np.asarray(memory) / width)
    logs = np.zeros((RESAMPLES, points.size))
    for length in np.unique(lengths):
        at = np.flatnonzero((lengths == length) & usable)
        drawn = _draws(starts.size, int(length)) @ sums[:, [0, *(at + 1)]].astype(np.float32)
        drawn = first[[0, *(at + 1)]] + drawn.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs[:, at] = np.log(drawn[:, 1:] / drawn[:, :1])
    usable &= np.isfinite(logs).all(axis=0)
    logs = np.where(usable, logs, 0.0)
    point = np.log(np.where(usable, points, 1.0))
    blocks = starts.size / lengths
    ends = interval_ends(point, logs, logs.var(axis=0)[None], blocks[None], confidence)
    with np.errstate(over="ignore"):  # an end past float64 is none
        lower, upper = map(np.exp, ends)
    return [
        (float(low), float(high)) if good else None
        for low, high, good in zip(lower, upper, usable, strict=True)
    ]


@functools.lru_cache(maxsize=16)
def _draws(bins: int, length: int) -> NDArray[np.float32]:
    """(RESAMPLES, bins), the same for all scopes, so that they are drawn once."""
    return draw_weights(0, bins, length, RESAMPLES).astype(np.float32)
