"""Energy of each tensor by row, and how evenly parameters share it, gathered in one pass (a monoid)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ....kernels.column_energies import add_column_energies, compile_column_energies, energies_by_octave
from ....kernels.pass_layout import ENERGY
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape
from ...engine.state import PartState, State
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ...statistics.step_bins import bin_edges, bins_of_rows
from ..path_lengths.path_lengths import NAME as PATH_LENGTHS
from ..path_lengths.path_lengths import add_up, check_complete, part_totals

Doubles = NDArray[np.float64]

NAME = "energies"
MOST_VALUES = 1 << 20
"""Energies that are kept of all tensors: 8 MB. Where there are more, neighbouring rows share one."""
SOME = 256
"""Tensors that results are finished of at once."""
GROUP_BYTES = 3000
"""Of the groups of a tensor, and of the copies on the way."""
LEAST_BINS = 1024
"""So many bins of rows a tensor has, or a row each."""
LARGEST = 1 << 16
"""Parameters of a tensor from which on rows are few beside them, however uneven the energy is."""
COLUMNS = 1e-9
"""Relative: by how much energies by column may miss those by row, which are summed in another order."""


@dataclass(frozen=True)
class Energies(Measure):
    """||g_t||^2 of each tensor. spread : also how the parameters share the energy

    stored : numbers of tensors that are sketches, whose sums are no parameters
    """

    name = NAME
    spread: bool
    stored: frozenset[int] = frozenset()

    def kept_bytes(self, shape: PassShape) -> int:
        """As of `Measure`."""
        bins = min(shape.rows, 1 + _most_bins(len(shape.tensors)))
        return len(shape.tensors) * (8 * bins + GROUP_BYTES)

    def column_bytes(self, shape: PassShape) -> int:
        """As of `Measure`: the energy of a parameter so far."""
        return 8 if self.spread and any(tensor.parameters <= LARGEST for tensor in shape.tensors) else 0

    def start(self, context: PassContext) -> EnergySums:
        """As of `Measure`."""
        watched = [
            self.spread and size <= LARGEST and number not in self.stored
            for number, size in enumerate(context.parameters)
        ]
        if any(watched):
            for dtype in {
                tensor.compute_dtype for tensor in context.tensors
            }:  # none where parts are added up
                compile_column_energies(dtype)
        return EnergySums(context.rows, watched)


@dataclass(frozen=True)
class RowEnergies:
    """Of each tensor (bins,) float64, to be added to bins first, first + 1, ..."""

    first: int
    sums: Mapping[int, Doubles]


@dataclass(frozen=True)
class ColumnEnergies:
    """How parameters share the energy of each tensor, over all rows and some parameters.

    groups : (G, 3) float64 of each tensor: parameters whose energy lies in [2^(k-1), 2^k) by k, their number
    and their energy
    """

    groups: Mapping[int, Doubles]


class EnergySums(Accumulator[RowEnergies | ColumnEnergies]):
    """edges : (bins + 1,) int64, first row of each bin, then N; rows : (tensors, bins) float64 energies

    watched : the tensors whose parameters are looked at one by one
    """

    def __init__(self, rows: int, watched: list[bool]) -> None:
        self.edges = bin_edges(rows, _most_bins(len(watched)))
        self.rows = np.zeros((len(watched), self.edges.size - 1))
        self.watched = watched
        self._groups: list[dict[int, list[float]]] = [{} for _ in watched]
        self._columns: dict[tuple[int, int], dict[int, Doubles]] = {}

    def gradients(self, tile: Tile) -> ColumnEnergies | None:
        """As of `Accumulator`."""
        columns = self._columns.pop(tile.key, None) or {
            number: np.zeros(strip.last - strip.first)
            for number, strip in enumerate(tile.strips)
            if self.watched[strip.tensor]
        }
        if not tile.block.last:
            for number, energies in columns.items():
                add_column_energies(tile.of(tile.strips[number]), energies)
            self._columns[tile.key] = columns
            return None
        found: dict[int, list[Doubles]] = {}
        for number, energies in columns.items():
            strip = tile.strips[number]
            found.setdefault(strip.tensor, []).append(energies_by_octave(tile.of(strip), energies))
        return ColumnEnergies(
            {
                tensor: groups[0] if len(groups) == 1 else np.concatenate(groups)
                for tensor, groups in found.items()
            }
        )

    def row_sums(self, tile: Tile) -> RowEnergies | None:
        """As of `Accumulator`."""
        start, stop = tile.start, tile.start + tile.rows
        if stop == start:
            return None
        first, starts = bins_of_rows(self.edges, start, stop)
        found: dict[int, Doubles] = {}
        for strip, sums in zip(tile.strips, tile.sums, strict=True):
            energies = sums[:, ENERGY]
            if starts is not None:
                energies = np.add.reduceat(energies, starts)
            found[strip.tensor] = found.get(strip.tensor, 0.0) + energies
        return RowEnergies(first, found)

    def merge(self, piece: RowEnergies | ColumnEnergies) -> None:
        """As of `Accumulator`."""
        if isinstance(piece, RowEnergies):
            for tensor, sums in piece.sums.items():
                self.rows[tensor, piece.first : piece.first + sums.size] += sums
            return
        for tensor, groups in piece.groups.items():
            for octave, number, energy in groups.tolist():
                held = self._groups[tensor].setdefault(int(octave), [0.0, 0.0])
                held[:] = held[0] + number, held[1] + energy

    def state(self) -> State:
        """Of each tensor that has any here, by its number: rows/ (bins,), columns/ (G, 3) where watched."""
        there = np.flatnonzero(self.rows.any(axis=1)).tolist()
        columns = {f"columns/{tensor}": self._held(tensor) for tensor in there if self.watched[tensor]}
        return {**{f"rows/{tensor}": self.rows[tensor] for tensor in there}, **columns}

    def pieces(self, state: PartState) -> Iterator[RowEnergies | ColumnEnergies]:
        """As of `Accumulator`."""
        totals = part_totals(state, len(self.watched))
        held = state.numbers("rows")
        check_complete(totals, held, "energies by row")
        every = np.zeros(self.rows.shape[1])
        for tensor in held:
            energies = state.array(f"rows/{tensor}", every.shape)
            total = totals[tensor, ENERGY : ENERGY + 1]
            sound = bool((np.isfinite(energies) & (energies >= 0)).all())
            if not sound or not add_up(energies.sum(keepdims=True), total, total):
                raise ValueError(f"energies/rows/{tensor}.npy does not add up to totals.npy")
            yield RowEnergies(0, {tensor: energies})
            every += energies
        series = state.of(PATH_LENGTHS).array("series", (-1, -1))[:, ENERGY]
        of_rows = np.add.reduceat(series, self.edges[:-1])
        if not add_up(every, of_rows, of_rows):
            raise ValueError("its energies of tensors by row don't add up to series.npy")
        watched = [tensor for tensor in held if self.watched[tensor]]
        if state.numbers("columns") != watched:
            raise ValueError("it holds energies by parameter of other tensors than it has")
        for tensor in watched:
            groups = state.array(f"columns/{tensor}", (-1, 3))
            energy = float(totals[tensor, ENERGY])
            if not _are_groups(groups) or not abs(float(groups[:, 2].sum()) - energy) <= COLUMNS * energy:
                raise ValueError(f"energies/columns/{tensor}.npy does not add up to totals.npy")
            yield ColumnEnergies({tensor: groups})

    def result(self) -> EnergySums:
        """Itself."""
        return self

    def of_rows(self, tensors: slice) -> Doubles:
        """(tensors, N) float64: ||g_t||^2 of some tensors; rows of a bin have equal shares of it."""
        widths = np.diff(self.edges)
        if widths.size == self.edges[-1]:
            return self.rows[tensors]
        return np.asarray(np.repeat(self.rows[tensors] / np.maximum(widths, 1), widths, axis=1))

    def groups(self, tensor: int, parameters: int) -> tuple[Doubles, Doubles]:
        """(G,) float64 each: how many parameters of a tensor share how much energy about evenly.

        parameters : D of the tensor, which share it evenly where they were not looked at
        """
        held = self._held(tensor)
        if not held.size:
            with np.errstate(over="ignore"):  # told with the path lengths
                return np.array([float(parameters)]), self.rows[tensor].sum(keepdims=True)
        return held[:, 1], held[:, 2]

    def _held(self, tensor: int) -> Doubles:
        rows = [(octave, *held) for octave, held in sorted(self._groups[tensor].items())]
        return np.array(rows, dtype=np.float64).reshape(-1, 3)


def lots(tensors: int, rows: int) -> Iterator[slice]:
    """Tensors whose energies are spread out over all rows at once: some, at most MOST_VALUES, or one."""
    size = max(1, min(SOME, MOST_VALUES // max(1, rows)))
    return (slice(first, min(first + size, tensors)) for first in range(0, tensors, size))


def _most_bins(tensors: int) -> int:
    return max(LEAST_BINS, MOST_VALUES // max(1, tensors))


def _are_groups(groups: Doubles) -> bool:
    octave, number, energy = groups.T
    if not np.isfinite(groups).all() or (np.abs(octave) > 2000).any() or (groups[:, :2] % 1 != 0).any():
        return False
    if (np.diff(octave) <= 0).any():
        return False
    least = np.ldexp(number / 2, octave.astype(np.int64))
    return bool((number > 0).all() and (energy >= least * 0.999).all() and (energy <= 2.001 * least).all())
