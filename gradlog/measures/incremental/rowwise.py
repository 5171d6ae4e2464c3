"""The incremental pass: row block after row block, all parameters at once, bases of bounded size.

For each block the pool first runs the fused pass over its tiles, which leaves the increments in place. Then
slices of a few hundred rows are taken in: Gram matrices of the bases and the slice, tile by tile in the pool;
small eigenvalue problems in the calling thread; new bases, tile by tile in the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import column_gram
from ...engine.blocks import Block
from ...engine.plan import NARROW, Plan
from ...engine.ranges import Tile
from ...logs.log import Tensor
from ..spectra.spectrum import ExactSpectrum
from .incremental import IncrementalSpectrum

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Cell:
    """Columns first .. last - 1 of a block are cell `number` of `spectrum`; they hold these parts."""

    spectrum: IncrementalSpectrum
    number: int
    first: int
    last: int
    parts: tuple[int, ...]


class RowwiseSpectra:
    """Spectra of the whole model and of every tensor, from blocks of increments in the order of time."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        plan: Plan,
        epsilons: Sequence[float],
        rows: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._pool = pool
        self._tiles: tuple[Tile, ...] = plan.ranges[0].tiles if plan.ranges else ()
        dtype = max(
            (t.compute_dtype for t in tensors), key=lambda d: d.itemsize, default=np.dtype(np.float32)
        )
        parts = [part for tile in self._tiles for part in tile]

        def spectrum(widths: list[int]) -> IncrementalSpectrum:
            return IncrementalSpectrum(widths, dtype, plan.basis_rows, epsilons, max(1, rows - 1))

        self.total = spectrum([tile[-1].last - tile[0].first for tile in self._tiles])
        self.tensors: dict[int, IncrementalSpectrum] = {}
        self.narrow: dict[int, ExactSpectrum] = {}
        if len({part.tensor for part in parts}) == 1:
            self.tensors[parts[0].tensor] = self.total
        else:
            for index in dict.fromkeys(part.tensor for part in parts):
                own = [part.last - part.first for part in parts if part.tensor == index]
                if sum(own) > NARROW:
                    self.tensors[index] = spectrum(own)
                else:
                    self.narrow[index] = ExactSpectrum(sum(own))
        self._parts = parts
        self._cells = self._make_cells()

    def _make_cells(self) -> list[_Cell]:
        cells = []
        place = {id(part): number for number, part in enumerate(self._parts)}
        for number, tile in enumerate(self._tiles):
            inside = tuple(place[id(part)] for part in tile)
            cells.append(_Cell(self.total, number, tile[0].first, tile[-1].last, inside))
        counts: dict[int, int] = {}
        for number, part in enumerate(self._parts):
            own = self.tensors.get(part.tensor)
            if own is not None and own is not self.total:
                cell = counts.get(part.tensor, 0)
                counts[part.tensor] = cell + 1
                cells.append(_Cell(own, cell, part.first, part.last, (number,)))
        return cells

    def update(self, block: Block, energies: Sequence[NDArray[np.float64]]) -> None:
        """Take in a block of increments. energies : for each part (T,) float64, squared norms of its rows."""
        skip = 1 if block.start == 0 else 0  # row 0 has no increment
        values = block.values[skip:]
        parts = [part[skip:] for part in energies]
        if not values.shape[0]:
            return
        for index, spectrum in self.narrow.items():
            (part,) = [part for part in self._parts if part.tensor == index]
            spectrum.update(column_gram(values[:, part.first : part.last]))
        done = 0
        while done < values.shape[0]:
            left = values.shape[0] - done
            at_once = self.total.rows_at_once
            count = -(-left // -(-left // at_once))
            rows = slice(done, done + count)
            self._absorb(values[rows], [part[rows] for part in parts])
            done += count

    def _absorb(self, increments: NDArray[Any], energies: list[NDArray[np.float64]]) -> None:
        def products(cell: _Cell) -> tuple[NDArray[Any], float]:
            norms = np.sum([energies[part] for part in cell.parts], axis=0)
            inside = increments[:, cell.first : cell.last]
            return cell.spectrum.products(cell.number, inside, norms, True), float(norms.sum())

        grams: dict[int, NDArray[np.float64]] = {}
        sums: dict[int, float] = {}
        singles: dict[int, bool] = {}
        spectra: dict[int, IncrementalSpectrum] = {}
        for cell, (gram, energy) in zip(self._cells, self._all(products), strict=True):
            key = id(cell.spectrum)
            spectra[key] = cell.spectrum
            singles[key] = singles.get(key, False) or gram.dtype == np.float32
            if key in grams:
                grams[key] += gram
                sums[key] += energy
            else:
                grams[key] = gram.astype(np.float64)
                sums[key] = energy
        for key, spectrum in spectra.items():
            spectrum.absorb(grams[key], sums[key], increments.shape[0], singles[key])

        def renew(cell: _Cell) -> None:
            cell.spectrum.renew(cell.number, increments[:, cell.first : cell.last])

        self._all(renew)

    def _all(self, work: Callable[[_Cell], _Result]) -> list[_Result]:
        """Run over all cells in the pool; results in the order of the cells."""
        return list(self._pool.map(work, self._cells))
