"""The incremental method: row block after row block, all parameters at once, bases of bounded size.

For each block the pass first sums its tiles' rows, which leaves the increments in place. Then slices of a few
hundred rows are taken in: Gram matrices of the bases and the slice, tile by tile in a pool; small eigenvalue
problems in the calling thread; new bases, tile by tile in the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import column_gram, squared_singular_values
from ....kernels.pass_layout import INCREMENT
from ...engine.block import Block
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.parameter_range import Strips
from ...engine.request import PassShape, Request, Span
from ...errors import MemoryLimitError
from ...quick_dataclass import dataclass
from ...sizes import format_size
from ..spectra.costs import incremental_seconds
from ..spectra.exact_spectrum import finished
from ..spectra.spectrum import NAME, Spectra, Spectrum

if TYPE_CHECKING:
    from .incremental_spectrum import IncrementalSpectrum

Doubles = NDArray[np.float64]

BASIS_LEAST = 64
BASIS_MOST = 1024
"""Rows of the basis: fewer would bound little, more would take longer than they tell."""
NARROW = 512
"""Tensors up to this many parameters have their exact spectrum from the D x D side."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class IncrementalRank(Measure):
    """Ranks with bounds that are certain. basis_rows : that the basis may grow to, None until it is known"""

    name = NAME
    span = Span.ROWS
    holds_blocks = True
    narrow_tiles = True
    epsilons: tuple[float, ...]
    basis_rows: int | None = None

    def kept_bytes(self, shape: PassShape) -> int:
        """Of the basis, and of narrow tensors' matrices."""
        alone = len(shape.tensors) == 1
        narrow = 0 if alone else sum(t.parameters**2 for t in shape.tensors if t.parameters <= NARROW)
        return 8 * narrow + (self.basis_rows or 0) * _basis_row_bytes(shape)

    def grown(self, request: Request, left: int) -> IncrementalRank:
        """As of `Measure`: as many rows as fit."""
        shape = request.shape(self.span, request.threads)
        each = max(1, _basis_row_bytes(shape))
        rows = min(BASIS_MOST, left // each)
        if not shape.parameters:
            return replace(self, basis_rows=BASIS_LEAST)
        if rows < BASIS_LEAST:
            need = request.room - left + BASIS_LEAST * each
            raise MemoryLimitError(
                f"a basis of {BASIS_LEAST} vectors of {request.parameters} parameters takes more than "
                f"--memory {format_size(request.memory)}: give --memory {request.enough(need, 0.0)}, or "
                "fewer tensors with --tensor, or --rank none for path lengths alone"
            )
        return replace(self, basis_rows=rows)

    def seconds(self, sizes: Sequence[int], rows: int) -> float:
        """As of `Measure`."""
        return incremental_seconds(sizes, rows)

    def start(self, context: PassContext) -> IncrementalSpectra:
        """As of `Measure`."""
        return IncrementalSpectra(self, context)


def _basis_row_bytes(shape: PassShape) -> int:
    """Of one basis for the whole model and one for each tensor that has no spectrum of its own otherwise."""
    entry = max((tensor.compute_dtype.itemsize for tensor in shape.tensors), default=4)
    wide = sum(tensor.parameters for tensor in shape.tensors if tensor.parameters > NARROW)
    return entry * (shape.parameters + (0 if len(shape.tensors) == 1 else wide))


@dataclass(frozen=True)
class _Cell:
    """Columns first .. last - 1 of a block are cell `number` of `spectrum`; they hold these strips."""

    spectrum: IncrementalSpectrum
    number: int
    first: int
    last: int
    strips: tuple[int, ...]

    def columns(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Of rows of a block."""
        return rows[:, self.first : self.last]

    def energies(self, of_strips: Sequence[Doubles]) -> Doubles:
        """(rows,) of each row over these columns, from those of each strip."""
        total: Doubles = np.sum([of_strips[strip] for strip in self.strips], axis=0)
        return total


def _even(rows: int, at_once: Callable[[], int]) -> Iterator[slice]:
    """Slices of `rows` rows, of about the same size and at most what `at_once` says when each is taken."""
    done = 0
    while done < rows:
        left = rows - done
        count = -(-left // -(-left // at_once()))
        yield slice(done, done + count)
        done += count


def _by_spectrum(
    cells: Sequence[_Cell], found: Sequence[tuple[list[NDArray[Any]], float]]
) -> dict[IncrementalSpectrum, tuple[list[Doubles], float, bool]]:
    """Products and energies of cells, summed: (matrices, energy, whether any is of float32)."""
    sums: dict[IncrementalSpectrum, tuple[list[Doubles], float, bool]] = {}
    for cell, (matrices, energy) in zip(cells, found, strict=True):
        single = any(matrix.dtype == np.float32 for matrix in matrices)
        if cell.spectrum in sums:
            so_far, before, any_single = sums[cell.spectrum]
            for total, matrix in zip(so_far, matrices, strict=True):
                total += matrix
            sums[cell.spectrum] = so_far, before + energy, any_single or single
        else:
            doubles = [matrix.astype(np.float64) for matrix in matrices]
            sums[cell.spectrum] = doubles, energy, single
    return sums


class IncrementalSpectra(Accumulator[Any]):
    """Spectra of the whole model and of every tensor, from blocks of increments in the order of time."""

    def __init__(self, measure: IncrementalRank, context: PassContext) -> None:
        # Deferred: this method is planned with in every run, and taken in few.
        from .incremental_spectrum import IncrementalSpectrum

        self._measure = measure
        self._context = context
        self._increments = max(0, context.rows - 1)
        # A pool of its own: it works between the small eigenvalue problems of the calling thread, while the
        # other pool takes the next block.
        self._pool = ThreadPoolExecutor(context.workers, thread_name_prefix="gradmf-bases")
        ranges = context.ranges
        self._tiles: tuple[Strips, ...] = ranges[0].tiles if ranges else ()
        dtype = max(
            (t.compute_dtype for t in context.tensors),
            key=lambda d: d.itemsize,
            default=np.dtype(np.float32),
        )
        strips = [strip for tile in self._tiles for strip in tile]
        rows = measure.basis_rows or BASIS_LEAST

        def spectrum(widths: list[int]) -> IncrementalSpectrum:
            return IncrementalSpectrum(widths, dtype, rows, measure.epsilons, max(1, self._increments))

        self.total = spectrum([tile[-1].last - tile[0].first for tile in self._tiles])
        self.tensors: dict[int, IncrementalSpectrum] = {}
        self.narrow: dict[int, Doubles] = {}
        if len({strip.tensor for strip in strips}) == 1:
            self.tensors[strips[0].tensor] = self.total
        else:
            for index in dict.fromkeys(strip.tensor for strip in strips):
                own = [strip.last - strip.first for strip in strips if strip.tensor == index]
                if sum(own) > NARROW:
                    self.tensors[index] = spectrum(own)
                else:
                    self.narrow[index] = np.zeros((sum(own), sum(own)))
        self._own = list(dict.fromkeys([self.total, *self.tensors.values()]))
        self._strips = strips
        self._cells = self._make_cells()

    def _make_cells(self) -> list[_Cell]:
        cells = []
        place = {id(strip): number for number, strip in enumerate(self._strips)}
        for number, tile in enumerate(self._tiles):
            inside = tuple(place[id(strip)] for strip in tile)
            cells.append(_Cell(self.total, number, tile[0].first, tile[-1].last, inside))
        counts: dict[int, int] = {}
        for number, strip in enumerate(self._strips):
            own = self.tensors.get(strip.tensor)
            if own is not None and own is not self.total:
                cell = counts.get(strip.tensor, 0)
                counts[strip.tensor] = cell + 1
                cells.append(_Cell(own, cell, strip.first, strip.last, (number,)))
        return cells

    def merge(self, piece: object) -> None:
        """There are none: whole blocks are taken."""

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:
        """Take in a block of increments."""
        skip = 1 if block.start == 0 else 0  # row 0 has no increment
        values = block.values[skip:]
        energies = [part[skip:, INCREMENT] for part in sums]
        if not values.shape[0]:
            return
        for index, gram in self.narrow.items():
            (strip,) = [strip for strip in self._strips if strip.tensor == index]
            gram += column_gram(values[:, strip.first : strip.last])
        for rows in _even(values.shape[0], self._rows_at_once):
            self._take(values[rows], [part[rows] for part in energies])

    def _rows_at_once(self) -> int:
        ready = [
            spectrum.rows_to_track for spectrum in self._own if spectrum.may_track(spectrum.rows_to_track)
        ]
        return max(ready, default=self.total.rows_at_once)

    def _take(self, increments: NDArray[Any], energies: list[Doubles]) -> None:
        """Take in rows, at once where the bases of all cells only have to turn, or by slices."""
        rows = increments.shape[0]
        ready = [cell for cell in self._cells if cell.spectrum.may_track(rows)]
        tracked = self._track(ready, increments, energies) if ready else set()
        left = [cell for cell in self._cells if cell.spectrum not in tracked]
        if left:
            for part in _even(rows, lambda: self.total.rows_at_once):
                self._absorb(left, increments[part], [energy[part] for energy in energies])

    def _track(
        self, cells: list[_Cell], increments: NDArray[Any], energies: list[Doubles]
    ) -> set[IncrementalSpectrum]:
        """Take in rows where the bases only turn; returns the spectra that did."""

        def products(cell: _Cell) -> tuple[list[NDArray[Any]], float]:
            norms = cell.energies(energies)
            found = cell.spectrum.tracking_products(cell.number, cell.columns(increments), norms, True)
            return found, float(norms.sum())

        taken = set()
        for spectrum, (found, energy, single) in _by_spectrum(cells, self._all(products, cells)).items():
            if spectrum.track(found, energy, increments.shape[0], single):
                taken.add(spectrum)
        cells = [cell for cell in cells if cell.spectrum in taken]

        def turn(cell: _Cell) -> tuple[list[NDArray[Any]], float]:
            return [cell.spectrum.turn(cell.number, cell.columns(increments))], 0.0

        for spectrum, ((gram,), _, _) in _by_spectrum(cells, self._all(turn, cells)).items():
            spectrum.settle(gram)
        return taken

    def _absorb(self, cells: list[_Cell], increments: NDArray[Any], energies: list[Doubles]) -> None:
        def products(cell: _Cell) -> tuple[list[NDArray[Any]], float]:
            norms = cell.energies(energies)
            found = cell.spectrum.products(cell.number, cell.columns(increments), norms, True)
            return [found], float(norms.sum())

        for spectrum, ((gram,), energy, single) in _by_spectrum(cells, self._all(products, cells)).items():
            spectrum.absorb(gram, energy, increments.shape[0], single)

        def renew(cell: _Cell) -> None:
            cell.spectrum.renew(cell.number, cell.columns(increments))

        self._all(renew, cells)

    def _all(self, work: Callable[[_Cell], _Result], cells: list[_Cell]) -> list[_Result]:
        """Run over cells in the pool; results in the order of the cells."""
        return list(self._pool.map(work, cells))

    def close(self) -> None:
        """As of `Accumulator`."""
        self._pool.shutdown(cancel_futures=True)

    def result(self) -> Spectra:
        """As of `Accumulator`."""
        each: list[Spectrum] = []
        for tensor, width in enumerate(self._context.parameters):
            if tensor in self.tensors:
                each.append(self.tensors[tensor])
            else:
                squares = squared_singular_values(self.narrow.get(tensor, np.zeros((0, 0))))
                each.append(finished(squares, self._increments, width, self._measure.epsilons))
        return Spectra(self.total, each)
