"""Rows that stand for a window's gradients and increments alike, so that one product of them gives both.

Products of increments are differences of those of gradients, which loses digits where gradients change
little; products of gradients are sums of those of a first gradient and of the increments after it, which
loses digits where there are many and large ones. What is multiplied is chosen from a sample of the columns,
and held against what came out: where it lost digits, both kinds of rows are multiplied.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FROM_GRADIENTS, FROM_INCREMENTS, BOTH = "from gradients", "from increments", "both"
SAMPLE = 32
"""Columns, evenly spread, that say what is likely to keep its digits."""
ONE_DIGIT = 10.0
"""By how much the largest energy of gradients may exceed that of increments read off their products."""
STEPS = 64.0
"""How many times the largest energy of gradients may stand in the increments that they are summed from: their
rounding adds up like a random walk, and gradients that drift so have a sigma^2 of many times that energy."""
HALF_OF_DIGITS = 1e7
"""How many times its own energy may stand in the products that a row is read off."""


@dataclass(frozen=True, eq=False)
class WindowRows:
    """Rows begin .. end - 1 of a run's gradients, and the one before them: of the first of all, itself.

    gradients : (N, W) float32 or float64; form : what is multiplied: gradients from the row before on; the
    gradient of the row before and the window's increments; or the window's gradients and its increments
    """

    gradients: NDArray[np.floating[Any]]
    begin: int
    end: int
    form: str

    @property
    def count(self) -> int:
        """Number of rows that are multiplied."""
        height = self.end - self.begin
        return 2 * height if self.form == BOTH else height + 1

    def write(self, out: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rows that are multiplied, (count, W) float64, in the first rows of `out`."""
        out = out[: self.count]
        own = self.gradients[self.begin : self.end]
        if self.form == BOTH:
            out[: own.shape[0]], increments = own, out[own.shape[0] :]
        else:
            out[0], increments = self.gradients[max(0, self.begin - 1)], out[1:]
        if self.form == FROM_GRADIENTS:
            increments[:] = own
            return out
        first = 0 if self.begin else 1
        increments[:] = own
        increments[:first] = 0.0
        increments[first:] -= self.gradients[self.begin - 1 + first : self.end - 1]
        return out

    def checked(self, before: float, both: NDArray[np.float64]) -> WindowRows:
        """The window itself, or in the form of both where its products lost digits.

        before : energy of the first row that was multiplied; both : (2, rows, rows), as of `of_both_kinds`
        """
        return self if self.form == BOTH or self._keeps_digits(before, both) else replace(self, form=BOTH)

    def _keeps_digits(self, before: float, both: NDArray[np.float64]) -> bool:
        gradients, increments = both.diagonal(axis1=1, axis2=2)
        largest = gradients.max()
        if not (math.isfinite(before) and math.isfinite(largest) and math.isfinite(increments.max())):
            return False
        if self.form == FROM_INCREMENTS:
            energy = increments.max() * increments.size
            return bool(energy <= STEPS * largest and HALF_OF_DIGITS * gradients.min() >= largest)
        pairs = gradients.copy()  # an increment's energy stands in those of two gradients
        np.maximum(gradients[1:], gradients[:-1], out=pairs[1:])
        pairs[0] = max(gradients[0], before) if self.begin else 0.0
        return bool(
            ONE_DIGIT * increments.max() >= pairs.max() and (HALF_OF_DIGITS * increments >= pairs).all()
        )


def windows_of(gradients: NDArray[np.floating[Any]], bounds: Sequence[tuple[int, int]]) -> list[WindowRows]:
    """Rows of neighbouring windows (begin, end), in the forms that a sample of the columns speaks for."""
    first, last = max(0, bounds[0][0] - 1), bounds[-1][1]
    sample = gradients[first:last, :: max(1, gradients.shape[1] // SAMPLE)].astype(np.float64)
    energies = np.square(sample).sum(axis=1)
    movements = np.square(np.diff(sample, axis=0, prepend=sample[:1])).sum(axis=1)
    windows = []
    for begin, end in bounds:
        energy, movement = (values[begin - first : end - first].max() for values in (energies, movements))
        # Midway between what either form bears.
        drifts = energy > movement * math.sqrt(ONE_DIGIT * (end - begin) / STEPS)
        windows.append(WindowRows(gradients, begin, end, FROM_INCREMENTS if drifts else FROM_GRADIENTS))
    return windows


def of_both_kinds(
    first: WindowRows, second: WindowRows, products: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Products of two windows' gradients, and of their increments; there is none at row 0, which counts as 0.

    products : (first.count, second.count) of the rows that stand for them

    Returns (2, rows of first, rows of second)
    """
    return np.stack(
        [one @ products @ other.T for one, other in zip(_sums(first), _sums(second), strict=True)]
    )


def _sums(window: WindowRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return _row_sums(window.form, window.end - window.begin, window.begin == 0)


@functools.lru_cache(maxsize=32)
def _row_sums(form: str, rows: int, first: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two matrices (rows, count): gradients and increments as sums of the rows that are multiplied."""
    if form == BOTH:
        both = np.eye(2 * rows)
        return both[:rows], both[rows:]
    own = np.eye(rows, rows + 1, 1)
    if form == FROM_INCREMENTS:
        return np.tri(rows, rows + 1, 1), own
    increments = own - np.eye(rows, rows + 1)
    increments[:first] = 0.0
    return own, increments
