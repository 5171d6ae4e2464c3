"""How far each window of training stays in the leading subspace of the one before: sums and results.

The measure of "Gradient Descent Happens in a Tiny Subspace" (Gur-Ari, Roberts, Dyer, arXiv 1812.04754), with
the leading directions of the gradients, or of their increments, in place of those of the Hessian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ....kernels.window_gram import (
    ACROSS,
    GRADIENTS,
    INCREMENTS,
    WITHIN,
    LeadingSubspace,
    fractions_inside,
    leading_subspace,
    mean_squared_cosine,
)
from ...engine.plan import Plan
from ...engine.ranges import ParameterRange, parts_of_tensors
from ...results.known_values import mean_of_known
from ...results.result import Settings, SubspaceMeasure, SubspaceResult, SubspaceWindow
from .windows import WindowGrams


class WindowedSubspaces:
    """Matrices of windows of one scope, added up over parameters, and what the finished ones amount to.

    Matrices over disjoint parameters add. A window is finished once all parameters are in; then only the
    subspace of the last one is kept.
    """

    def __init__(self, rows: int, window: int, directions: int) -> None:
        self._rows = rows
        self._window = window
        self._directions = directions
        self._open: dict[int, NDArray[np.float64]] = {}
        self._next = 0
        self._before: list[LeadingSubspace | None] = [None, None]
        self.fractions = np.full((2, rows), np.nan)
        self._points: list[list[SubspaceWindow]] = [[], []]

    def update(self, windows: WindowGrams) -> None:
        """Add the matrices over a tile's columns."""
        for number, grams in enumerate(windows.grams, windows.first):
            if number in self._open:
                self._open[number] += grams
            else:
                self._open[number] = grams.copy()

    def finish(self) -> None:
        """All windows that are there are whole: no parameters follow."""
        while self._next in self._open:
            self._finish_window(self._next, self._open.pop(self._next))
            self._next += 1

    def _finish_window(self, number: int, grams: NDArray[np.float64]) -> None:
        start = number * self._window
        stop = min(start + self._window, self._rows)
        height = stop - start
        for kind in (GRADIENTS, INCREMENTS):
            within = grams[kind, WITHIN, :height, :height]
            across = grams[kind, ACROSS, :, :height]
            before = self._before[kind]
            # A short last window has no subspace to compare: it has fewer directions to begin with.
            subspace = leading_subspace(within, self._directions) if height == self._window else None
            overlap = fraction = None
            if before is not None and np.isfinite(within).all():
                shares = fractions_inside(before, across, within.diagonal())
                self.fractions[kind, start:stop] = shares
                fraction = mean_of_known(shares)
                if subspace is not None:
                    overlap = mean_squared_cosine(before, subspace, across)
            used = None if subspace is None else subspace.directions
            self._points[kind].append(SubspaceWindow(start, fraction, overlap, used))
            self._before[kind] = subspace

    def result(self, *, windows: bool) -> SubspaceResult:
        """What the finished windows amount to; with `windows`, each of them too."""
        measures = [
            _measure(self.fractions[kind], self._points[kind], windows) for kind in (GRADIENTS, INCREMENTS)
        ]
        return SubspaceResult(self._directions, self._window, *measures)


def _measure(
    fractions: NDArray[np.float64], points: Sequence[SubspaceWindow], windows: bool
) -> SubspaceMeasure:
    overlaps = [point.overlap for point in points if point.overlap is not None]
    used = [point.directions for point in points if point.directions is not None]
    return SubspaceMeasure(
        fraction=mean_of_known(fractions),
        overlap=mean_of_known(np.array(overlaps)),
        directions=min(used, default=None),
        windows=tuple(points) if windows else (),
    )


@dataclass
class ModelSubspaces:
    """Windows of the whole model and of every tensor, from tiles in the order of the plan.

    Where a block holds all columns, its windows are finished at its end; elsewhere a tensor's are finished
    once all of its tiles are in, so that memory holds those of the total and of the tensors being read.
    """

    rows: int
    window: int
    directions: int
    tensors: int
    ranges: Sequence[ParameterRange]
    total: WindowedSubspaces = field(init=False)
    results: list[SubspaceResult] = field(init=False)

    @classmethod
    def wanted(cls, settings: Settings, rows: int, tensors: int, plan: Plan) -> ModelSubspaces | None:
        """For a pass over `rows` kept rows; None where subspaces were not asked for."""
        if settings.subspace is None:
            return None
        return cls(rows, settings.window_rows, settings.subspace, tensors, plan.ranges)

    def __post_init__(self) -> None:
        self.total = self._scope()
        # Of tensors without parameters nothing will come.
        self.results = [self._scope().result(windows=False)] * self.tensors
        self._open: dict[int, WindowedSubspaces] = {}
        self._missing = parts_of_tensors(self.ranges)

    def _scope(self) -> WindowedSubspaces:
        return WindowedSubspaces(self.rows, self.window, self.directions)

    def update(self, parts: Sequence[WindowGrams], *, ends_block: bool) -> None:
        """Add one tile. ends_block : it is the last of its block"""
        for windows in parts:
            self.total.update(windows)
            scope = self._open.setdefault(windows.tensor, self._scope())
            scope.update(windows)
            self._missing[windows.tensor] -= windows.last
            if not self._missing[windows.tensor]:
                scope.finish()
                self.results[windows.tensor] = self._open.pop(windows.tensor).result(windows=False)
        if ends_block and len(self.ranges) == 1:
            for scope in (self.total, *self._open.values()):
                scope.finish()

    def finish(self) -> None:
        """All tiles are in."""
        self.total.finish()

    def inside(self) -> dict[str, NDArray[np.float64]]:
        """Of the whole model, (N,) share of each gradient and increment in the subspace before it."""
        return dict(zip(("gradients", "increments"), self.total.fractions, strict=True))
