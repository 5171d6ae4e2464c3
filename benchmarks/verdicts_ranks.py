"""Error rates and power of `compare` on ranks: tables of docs/compare.md.

Runs that do not differ go through `gradlog.analyze` and `gradlog.compare` as logs do, each beside the next
one drawn, over more parameters than rows. A verdict other than `~` is false.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from verdict_series import KINDS, white
from verdicts_bounds import ArrayTensor

from gradmf import gradlog
from gradmf.gradlog import Analysis, Settings

Doubles = NDArray[np.float64]

ROWS = (30, 60, 200, 600)
PARAMETERS = 1000
QUANTITIES = ("rank[0.1]", "rank[0.05]", "rank[0.01]", "effective_rank", "stable_rank")
DIRECTIONS = 10
PLANTED = (11, 12, 15, 20)


def analysis_of(gradients: Doubles) -> Analysis:
    """Of one tensor (rows, parameters)."""
    rows = len(gradients)
    tensors = (ArrayTensor("w", gradients),)
    log = gradlog.GradientLog(path="simulated", tensors=tensors, rows=rows, step=np.arange(rows))
    return gradlog.analyze(log, Settings(predictors=("one-step",), rank="exact"), threads=1)


def called(a: Analysis, b: Analysis) -> list[float]:
    """Of `QUANTITIES`: 1 where a difference is called, 0 where it is `~`, NaN without an interval."""
    changes = {change.quantity: change for change in gradlog.compare(a, b).total.changes}
    found = [changes[quantity] for quantity in QUANTITIES]
    return [np.nan if change.interval is None else float(change.significant) for change in found]


def null_table(pairs: int) -> Iterator[str]:
    """Percent of false verdicts; "-" where fewer than one pair in ten has one."""
    yield "| kind | N | given | " + " | ".join(f"`{quantity}`" for quantity in QUANTITIES) + " |"
    yield "|---|---:|---:|" + "---:|" * len(QUANTITIES)
    for kind, series in KINDS.items():
        for rows in ROWS:
            runs = [
                analysis_of(series(np.random.default_rng([number, rows, 11]), rows, PARAMETERS))
                for number in range(pairs)
            ]
            found = np.array([called(a, b) for a, b in zip(runs, [*runs[1:], runs[0]], strict=True)])
            given = (~np.isnan(found)).mean(axis=0)
            cells = [
                "-" if share < 0.1 else f"{100 * np.nanmean(column):.1f}"
                for share, column in zip(given, found.T, strict=True)
            ]
            yield f"| {kind} | {rows} | {100 * given[0]:.0f} | {' | '.join(cells)} |"


def of_directions(rng: np.random.Generator, rows: int, directions: int) -> Doubles:
    """Nine tenths of the energy in so many directions, the rest in all."""
    signal = white(rng, rows, directions) @ white(rng, directions, PARAMETERS)
    noise = white(rng, rows, PARAMETERS)
    shares = (np.sqrt(share) / np.linalg.norm(each) for share, each in ((0.9, signal), (0.1, noise)))
    return np.asarray(signal * next(shares) + noise * next(shares))


def power_table(pairs: int) -> Iterator[str]:
    """Percent of pairs in which a run of more directions is called, beside one of `DIRECTIONS`."""
    yield "| directions | N | " + " | ".join(f"`{quantity}`" for quantity in QUANTITIES) + " |"
    yield "|---|---:|" + "---:|" * len(QUANTITIES)
    for directions in PLANTED:
        for rows in ROWS:
            found = [
                called(
                    analysis_of(of_directions(np.random.default_rng([number, rows, 12]), rows, DIRECTIONS)),
                    analysis_of(of_directions(np.random.default_rng([number, rows, 13]), rows, directions)),
                )
                for number in range(pairs)
            ]
            cells = [f"{100 * share:.0f}" for share in np.array(found).mean(axis=0)]
            yield f"| {directions}, not {DIRECTIONS} | {rows} | {' | '.join(cells)} |"


def tables(pairs: int = 200) -> Iterator[str]:
    """The lines of both tables, as Markdown, as they come."""
    yield from null_table(pairs)
    yield ""
    yield from power_table(pairs // 4)
