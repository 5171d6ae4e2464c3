"""What was found for a scope as a table of numbers, which parts hold, and back to the last bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...results.search_result import FAMILIES, FoundPredictor, ScopeSearch
from .candidates import nothing_to_search

Doubles = NDArray[np.float64]

FIGURES = ("path_length", "kappa", "scaled_kappa", "scale", "held_out", "lower", "upper")
"""Columns behind the family's: NaN for None."""
COLUMNS = 1 + len(FIGURES)
"""In front of the numbers behind the family's name in a predictor's spec, NaN behind their end."""
NUMBERS = {"ema": 1, "mean": 1, "mixture": 3}
"""Of a family's specs; those of `lags` have one or more."""
SUMS = 1e-9
"""Relative: kappa and the path length are of the same residuals."""


def table_of(search: ScopeSearch) -> Doubles:
    """(found predictors, COLUMNS + numbers)"""
    specs = [[float(word) for word in item.predictor.partition(":")[2].split(",")] for item in search.found]
    table = np.full((len(search.found), COLUMNS + max(map(len, specs), default=0)), np.nan)
    for row, item, numbers in zip(table, search.found, specs, strict=True):
        row[0] = FAMILIES.index(item.family)
        for column, name in enumerate(FIGURES, 1):
            value = getattr(item, name)
            row[column] = np.nan if value is None else value
        row[COLUMNS : COLUMNS + len(numbers)] = numbers
    return table


def steps_table(search: ScopeSearch) -> Doubles:
    """(found predictors, N) the residuals of each step, where they were kept."""
    return np.stack([search.steps[item.predictor] for item in search.found])


def search_of(name: str, table: Doubles, energy: float, rows: int) -> ScopeSearch:
    """The inverse of `table_of`. energy : of the tensor's gradients, in `rows` rows

    Raises ValueError where the table is of none, or of another tensor.
    """
    why = nothing_to_search(np.full(rows, energy / rows))
    families = table[:, 0]
    if bool(why) != (not len(table)) or not np.isin(families, range(len(FAMILIES))).all():
        raise ValueError("a search of other families")
    if (np.diff(families) <= 0).any():
        raise ValueError("a search of families in another order")
    return ScopeSearch(name, tuple(_found(row, energy) for row in table), why)


def with_steps(search: ScopeSearch, table: Doubles) -> ScopeSearch:
    """With the residuals of each step, as of `steps_table`. Raises ValueError where they are of others."""
    for item, residuals in zip(search.found, table, strict=True):
        if not abs(float(residuals.sum()) - item.path_length) <= SUMS * item.path_length:
            raise ValueError(f"the steps of {item.predictor[:40]} don't add up to its path length")
    steps = {item.predictor: row for item, row in zip(search.found, table, strict=True)}
    return dataclasses.replace(search, steps=steps)


def _found(row: Doubles, energy: float) -> FoundPredictor:
    family = FAMILIES[int(row[0])]
    figures: dict[str, Any] = {
        name: None if np.isnan(value) else value
        for name, value in zip(FIGURES, row[1:COLUMNS].tolist(), strict=True)
    }
    length, kappa = row[1], row[2]
    numbers = row[COLUMNS:][~np.isnan(row[COLUMNS:])].tolist()
    counted = len(numbers) == NUMBERS.get(family, max(1, len(numbers)))
    if not counted or not np.isfinite(numbers).all() or (row[1:4] < 0).any():
        raise ValueError(f"no predictor of the family {family}")
    if not abs(length - kappa * energy) <= SUMS * energy or figures["scaled_kappa"] is None:
        raise ValueError("a search whose kappas don't fit totals.npy")
    words = [str(int(number)) if family == "mean" else str(number) for number in numbers]
    return FoundPredictor(family, f"{family}:{','.join(words)}", **figures)
