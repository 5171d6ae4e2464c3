"""The incremental spectrum of one scope: a basis that grows until the ranks asked for are certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import cross_gram, row_gram, stacked_gram
from ....kernels.two_sided import Renewal, Rounding, TwoSided
from ...results.result import GrowthPoint, RankResult, SpectrumResult
from ...results.spectral_counts import COUNTS, spectral_counts
from ..spectra.certificate import Envelope

BASIS_START = 64
"""Rows of the basis at the start."""
BASIS_SMALLEST = 48
"""Rows that it does not shrink below."""
BASIS_GROWTH = 1.5
"""What the basis grows by while ranks are uncertain, and shrinks by while they would be as certain by far."""
SHRINK_MARGIN = 2.0
"""Times what has been cut off, for that."""
PATIENCE = 3
"""Points in a row at which ranks are uncertain before the basis grows, or certain by far before it shrinks: a
rank that changes as training goes on passes through a tie, which no basis resolves."""
GROWTH_POINTS = 100
"""Points at which the bounds are looked at on the way, at most about this many and at least half of it."""
LEAST_AT_ONCE = 32
"""Rows: of fewer at once the small matrices would take longer than the products."""
TRACK_COST = 1.5
"""Times what an update that changes the basis cuts off that one may cut off which only turns it."""
TRACK_WAIT = 4
"""Updates that change the basis before the first try of one that only turns it; twice as many after each
try in vain."""


class IncrementalSpectrum:
    """Two-sided incremental SVD of one scope's increments, whose columns lie in cells side by side.

    The caller runs `products` and `renew` for each cell (in any thread) and `absorb` between them; or, for
    many rows at once where `may_track` says so, `tracking_products`, `track` and, if that takes them, `turn`
    and `settle`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        dtype: np.dtype[Any],
        most: int,
        epsilons: Sequence[float],
        increments: int,
    ) -> None:
        """widths : columns of each cell; most : rows that the basis may have; increments : N - 1."""
        self._basis: list[NDArray[Any]] = [np.zeros((0, width), dtype) for width in widths]
        self._most = most
        self._limit = min(BASIS_START, most)
        self._epsilons = tuple(epsilons)
        self._columns = sum(widths)
        self._state = TwoSided.empty()
        self._renewal = Renewal(np.zeros(0, np.intp), np.zeros((0, 0)))
        self._dtype = dtype
        self._energy = 0.0
        self._rows = 0
        self._every = max(1, increments // GROWTH_POINTS)
        self._growth: list[GrowthPoint] = []
        self._uncertain = 0
        self._by_far = 0
        self._increments = increments
        self._cut_before = (0, 0.0)
        self._cut_rate = 0.0
        self._updates = 0
        self._wait = TRACK_WAIT
        self._measured = False

    @property
    def rows_at_once(self) -> int:
        """Rows to take in with the next update."""
        # As many as the basis has: more would cost larger eigenvalue problems, fewer more products.
        return max(LEAST_AT_ONCE, self._limit)

    @property
    def rows_to_track(self) -> int:
        """Rows to take in at once where the basis only turns."""
        return 2 * max(self.rows_at_once, self._every)

    def may_track(self, rows: int) -> bool:
        """Whether so many rows could be taken in by `track`: where nothing new has to come into the basis."""
        steady = self._state.size == self._limit and self._updates >= self._wait
        return steady and self._cut_rate > 0.0 and rows > self.rows_at_once

    def products(
        self, cell: int, increments: NDArray[Any], energies: NDArray[np.float64], single: bool
    ) -> NDArray[np.floating[Any]]:
        """Gram matrix of [B; X] over a cell's columns.

        increments : (m, w) X; energies : (m,) float64, their squared norms; single : float32 will do
        """
        basis = self._basis[cell]
        return stacked_gram(basis, increments.astype(basis.dtype, copy=False), energies, single)

    def absorb(self, gram: NDArray[np.float64], energy: float, rows: int, single: bool) -> None:
        """Take in `rows` increments of energy `energy`, given the Gram matrix of [B; X] over all cells.

        single : some of it was formed in float32
        """
        state, rounding = self._before(energy, single)
        self._renewal, self._state = state.absorb(
            gram, lambda values: min(self._limit, values.size), rounding
        )
        self._cut_rate = (self._state.shift - state.shift) / energy if energy > 0.0 else 0.0
        self._updates += 1
        self._measured = False
        self._energy += energy
        self._rows += rows
        self._look()

    def tracking_products(
        self, cell: int, increments: NDArray[Any], energies: NDArray[np.float64], single: bool
    ) -> list[NDArray[np.floating[Any]]]:
        """Of a cell's columns: [X B^T, the Gram matrix of each stretch of X, and B B^T where it isn't known].

        increments, energies, single : as of `products`
        """
        basis = self._basis[cell]
        rows = increments.astype(basis.dtype, copy=False)
        parts = [slice(at, at + self.rows_at_once) for at in range(0, rows.shape[0], self.rows_at_once)]
        within = [row_gram(rows[part], energies[part], single) for part in parts]
        single = all(gram.dtype == np.float32 for gram in within)
        return [cross_gram(rows, basis, single), *within, *([] if self._measured else [self._gram(cell)])]

    def track(self, products: Sequence[NDArray[np.float64]], energy: float, rows: int, single: bool) -> bool:
        """Take in `rows` increments, given `tracking_products` summed over all cells.

        energy, single : as of `absorb`

        Returns whether it did: `turn` and `settle` have to follow then. If not, they are for `absorb`.
        """
        if not self._measured:
            *products, gram = products
            self._state, self._measured = self._state.measured(gram), True
        cross, *within = products
        state, rounding = self._before(energy, single)
        found = state.track(cross, within, TRACK_COST * self._cut_rate * energy, rounding)
        if found is None:
            self._updates, self._wait = 0, 2 * self._wait
            return False
        self._renewal, self._state = found
        self._energy += energy
        self._rows += rows
        return True

    def turn(self, cell: int, increments: NDArray[Any]) -> NDArray[np.float64]:
        """`renew` in one cell; returns B B^T over its columns."""
        self.renew(cell, increments)
        return self._gram(cell)

    def settle(self, gram: NDArray[np.float64]) -> None:
        """Go on from what `turn` returned, summed over all cells."""
        self._state = self._state.settled(gram)
        self._look()

    def _before(self, energy: float, single: bool) -> tuple[TwoSided, Rounding]:
        """The state before increments are taken in, which are rounded differences of what is stored."""
        rounding = Rounding(self._dtype, self._columns, single)
        return self._state.with_error(2.0 * rounding.unit * energy), rounding

    def _gram(self, cell: int) -> NDArray[np.float64]:
        doubles = self._basis[cell].astype(np.float64, copy=False)
        return doubles @ doubles.T

    def _look(self) -> None:
        """Look from time to time whether the basis has the right size."""
        if self._growth and self._rows - self._growth[-1].rows < self._every:
            return
        envelope = self._envelope()
        bounds = tuple(envelope.bounds(epsilon) for epsilon in self._epsilons)
        self._growth.append(GrowthPoint(self._rows + 1, bounds))
        # A rank past what the basis could ever hold is not worth its growth, nor one that rounding blurs.
        clear = [bound for bound, e in zip(bounds, self._epsilons, strict=True) if not envelope.blurred(e)]
        open_ends = [upper for lower, upper in clear if lower < upper]
        wide = any(upper - lower > 1 for lower, upper in clear)
        worth = self._growth_would_tell(bounds) and bool(open_ends) and min(open_ends) <= self._most
        self._uncertain = self._uncertain + 1 if worth else 0
        if self._uncertain >= PATIENCE or (self._uncertain and wide):
            self._limit = min(self._most, int(self._limit * BASIS_GROWTH) + 1)
            self._uncertain = 0
        by_far = not self._uncertain and self._state.shift > 0.0 and self._certain_by_far(bounds)
        self._by_far = self._by_far + 1 if by_far else 0
        if self._by_far >= PATIENCE:
            least = min(self._most, max(BASIS_SMALLEST, 2 * max((upper for _, upper in clear), default=0)))
            self._limit = max(least, int(self._limit / BASIS_GROWTH))

    def renew(self, cell: int, increments: NDArray[Any]) -> None:
        """B <- W [B; X] in one cell."""
        self._basis[cell] = self._renewal.apply(self._basis[cell], increments)

    def _envelope(self, factor: float = 1.0) -> Envelope:
        """What is certain; or would be, had `factor` times as much been cut off."""
        state = replace(self._state, shift=factor * self._state.shift)
        return Envelope.of(state, self._energy, min(self._rows, self._columns))

    def _growth_would_tell(self, bounds: tuple[tuple[int, int], ...]) -> bool:
        """Whether a basis four times as large from here on would leave an interval half as wide or less.

        Others are wide for what no growth changes: ties blurred by rounding or by what has been cut off
        already, or noise of more directions than any basis holds.
        """
        rows, shift = self._cut_before
        self._cut_before = self._rows, self._state.shift
        to_come = (self._increments - self._rows) * (self._state.shift - shift) / (self._rows - rows)
        if to_come <= 0.0:
            return False
        then = self._bounds_at((self._state.shift + to_come / 4) / (self._state.shift + to_come))
        return any(
            upper > lower and 2 * (high - low) <= upper - lower
            for (lower, upper), (low, high) in zip(bounds, then, strict=True)
        )

    def _certain_by_far(self, bounds: tuple[tuple[int, int], ...]) -> bool:
        """Whether the ranks would be as certain if several times as much had been cut off."""
        return self._bounds_at(SHRINK_MARGIN) == bounds

    def _bounds_at(self, factor: float) -> tuple[tuple[int, int], ...]:
        """The bounds of `_envelope`."""
        envelope = self._envelope(factor)
        return tuple(envelope.bounds(epsilon) for epsilon in self._epsilons)

    def result(self, energy: float) -> SpectrumResult:
        """The spectrum with its certain bounds. energy : ||H||_F^2, summed by the fused pass."""
        self._energy = energy
        envelope = self._envelope()
        bounds = [envelope.bounds(epsilon) for epsilon in self._epsilons]
        # In the middle of what is certain, the energy cut off being spread over the directions left.
        sums = (envelope.lower + np.minimum(envelope.upper, energy)) / 2
        squares = np.sort(np.maximum(np.diff(sums, prepend=0.0), 0.0))[::-1]
        if squares.sum() > energy > 0:
            squares *= energy / squares.sum()
        left = max(0.0, energy - float(squares.sum()))
        cumulative = np.append(np.cumsum(squares), energy)
        ranks = []
        for epsilon, (lower, upper) in zip(self._epsilons, bounds, strict=True):
            if lower < upper:
                ranks.append(RankResult(epsilon, upper, lower, upper, None))
                continue
            residual = energy - float(cumulative[min(lower - 1, squares.size)]) if lower else 0.0
            ranks.append(RankResult(epsilon, lower, lower, upper, min(max(0.0, residual), epsilon * energy)))
        counts: dict[str, Any] = dict.fromkeys(COUNTS)
        certain: dict[str, tuple[float, float]] = {}
        if energy > 0 and squares.size and squares[0] > 0:
            certain = envelope.count_bounds()
            others = max(1, envelope.dimension - squares.size)
            times = np.append(np.ones(squares.size), others)
            found = spectral_counts(np.append(squares, left / others), times)
            counts = {name: min(max(found[name], low), high) for name, (low, high) in certain.items()}
        return SpectrumResult(
            method="incremental",
            confidence=1.0,
            energy=energy,
            rank=tuple(ranks),
            **counts,
            singular_values=np.sqrt(squares),
            growth=tuple(self._growth),
            count_bounds=certain,
        )
