"""Spectra of the whole model and of every tensor from sketches; small tensors keep their exact ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.cross_fit import TOO_LARGE, CrossFit, cross_fit
from ....kernels.gram import column_gram, row_gram, squared_singular_values
from ....kernels.pass_layout import INCREMENT
from ...engine.block import Block
from ...engine.measure import PassContext
from ...engine.state import PartState, State, TensorError
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ..path_lengths.path_lengths import check_complete, check_strips, part_totals
from ..spectra.exact_spectrum import adds_up, finished
from ..spectra.spectrum import NAME, Spectra, Spectrum
from .projected_sums import ProjectedSums
from .sketch_choice import SketchChoice
from .sketch_spectrum import SketchedSpectrum

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class SketchesOfTensors:
    """What tiles and parts add.

    grams : Gram matrices of small tensors, of some of their rows; squares : their sigma_i^2, by number
    sums : (tensor, strips that they are of, S x of every row (N, M)) of wide tensors
    fits : of wide tensors that are whole, by number; total : (N, M) sums of all tensors that are whole
    """

    grams: Mapping[int, NDArray[np.floating[Any]]] = field(default_factory=dict)
    squares: Mapping[int, Doubles] = field(default_factory=dict)
    sums: Sequence[tuple[int, int, Doubles]] = ()
    fits: Mapping[int, CrossFit] = field(default_factory=dict)
    total: Doubles | None = None


class SketchedSpectra(ProjectedSums[SketchesOfTensors]):
    """Adds tiles' projections up in the pool, each in its turn: they are whole at the end of a block."""

    def __init__(self, choice: SketchChoice, epsilons: Sequence[float], context: PassContext) -> None:
        super().__init__(choice, context)
        self._epsilons = epsilons
        self._increments = max(0, context.rows - 1)
        self._fits: dict[int, Future[CrossFit]] = {}
        self._known: dict[int, CrossFit] = {}  # of states that were taken in
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

    def increments(self, tile: Tile) -> SketchesOfTensors:
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
        return SketchesOfTensors(found)

    def leave(self, tile: Tile) -> None:
        """As of `Accumulator`."""
        self._turns.pop((tile.key, tile.start)).finish()

    def merge(self, piece: SketchesOfTensors) -> None:
        """As of `Accumulator`."""
        for tensor, gram in piece.grams.items():
            if tensor in self._exact:
                self._exact[tensor] += gram
            else:
                self._exact[tensor] = gram.astype(np.float64)
        self._squares.update(piece.squares)
        self._known.update(piece.fits)
        for tensor, strips, sums in piece.sums:
            self._add(tensor, strips, sums)
        if piece.total is not None:
            self._add_to_total(piece.total)

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:  # noqa: ARG002
        """As of `Accumulator`."""
        done = self._sketcher.merged(block)
        if done is None:
            return
        for tensor, gram in self._exact.items():
            self._squares[tensor] = squared_singular_values(gram)
        self._exact.clear()
        wide, sketch = done
        if wide is None:
            self._add_to_total(sketch)
        else:
            self._add(wide, self._strips[wide], sketch)

    def _complete(self, tensor: int, sums: Doubles) -> None:
        """As of `ProjectedSums`."""
        if self._increments:
            for before in self._fits.values():
                before.result()  # no more arrays wait than the plan counted
            where = f"tensor '{self._context.names[tensor]}': "
            self._fits[tensor] = self._context.pool.submit(_fit, sums, where)
        self._add_to_total(sums)

    def _add_to_total(self, sketch: Doubles) -> None:
        """Add sums of tensors that are whole. The array is only read from now on."""
        if self._alone:
            return
        if self._total is None:
            self._total = sketch.copy()
        else:
            self._total += sketch

    def _all_fits(self) -> dict[int, CrossFit]:
        return self._known | {tensor: future.result() for tensor, future in self._fits.items()}

    def state(self) -> State:
        """squares/T : sigma_i^2 of small tensors; sums/T : (N, M) of wide ones with strips elsewhere

        fits/T, fit_squares/T, left/T : (3,) exponent, energy and product, (n,) and (3, r + 1) of others, as
        of `CrossFit`; total : (N, M) sums of all tensors that are whole, where there are others
        """
        if not self._increments:
            return {}
        found = {f"squares/{tensor}": squares for tensor, squares in sorted(self._squares.items())}
        for tensor, fit in sorted(self._all_fits().items()):
            found[f"fits/{tensor}"] = np.array([fit.exponent, fit.energy, fit.product])
            found[f"fit_squares/{tensor}"] = fit.squares
            found[f"left/{tensor}"] = np.stack([fit.left, fit.left_quartic, fit.left_cross])
        for tensor, sums in sorted(self._open.items()):
            if not np.isfinite(sums).all():
                raise OverflowError(f"tensor '{self._context.names[tensor]}': {TOO_LARGE}")
            found[f"sums/{tensor}"] = sums
        if self._total is not None:
            found["total"] = self._total
        return found

    def pieces(self, state: PartState) -> Iterator[SketchesOfTensors]:
        """As of `Accumulator`: spectra that don't fit the part's sums, or the other parts, are refused."""
        if not self._increments:
            return
        totals = part_totals(state, len(self._context.names))
        small, whole, cut = (state.numbers(folder) for folder in ("squares", "fits", "sums"))
        check_complete(totals, {*small, *whole, *cut}, "sketch")
        check_strips(state, self._context.strips, [*small, *whole], cut, "the sketch")
        for tensor in small:
            squares = state.array(f"squares/{tensor}", (-1,))
            sound = bool((squares >= 0).all()) and not (np.diff(squares) > 0).any()
            if not sound or not adds_up(float(squares.sum()), float(totals[tensor, INCREMENT])):
                raise ValueError(f"{NAME}/squares/{tensor}.npy does not fit totals.npy")
            yield SketchesOfTensors(squares={tensor: squares})
        for tensor in whole:
            yield SketchesOfTensors(fits={tensor: self._sound_fit(state, tensor)})
        for tensor in cut:
            sums = self._sound_sums(state, f"sums/{tensor}")
            yield SketchesOfTensors(sums=[(tensor, state.strips(tensor), sums.copy())])
        if state.has("total"):
            yield SketchesOfTensors(total=self._sound_sums(state, "total"))
        elif (small or whole) and not self._alone:
            raise ValueError("it holds no sketch of the whole model")

    def _sound_fit(self, state: PartState, tensor: int) -> CrossFit:
        dim = self._choice.known_dim
        size = self._increments if self._increments <= dim // 2 else dim
        exponent, energy, product = state.array(f"fits/{tensor}", (3,)).tolist()
        squares = state.array(f"fit_squares/{tensor}", (size,))
        left = state.array(f"left/{tensor}", (3, -1))
        sound = bool(np.isfinite(left).all() and (squares >= 0).all()) and not (np.diff(squares) > 0).any()
        # Directions that are not taken away leave it all.
        sums = [float(squares.sum()), float(left[0, :1].sum())]
        if not sound or exponent % 1 or not all(adds_up(found, energy) for found in sums):
            raise TensorError("it holds no sketch of tensor {}", tensor)
        return CrossFit(int(exponent), energy, squares, left[0], left[1], left[2], product)

    def _sound_sums(self, state: PartState, name: str) -> Doubles:
        sums = state.array(name, (self._context.rows, self._choice.known_dim))
        if not np.isfinite(sums).all() or sums[0].any():
            raise ValueError(f"{NAME}/{name}.npy is no sketch of increments")
        return sums

    def result(self) -> Spectra:
        """As of `Accumulator`."""
        parameters = self._context.parameters
        fits = self._all_fits()
        spectra = [self._spectrum(index, fits.get(index)) for index in range(len(parameters))]
        used = [index for index, count in enumerate(parameters) if count]
        if not used or not self._increments:
            return Spectra(finished(np.zeros(0), 0, 0, self._epsilons), spectra)
        if self._alone:
            return Spectra(spectra[used[0]], spectra)
        assert self._total is not None
        made_of = sum(self._choice.parameters_of(index, parameters[index]) for index in used)
        known = not self._choice.stored
        return Spectra(self._sketched(_fit(self._total, ""), made_of, known), spectra)

    def _spectrum(self, index: int, fit: CrossFit | None) -> Spectrum:
        parameters = self._context.parameters[index]
        if fit is not None:
            stored = index in self._choice.stored
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
