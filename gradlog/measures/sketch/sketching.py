"""Sketches of increments while they stream: each tile's columns are projected once its fused pass is done.

Sums over the columns of a tensor are taken in the order of the plan, whichever thread comes first: a tile
waits for the one before it, some rows at a time. So any number of threads gives the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.cross_fit import CrossFit, cross_fit
from ....kernels.gram import column_gram, row_gram
from ....kernels.projection import compile_projection
from ...engine.blocks import Block
from ...engine.plan import Plan
from ...engine.ranges import ParameterRange, Part
from ...logs.log import Tensor
from ...results.projection import Projection
from ..spectra.spectrum import ExactEigenvalues, ExactSpectrum, Spectrum
from .projected_rows import Piece, pieces, project_rows
from .sketch_spectrum import SketchedSpectrum

ROWS_AT_ONCE = 64
"""Rows that a tile projects before the next tile may follow it, at most: blocks of few rows take fewer, so
that there is work for all threads."""
LEAST_ROWS = 8
OPEN_UNITS = 2


@dataclass
class _Unit:
    """Tensors whose projections share an array (N, M): a wide tensor, or the small ones of a range.

    latest : for each stretch of rows, when the last tile that has any of them is done with them
    """

    tensor: int | None
    missing: int
    sums: NDArray[np.float64] | None = None
    latest: dict[int, threading.Event] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """A tile's place in its unit: `before` and `done` hold an event for each stretch of rows from `first` on.

    Stretches are those of the run, not of the block: ranges of a tensor may cut its rows into other blocks.
    """

    unit: _Unit
    first: int
    before: list[threading.Event | None]
    done: list[threading.Event]

    def finish(self) -> None:
        """Let the next tile go on, whatever became of this one."""
        for event in self.done:
            event.set()


class Sketcher:
    """Projects tiles into their units' sums, in the order of the plan.

    The caller takes a `turn` for each tile in that order, runs `project` in any thread, and `finish`es it.
    """

    def __init__(self, tensors: Sequence[Tensor], plan: Plan, rows: int) -> None:
        assert plan.projection is not None
        self.projection: Projection = plan.projection
        self._tensors = tensors
        self._plan = plan
        self._rows = rows
        least = min((last - first for item in plan.ranges for first, last in item.row_blocks), default=1)
        self._rows_at_once = max(LEAST_ROWS, min(ROWS_AT_ONCE, -(-least // plan.workers)))
        self._bases = [self.projection.bases(tensor.name) for tensor in tensors]
        self._units: dict[int, _Unit] = {}
        self._unit_of = [self._unit(index, item) for index, item in enumerate(plan.ranges)]
        self._open = 0
        for dtype in sorted({tensor.compute_dtype for tensor in tensors}, key=str):
            compile_projection(dtype)

    def _unit(self, index: int, item: ParameterRange) -> _Unit:
        tensor = item.segments[0].tensor
        wide = self._plan.is_wide(self._tensors[tensor])
        unit = self._units.setdefault(tensor if wide else -1 - index, _Unit(tensor if wide else None, 0))
        unit.missing += len(item.tiles) * len(item.row_blocks)
        return unit

    @property
    def units(self) -> int:
        """Number of arrays that sums are taken in, one after another."""
        return len(self._units)

    def has_room(self, block: Block) -> bool:
        """Whether the sums of a block's unit are there, or may be put beside those that are."""
        return self._unit_of[block.range_index].sums is not None or self._open < OPEN_UNITS

    def turn(self, block: Block) -> Turn:
        """The place of the next tile of a block."""
        unit = self._unit_of[block.range_index]
        if unit.sums is None:
            unit.sums = np.zeros((self._rows, self.projection.dim))
            self._open += 1
        stop = block.start + block.values.shape[0]
        stretches = range(block.start // self._rows_at_once, -(-stop // self._rows_at_once))
        done = [threading.Event() for _ in stretches]
        turn = Turn(unit, stretches.start, [unit.latest.get(stretch) for stretch in stretches], done)
        unit.latest.update(zip(stretches, done, strict=True))
        return turn

    def project(self, turn: Turn, block: Block, parts: Sequence[Part]) -> None:
        """Add the projections of a tile's columns to the sums of its unit."""
        assert turn.unit.sums is not None
        count = block.values.shape[0]
        sums = turn.unit.sums[block.start : block.start + count]
        stretches = [(part.tensor, list(self.pieces_of(block.range, part))) for part in parts]
        for number, (before, done) in enumerate(zip(turn.before, turn.done, strict=True), turn.first):
            if before is not None:
                before.wait()
            first = number * self._rows_at_once - block.start
            rows = max(0, first), min(first + self._rows_at_once, count)
            for tensor, found in stretches:
                self._add(tensor, block.values, rows, found, sums)
            done.set()

    def pieces_of(self, item: ParameterRange, part: Part) -> list[Piece]:
        """A part's columns as stretches of its tensor's coordinates."""
        segment, offset = item.segment_of(part)
        shape = self._tensors[part.tensor].shape
        return list(pieces(shape, segment.box, part.first, part.last, offset))

    def _add(
        self,
        tensor: int,
        values: NDArray[np.floating[Any]],
        rows: tuple[int, int],
        found: Sequence[Piece],
        sums: NDArray[np.float64],
    ) -> None:
        if tensor not in self._plan.stored:
            project_rows(values, rows, found, self._bases[tensor], self.projection.groups, sums)
            return
        for piece in found:  # a sketch already: its coordinates are the sums, scaled
            scaled = values[slice(*rows), piece.first : piece.last] * np.sqrt(float(self.projection.groups))
            sums[slice(*rows), piece.index : piece.index + piece.last - piece.first] += scaled

    def merged(self, block_range: int) -> tuple[int | None, NDArray[np.float64]] | None:
        """Count one tile of a range as done.

        Where that completes the unit: its wide tensor, and S x of every row (N, M) float64.
        """
        unit = self._unit_of[block_range]
        unit.missing -= 1
        if unit.missing:
            return None
        sums, unit.sums = unit.sums, None
        unit.latest.clear()
        assert sums is not None
        self._open -= 1
        sums /= np.sqrt(float(self.projection.groups))
        return unit.tensor, sums


class SketchSpectra:
    """Spectra of the whole model and of every tensor from sketches; small tensors keep their exact ones."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        plan: Plan,
        epsilons: Sequence[float],
        rows: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.sketcher = Sketcher(tensors, plan, rows)
        self._tensors = tensors
        self._plan = plan
        self._epsilons = epsilons
        self._increments = max(0, rows - 1)
        self._pool = pool
        self._fits: dict[int, Future[CrossFit]] = {}
        self._squares: dict[int, NDArray[np.float64]] = {}
        self._exact: dict[int, ExactSpectrum] = {}
        self._total: NDArray[np.float64] | None = None
        self._alone = sum(tensor.parameters > 0 for tensor in tensors) == 1

    def has_room(self, block: Block) -> bool:
        """Whether memory that the plan counted is free for a tile of the block."""
        return self.sketcher.has_room(block)

    def project(
        self, turn: Turn, block: Block, parts: Sequence[Part], sums: Sequence[NDArray[np.float64]]
    ) -> dict[int, NDArray[np.floating[Any]]]:
        """Take in a tile; returns Gram matrices of its small tensors.

        sums : (T,) float64 for each part, squared norms of its increments
        """
        self.sketcher.project(turn, block, parts)
        found = {}
        for part, energies in zip(parts, sums, strict=True):
            if self._plan.is_wide(self._tensors[part.tensor]):
                continue
            skip = 1 if block.start == 0 else 0
            increments = block.values[skip:, part.first : part.last]
            if len(block.range.row_blocks) == 1 and increments.shape[0] < increments.shape[1]:
                found[part.tensor] = row_gram(increments, energies[skip:], False)
            else:
                found[part.tensor] = column_gram(increments)
        return found

    def merge(self, block_range: int, grams: dict[int, NDArray[np.floating[Any]]]) -> None:
        """Take one tile as done, in the order of the plan."""
        for tensor, gram in grams.items():
            self._exact.setdefault(tensor, ExactSpectrum(gram.shape[0])).update(gram)
        done = self.sketcher.merged(block_range)
        if done is None:
            return
        for tensor, spectrum in self._exact.items():
            self._squares[tensor] = spectrum.squared_singular_values()
        self._exact.clear()
        wide, sketch = done
        if wide is not None and self._increments:
            for before in self._fits.values():
                before.result()  # no more arrays wait than the plan counted
            self._fits[wide] = self._pool.submit(self._fit, sketch, f"tensor '{self._tensors[wide].name}': ")
        if self._total is None:
            # The first unit's array is only read from now on, unless others are added.
            self._total = sketch if self._alone else sketch.copy()
        else:
            self._total += sketch

    def result(self) -> tuple[Spectrum, list[Spectrum | None]]:
        """Of the whole model, and of each tensor."""
        spectra = [self._spectrum(index) for index in range(len(self._tensors))]
        used = [index for index, tensor in enumerate(self._tensors) if tensor.parameters]
        if not used or not self._increments:
            return ExactEigenvalues(np.zeros(0), self._epsilons), list(spectra)
        if self._alone:
            return spectra[used[0]], list(spectra)
        assert self._total is not None
        parameters = sum(self._plan.parameters_of(index, self._tensors[index]) for index in used)
        known = not self._plan.stored
        return self._sketched(self._fit(self._total, ""), parameters, known), list(spectra)

    def _spectrum(self, index: int) -> Spectrum:
        tensor = self._tensors[index]
        if index in self._fits:
            fit = self._fits[index].result()
            return self._sketched(
                fit, self._plan.parameters_of(index, tensor), index not in self._plan.stored
            )
        squares = self._squares.get(index, np.zeros(0))
        return ExactEigenvalues(squares[: min(self._increments, tensor.parameters)], self._epsilons)

    def _sketched(self, fit: CrossFit, parameters: int, known: bool) -> SketchedSpectrum:
        return SketchedSpectrum(
            fit, self.sketcher.projection, self._epsilons, self._increments, parameters, known
        )

    def _fit(self, sketch: NDArray[np.float64], where: str) -> CrossFit:
        try:
            return cross_fit(sketch[1:])  # row 0 has no increment
        except OverflowError as error:
            raise OverflowError(f"{where}{error}") from error
