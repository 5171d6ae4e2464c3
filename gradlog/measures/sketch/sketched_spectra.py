"""Spectra of the whole model and of every tensor from sketches; small tensors keep their exact ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.cross_fit import CrossFit, cross_fit
from ....kernels.gram import column_gram, row_gram, squared_singular_values
from ....kernels.pass_layout import INCREMENT
from ...engine.block import Block
from ...engine.measure import Accumulator, PassContext
from ...engine.tile import Tile
from ..spectra.exact_spectrum import finished
from ..spectra.spectrum import Spectra, Spectrum
from .sketch_choice import SketchChoice
from .sketch_spectrum import SketchedSpectrum
from .sketcher import Sketcher, Turn

Doubles = NDArray[np.float64]
Grams = Mapping[int, NDArray[np.floating[Any]]]


class SketchedSpectra(Accumulator[Grams]):
    """Adds tiles' projections up in the pool, each in its turn; pieces are Gram matrices of small tensors."""

    def __init__(self, choice: SketchChoice, epsilons: Sequence[float], context: PassContext) -> None:
        self._choice = choice
        self._epsilons = epsilons
        self._context = context
        self._sketcher = Sketcher(context.tensors, context.ranges, choice, context.rows, context.workers)
        self._turns: dict[tuple[tuple[int, int], int], Turn] = {}
        self._increments = max(0, context.rows - 1)
        self._fits: dict[int, Future[CrossFit]] = {}
        self._squares: dict[int, Doubles] = {}
        self._exact: dict[int, Doubles] = {}
        self._total: Doubles | None = None
        self._alone = sum(parameters > 0 for parameters in context.parameters) == 1

    def admits(self, block: Block) -> bool:
        """As of `Accumulator`."""
        return self._sketcher.has_room(block)

    def enter(self, tile: Tile) -> None:
        """As of `Accumulator`."""
        self._turns[tile.key, tile.start] = self._sketcher.turn(tile.block)

    def increments(self, tile: Tile) -> Grams:
        """As of `Accumulator`."""
        block = tile.block
        self._sketcher.project(self._turns[tile.key, tile.start], block, tile.strips)
        found: dict[int, NDArray[np.floating[Any]]] = {}
        for strip, sums in zip(tile.strips, tile.sums, strict=True):
            if self._choice.is_wide(self._context.tensors[strip.tensor]):
                continue
            skip = 1 if block.start == 0 else 0
            increments = tile.of(strip)[skip:]
            if len(block.range.row_blocks) == 1 and increments.shape[0] < increments.shape[1]:
                found[strip.tensor] = row_gram(increments, sums[skip:, INCREMENT], False)
            else:
                found[strip.tensor] = column_gram(increments)
        return found

    def leave(self, tile: Tile) -> None:
        """As of `Accumulator`."""
        self._turns.pop((tile.key, tile.start)).finish()

    def merge(self, piece: Grams) -> None:
        """As of `Accumulator`."""
        for tensor, gram in piece.items():
            if tensor in self._exact:
                self._exact[tensor] += gram
            else:
                self._exact[tensor] = gram.astype(np.float64)

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:  # noqa: ARG002
        """As of `Accumulator`."""
        done = self._sketcher.merged(block)
        if done is None:
            return
        for tensor, gram in self._exact.items():
            self._squares[tensor] = squared_singular_values(gram)
        self._exact.clear()
        wide, sketch = done
        if wide is not None and self._increments:
            for before in self._fits.values():
                before.result()  # no more arrays wait than the plan counted
            name = self._context.names[wide]
            self._fits[wide] = self._context.pool.submit(_fit, sketch, f"tensor '{name}': ")
        if self._total is None:
            # The first unit's array is only read from now on, unless others are added.
            self._total = sketch if self._alone else sketch.copy()
        else:
            self._total += sketch

    def result(self) -> Spectra:
        """As of `Accumulator`."""
        parameters = self._context.parameters
        spectra = [self._spectrum(index) for index in range(len(parameters))]
        used = [index for index, count in enumerate(parameters) if count]
        if not used or not self._increments:
            return Spectra(finished(np.zeros(0), 0, 0, self._epsilons), spectra)
        if self._alone:
            return Spectra(spectra[used[0]], spectra)
        assert self._total is not None
        made_of = sum(self._choice.parameters_of(index, parameters[index]) for index in used)
        known = not self._choice.stored
        return Spectra(self._sketched(_fit(self._total, ""), made_of, known), spectra)

    def _spectrum(self, index: int) -> Spectrum:
        parameters = self._context.parameters[index]
        if index in self._fits:
            fit, stored = self._fits[index].result(), index in self._choice.stored
            return self._sketched(fit, self._choice.parameters_of(index, parameters), not stored)
        squares = self._squares.get(index, np.zeros(0))
        return finished(squares, self._increments, parameters, self._epsilons)

    def _sketched(self, fit: CrossFit, parameters: int, known: bool) -> SketchedSpectrum:
        return SketchedSpectrum(
            fit, self._choice.projection, self._epsilons, self._increments, parameters, known
        )


def _fit(sketch: Doubles, where: str) -> CrossFit:
    try:
        return cross_fit(sketch[1:])  # row 0 has no increment
    except OverflowError as error:
        raise OverflowError(f"{where}{error}") from error
