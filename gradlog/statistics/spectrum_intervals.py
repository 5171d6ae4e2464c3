"""Intervals of changes of ranks between two runs, from how far each could be off with other minibatches."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from ..results.quantities import RANK, Quantity
from ..results.result import ScopeResult, SpectrumResult
from ..results.spectral_counts import predictable_rank
from .block_bootstrap import student
from .noise_reference import FEW_CARRY, LEAST_EFFECTIVE_ROWS
from .spectrum_errors import TELLS
from .step_intervals import LogInterval

EVEN_SHARE = 0.25
"""Of rows that have to carry the energy where the largest singular value matters: few large ones leave it to
chance. Of norms with a heavy tail, Student's t of 3 degrees, 8 percent of null pairs were called."""
FEW_LARGE = "the stable rank takes a quarter of the rows to carry the energy"
OF_TENSORS = "errors of ranks are those of the whole model alone"


def spectrum_interval(
    quantity: Quantity,
    argument: str,
    pair: tuple[ScopeResult, ScopeResult],
    rows: tuple[int, int],
    confidence: float,
) -> LogInterval | str:
    """Of a rank or another count of directions of the whole model; or why there is none.

    The figures are those of r* as a real number (see `predictable_rank`): where r* itself moves further by
    rounding, so does the interval's end.

    rows : N of each run
    """
    spectra = [scope.spectrum for scope in pair]
    stored = quantity.stored
    assert stored is not None
    if any(spectrum is None or spectrum.method != "exact" for spectrum in spectra):
        return TELLS
    held = [quantity.section.find(scope, argument) for scope in pair]
    known = [(getattr(each, stored.error), getattr(each, stored.freedom)) for each in held]
    if any(error is None or freedom is None for error, freedom in known):
        return TELLS
    carrying = [scope.effective_rows or 0.0 for scope in pair]
    if min(carrying) < LEAST_EFFECTIVE_ROWS:
        return FEW_CARRY
    if stored.name == "stable_rank" and any(
        each < EVEN_SHARE * count for each, count in zip(carrying, rows, strict=True)
    ):
        return FEW_LARGE
    whole = [quantity.figure(scope, argument, count) for scope, count in zip(pair, rows, strict=True)]
    found = [
        _real(spectrum, quantity, argument, value) for spectrum, value in zip(spectra, whole, strict=True)
    ]
    if not all(value is not None and value > 0 for value in (*whole, *found)):
        return TELLS
    a, b = (math.log(value) for value in found if value is not None)
    first, second = (math.log(value) for value in whole if value is not None)
    if _same(spectra[0], spectra[1]):
        return LogInterval(0.0, 0.0, 0.0, 0.0, math.inf)
    error = math.hypot(*(each for each, _ in known))
    freedom = _welch(known)
    width = float(student(NormalDist().inv_cdf((1 + confidence) / 2), np.array([freedom]))[0]) * error
    moved = second - first
    return LogInterval(min(b - a - width, moved), max(b - a + width, moved), b - a, error, freedom)


def _real(
    spectrum: SpectrumResult | None, quantity: Quantity, argument: str, value: float | None
) -> float | None:
    """The figure, of r* as a real number; None where the singular values are not there."""
    if quantity.section is not RANK:
        return value
    if spectrum is None or not spectrum.singular_values.size:
        return None
    return predictable_rank(np.square(spectrum.singular_values), float(argument))[1]


def _same(a: SpectrumResult | None, b: SpectrumResult | None) -> bool:
    """Whether a run is compared with itself: there is nothing to be off, then."""
    return a is not None and b is not None and np.array_equal(a.singular_values, b.singular_values)


def _welch(known: list[tuple[float, float]]) -> float:
    """Degrees of freedom of the sum of both variances."""
    total = sum(error**2 for error, _ in known)
    spread = sum(error**4 / freedom for error, freedom in known)
    return total**2 / spread if spread > 0 else math.inf
