"""How far each window of training stays in the leading subspace of the one before: sums and results.

The measure of "Gradient Descent Happens in a Tiny Subspace" (Gur-Ari, Roberts, Dyer, arXiv 1812.04754), with
the leading directions of the gradients, or of their increments, in place of those of the Hessian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from ....kernels.pass_layout import ENERGY, INCREMENT
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
from ...engine.state import PartState, State
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...results.known_values import mean_of_known
from ...results.result import SubspaceMeasure, SubspaceResult, SubspaceWindow
from ..path_lengths.path_lengths import check_complete, check_strips, part_totals
from ..spectra.exact_spectrum import adds_up
from . import NAME
from .windows import TileWindows, WindowGrams

Doubles = NDArray[np.float64]

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

    def update(self, first: int, matrices: Doubles) -> None:
        """Add the matrices of windows first, first + 1, ... over some columns: as of `WindowGrams`."""
        for number, grams in enumerate(matrices, first):
            if number in self._open:
                self._open[number] += grams
            else:
                self._open[number] = grams.copy()

    @property
    def matrices(self) -> Doubles:
        """(n, 2, 2, window, window) of the windows that are not finished."""
        shape = 2, 2, self._window, self._window
        return np.array([self._open[number] for number in sorted(self._open)]).reshape(-1, *shape)

    @property
    def points(self) -> Doubles:
        """(2, n, 3): fraction, overlap and directions of each finished window, NaN for None."""
        rows = [[[p.fraction, p.overlap, p.directions] for p in points] for points in self._points]
        return np.array(rows, dtype=np.float64).reshape(2, -1, 3)

    def restore(self, fractions: Doubles, points: Doubles) -> None:
        """Take the place of one whose windows are all finished, as the two above gave it."""
        self.fractions = fractions
        self._next = points.shape[1]
        for kind, table in enumerate(points):
            self._points[kind] = [
                SubspaceWindow(number * self._window, *_known(row)) for number, row in enumerate(table)
            ]

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


def _known(figures: Doubles) -> tuple[float | None, float | None, int | None]:
    """Fraction, overlap and directions of a table that has NaN for None."""
    fraction, overlap, directions = (None if np.isnan(value) else value for value in figures.tolist())
    return fraction, overlap, None if directions is None else int(directions)


def _are_figures(table: Doubles, most: int) -> bool:
    """Whether fractions and overlaps (..., 3) are shares, and directions counts of 1 to `most`."""
    shares, counts = table[..., :2], table[..., 2]
    known = counts[~np.isnan(counts)]
    sound = (np.isnan(shares) | ((shares >= 0) & (shares <= 1))).all()
    return bool(sound and ((known >= 1) & (known <= most) & (known % 1 == 0)).all())


@dataclass(frozen=True)
class Subspaces(Measure):
    """Leading subspaces of windows of training. directions : of each; window : rows

    in_parts : a tensor that the part before began stays apart until the end
    """

    name = NAME
    narrow_tiles = True
    most_grouped = WINDOWED_GROUP
    directions: int
    window: int
    in_parts: bool = False

    def kept_bytes(self, shape: PassShape) -> int:
        """Of matrices of windows: of the total, of open tensors, and of tiles in work."""
        apart = 8 * 4 * self.window * (shape.rows + self.window) if self.in_parts else 0
        return window_bytes(self.window, shape) + apart

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


@dataclass(frozen=True)
class WindowsOfScopes:
    """Matrices of windows, or what they amount to.

    tiles : of some columns of tensors, and of the whole model with them
    tensors : of tensors that have further strips elsewhere: number, strips that they are of, matrices
    results : of tensors that are whole in it, by number
    total : of the whole model, the matrices of all windows
    finished : of the whole model, fractions and points of all windows, as of `WindowedSubspaces.restore`
    """

    tiles: Sequence[WindowGrams] = ()
    tensors: Sequence[tuple[int, int, Doubles]] = ()
    results: Mapping[int, SubspaceResult] = field(default_factory=dict)
    total: Doubles | None = None
    finished: tuple[Doubles, Doubles] | None = None


class ModelSubspaces(Accumulator[WindowsOfScopes]):
    """Windows of the whole model and of every tensor, from tiles in the order of the plan.

    Where a block holds all columns, its windows are finished at its end; elsewhere a tensor's are finished
    once all of its tiles are in, so that memory holds those of the total and of the tensors being read.
    """

    def __init__(self, measure: Subspaces, context: PassContext) -> None:
        self._measure = measure
        self._context = context
        self._windows = TileWindows(measure.window)
        self._total = self._scope()
        self._results: dict[int, SubspaceResult] = {}
        self._open: dict[int, WindowedSubspaces] = {}
        self._missing = dict(context.strips)
        self._in_one_range = context.in_one_range

    def _scope(self) -> WindowedSubspaces:
        return WindowedSubspaces(self._context.rows, self._measure.window, self._measure.directions)

    def gradients(self, tile: Tile) -> WindowsOfScopes:
        """As of `Accumulator`: the windows of each strip that are whole with these rows."""
        return WindowsOfScopes(self._windows.take(tile))

    def merge(self, piece: WindowsOfScopes) -> None:
        """As of `Accumulator`."""
        for windows in piece.tiles:
            self._total.update(windows.first, windows.grams)
            self._add(windows.tensor, windows.first, windows.grams, windows.last)
        for tensor, strips, matrices in piece.tensors:
            self._add(tensor, 0, matrices, strips)
        self._results.update(piece.results)
        if piece.total is not None:
            self._total.update(0, piece.total)
        if piece.finished is not None:
            self._total.restore(*piece.finished)

    def _add(self, tensor: int, first: int, matrices: Doubles, strips: int) -> None:
        """Add windows of a tensor. strips : how many of it are whole with them"""
        scope = self._open.setdefault(tensor, self._scope())
        scope.update(first, matrices)
        self._missing[tensor] -= strips
        if not self._missing[tensor]:
            scope.finish()
            self._results[tensor] = self._open.pop(tensor).result(windows=False)

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:  # noqa: ARG002
        """As of `Accumulator`."""
        if self._in_one_range:
            for scope in (self._total, *self._open.values()):
                scope.finish()

    def state(self) -> State:
        """matrices/T : (W, 2, 2, window, window) of tensors that have further strips elsewhere

        results/T : (2, 3) of others, as `WindowedSubspaces.points`, over all windows
        total : of the whole model, as matrices/T; or where its windows are finished inside : (2, N) and
        points : (2, W, 3)
        """
        found = {
            f"results/{tensor}": np.array(
                [
                    [kind.fraction, kind.overlap, kind.directions]
                    for kind in (each.gradients, each.increments)
                ],
                dtype=np.float64,
            )
            for tensor, each in sorted(self._results.items())
        }
        found |= {f"matrices/{tensor}": self._open[tensor].matrices for tensor in sorted(self._open)}
        points, matrices = self._total.points, self._total.matrices
        if points.size:
            found |= {"inside": self._total.fractions, "points": points}
        elif matrices.size:
            found["total"] = matrices
        return found

    def pieces(self, state: PartState) -> Iterator[WindowsOfScopes]:
        """As of `Accumulator`: matrices that don't fit the part's energies are refused."""
        totals = part_totals(state, len(self._context.names))
        whole, cut = state.numbers("results"), state.numbers("matrices")
        check_complete(totals, {*whole, *cut}, "windows")
        check_strips(state, self._context.strips, whole, cut, "windows")
        most = self._measure.directions
        for tensor in whole:
            table = state.array(f"results/{tensor}", (2, 3))
            if not _are_figures(table, most):
                raise ValueError(f"{NAME}/results/{tensor}.npy has no shares")
            kinds = (SubspaceMeasure(*_known(row), windows=()) for row in table)
            yield WindowsOfScopes(results={tensor: SubspaceResult(most, self._measure.window, *kinds)})
        for tensor in cut:
            matrices = self._sound(state, f"matrices/{tensor}", totals[tensor])
            yield WindowsOfScopes(tensors=[(tensor, state.strips(tensor), matrices)])
        windows = -(-self._context.rows // self._measure.window)
        if state.has("points"):
            inside = state.array("inside", (2, self._context.rows))
            points = state.array("points", (2, windows, 3))
            shares = inside[~np.isnan(inside)]
            if not _are_figures(points, most) or not ((shares >= 0) & (shares <= 1)).all():
                raise ValueError(f"{NAME}/points.npy has no shares")
            yield WindowsOfScopes(finished=(inside, points))
        elif state.has("total"):
            yield WindowsOfScopes(total=self._sound(state, "total", totals.sum(axis=0)))
        elif totals[:, ENERGY].any():
            raise ValueError("it holds no windows of the whole model")

    def _sound(self, state: PartState, name: str, sums: Doubles) -> Doubles:
        """(W, 2, 2, window, window), whose diagonals add up to energies. sums : over a scope's parameters"""
        window = self._measure.window
        matrices = state.array(name, (-(-self._context.rows // window), 2, 2, window, window))
        energies = np.einsum("wkii->k", matrices[:, :, WITHIN])
        for found, expected in zip(energies.tolist(), sums[[ENERGY, INCREMENT]].tolist(), strict=True):
            if np.isfinite(expected) and not adds_up(found, expected):
                raise ValueError(f"{NAME}/{name}.npy does not fit totals.npy")
        return matrices

    def result(self) -> SubspacesOfScopes:
        """As of `Accumulator`."""
        self._total.finish()
        inside = dict(zip(("gradients", "increments"), self._total.fractions, strict=True))
        # Of tensors without parameters nothing will come.
        none = self._scope().result(windows=False)
        tensors = [self._results.get(tensor, none) for tensor in range(len(self._context.names))]
        return SubspacesOfScopes(self._total.result(windows=True), tensors, inside)


@dataclass(frozen=True)
class SubspacesOfScopes:
    """Of the whole model, and of each tensor.

    inside : of the whole model, (N,) share of each gradient and increment in the subspace before it
    """

    total: SubspaceResult
    tensors: Sequence[SubspaceResult]
    inside: Mapping[str, Doubles]
