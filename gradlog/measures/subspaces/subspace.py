"""How far each window of training stays in the leading subspace of the one before: sums and results.

The measure of "Gradient Descent Happens in a Tiny Subspace" (Gur-Ari, Roberts, Dyer, arXiv 1812.04754), with
the leading directions of the gradients, or of their increments, in place of those of the Hessian.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from ...engine.block import Block
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.ranges import TILE_WIDTH
from ...engine.request import PassShape, Span
from ...engine.tile import Tile
from ...results.known_values import mean_of_known
from ...results.result import SubspaceMeasure, SubspaceResult, SubspaceWindow
from .windows import TileWindows, WindowGrams

Doubles = NDArray[np.float64]

NAME = "subspaces"
WINDOWED_GROUP = 8
"""Small tensors read together at most, where windows of each are kept over all rows."""


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


@dataclass(frozen=True)
class Subspaces(Measure):
    """Leading subspaces of windows of training. directions : of each; window : rows"""

    name = NAME
    narrow_tiles = True
    most_grouped = WINDOWED_GROUP
    directions: int
    window: int

    def kept_bytes(self, shape: PassShape) -> int:
        """Of matrices of windows: of the total, of open tensors, and of tiles in work."""
        return window_bytes(self.window, shape)

    def column_bytes(self, shape: PassShape) -> int:
        """Of the rows that the next windows need."""
        return 2 * self.window * max((t.compute_dtype.itemsize for t in shape.tensors), default=4)

    def start(self, context: PassContext) -> ModelSubspaces:
        """As of `Measure`."""
        return ModelSubspaces(self, context)


def window_bytes(window: int, shape: PassShape) -> int:
    """Bytes of matrices of windows. Where a block holds all columns, they are finished at its end."""
    own = shape.workers * 8 * 6 * window * TILE_WIDTH
    matrix = 8 * 4 * window
    if shape.span is Span.ROWS:
        matrices = matrix * (shape.rows_at_once + 2 * window)
        return matrices * (1 + len(shape.tensors) + shape.workers + 1) + own
    scopes = 2 if shape.span is Span.COLUMNS else 1 + WINDOWED_GROUP
    return matrix * (shape.rows + window) * (scopes + shape.workers + 1) + own


class ModelSubspaces(Accumulator[Sequence[WindowGrams]]):
    """Windows of the whole model and of every tensor, from tiles in the order of the plan.

    Where a block holds all columns, its windows are finished at its end; elsewhere a tensor's are finished
    once all of its tiles are in, so that memory holds those of the total and of the tensors being read.
    """

    def __init__(self, measure: Subspaces, context: PassContext) -> None:
        self._measure = measure
        self._rows = context.rows
        self._windows = TileWindows(measure.window)
        self._total = self._scope()
        # Of tensors without parameters nothing will come.
        self._results = [self._scope().result(windows=False)] * len(context.names)
        self._open: dict[int, WindowedSubspaces] = {}
        self._missing = dict(context.strips)
        self._one_range = len(context.ranges) == 1

    def _scope(self) -> WindowedSubspaces:
        return WindowedSubspaces(self._rows, self._measure.window, self._measure.directions)

    def gradients(self, tile: Tile) -> Sequence[WindowGrams]:
        """As of `Accumulator`: the windows of each strip that are whole with these rows."""
        return self._windows.take(tile)

    def merge(self, piece: Sequence[WindowGrams]) -> None:
        """As of `Accumulator`."""
        for windows in piece:
            self._total.update(windows)
            scope = self._open.setdefault(windows.tensor, self._scope())
            scope.update(windows)
            self._missing[windows.tensor] -= windows.last
            if not self._missing[windows.tensor]:
                scope.finish()
                self._results[windows.tensor] = self._open.pop(windows.tensor).result(windows=False)

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:  # noqa: ARG002
        """As of `Accumulator`."""
        if self._one_range:
            for scope in (self._total, *self._open.values()):
                scope.finish()

    def result(self) -> SubspacesOfScopes:
        """As of `Accumulator`."""
        self._total.finish()
        inside = dict(zip(("gradients", "increments"), self._total.fractions, strict=True))
        return SubspacesOfScopes(self._total.result(windows=True), self._results, inside)


@dataclass(frozen=True)
class SubspacesOfScopes:
    """Of the whole model, and of each tensor.

    inside : of the whole model, (N,) share of each gradient and increment in the subspace before it
    """

    total: SubspaceResult
    tensors: Sequence[SubspaceResult]
    inside: Mapping[str, Doubles]
