"""Exact spectra of groups of tensors: inner products of increments add over tensors.

Each group has the sum of the Gram matrices over rows that the exact spectrum forms of its tensors. Small
tensors share a tile there, and have no matrix of their own: theirs is formed here. Where the exact spectrum
is over columns a group's is a part of its matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import row_gram, squared_singular_values
from ....kernels.pass_layout import INCREMENT
from ...engine.measure import Accumulator, Measure, PassContext
from ...engine.request import PassShape, Span
from ...engine.state import PartState, State, Symmetric
from ...engine.tile import Tile
from ...quick_dataclass import dataclass
from ..path_lengths.path_lengths import part_totals
from . import GROUPS
from .exact_spectrum import ColumnGramSum, RowGramSums, adds_up, finished
from .spectrum import NAME as SPECTRUM
from .spectrum import Spectrum

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class GroupSpectra(Measure):
    """Follows an exact spectrum. groups : numbers of the members of each, several and not all

    epsilons : of ranks; in_parts : a pass takes a part only, and no group is whole before the end
    """

    name = GROUPS
    groups: tuple[tuple[int, ...], ...]
    epsilons: tuple[float, ...]
    in_parts: bool = False

    def kept_bytes(self, shape: PassShape) -> int:
        """Of the matrices of groups that are begun and not whole yet, and of two with LAPACK."""
        if shape.span is Span.ROWS:
            sizes = [sum(shape.tensors[t].parameters for t in group) for group in self.groups]
            return 16 * max(sizes, default=0) ** 2
        open_at_once = len(self.groups) if self.in_parts else self._most_open(len(shape.tensors))
        return 8 * max(0, shape.rows - 1) ** 2 * (open_at_once + 2)

    def _most_open(self, tensors: int) -> int:
        """Tensors are read in their order."""
        begun = np.zeros(tensors + 1, dtype=np.int64)
        for group in self.groups:
            begun[group[0]] += 1
            begun[group[-1] + 1] -= 1
        return int(begun.cumsum().max(initial=0))

    def start(self, context: PassContext) -> GroupGrams:
        """As of `Measure`."""
        return GroupGrams(self, context)


class _PartGram:
    """A matrix of a part. energy : that its diagonal has to add up to"""

    def __init__(self, state: PartState, name: str, energy: float) -> None:
        self._state, self._name, self._energy = state, name, energy

    def add_to(self, matrix: Doubles) -> None:
        energies = self._state.add_symmetric(self._name, matrix)
        if not adds_up(float(energies.sum()), self._energy):
            raise ValueError(f"{GROUPS}/{self._name}.npy does not fit totals.npy")


@dataclass(frozen=True)
class GramOfMembers:
    """What some members of a group add to its matrix. members : those that are whole in it"""

    group: int
    members: Sequence[int]
    gram: Doubles | _PartGram


class GroupGrams(Accumulator[list[GramOfMembers]]):
    """The sums of the matrices of groups."""

    of_every_tensor = False

    def __init__(self, measure: GroupSpectra, context: PassContext) -> None:
        self._measure = measure
        self._context = context
        self._groups_of: dict[int, list[int]] = {}
        self._missing = [0] * len(measure.groups)
        for number, members in enumerate(measure.groups):
            for tensor in members:
                if context.parameters[tensor]:
                    self._groups_of.setdefault(tensor, []).append(number)
                    self._missing[number] += 1
        self._size = max(0, context.rows - 1)
        self._open: dict[int, Doubles] = {}
        self._squares: dict[int, Future[Doubles]] = {}
        self._pending: Future[Doubles] | None = None
        self._spectrum = context.started.get(SPECTRUM)
        if isinstance(self._spectrum, RowGramSums):
            self._spectrum.listeners.append(self)

    def increments(self, tile: Tile) -> list[GramOfMembers] | None:
        """As of `Accumulator`: small tensors share a tile, and have no matrix over rows of their own."""
        if not isinstance(self._spectrum, RowGramSums) or len(tile.strips) == 1:
            return None
        strips: dict[int, list[int]] = {}
        for number, strip in enumerate(tile.strips):
            for group in self._groups_of.get(strip.tensor, ()):
                strips.setdefault(group, []).append(number)
        found = []
        for group, numbers in strips.items():
            held = np.concatenate([tile.of(tile.strips[n])[1:] for n in numbers], axis=1)
            energies = np.asarray(sum(tile.sums[n][1:, INCREMENT] for n in numbers))
            gram = row_gram(held, energies, False).astype(np.float64, copy=False)
            found.append(GramOfMembers(group, [tile.strips[n].tensor for n in numbers], gram))
        return found or None

    def merge(self, piece: list[GramOfMembers]) -> None:
        """As of `Accumulator`."""
        for each in piece:
            self._add(each.group, each.members, each.gram)

    def take_tensor(self, tensor: int, gram: NDArray[Any]) -> None:
        """As of `GramListener`."""

    def take_increments(self, tensor: int, gram: Doubles) -> None:
        """As of `GramListener`."""
        for group in self._groups_of.get(tensor, ()):
            self._add(group, [tensor], gram)

    def take_model(self, gram: Doubles, of_increments: Doubles) -> None:
        """As of `GramListener`."""

    def _add(self, group: int, members: Sequence[int], gram: Doubles | _PartGram) -> None:
        matrix = self._open.setdefault(group, np.zeros((self._size, self._size)))
        if isinstance(gram, _PartGram):
            gram.add_to(matrix)
        else:
            matrix += gram
        self._missing[group] -= len(members)
        if not self._missing[group] and not self._measure.in_parts:
            self._start(group)

    def _start(self, group: int) -> None:
        """Find the eigenvalues in the pool, of one group at a time."""
        if self._pending is not None:
            self._pending.result()
        matrix = self._open.pop(group)
        self._pending = self._squares[group] = self._context.pool.submit(squared_singular_values, matrix)

    def state(self) -> State:
        """of/G : the matrix of those members of each group that are whole here"""
        return {f"of/{group}": Symmetric(matrix) for group, matrix in sorted(self._open.items())}

    def pieces(self, state: PartState) -> Iterator[list[GramOfMembers]]:
        """As of `Accumulator`: matrices that don't fit the part's sums are refused."""
        if not isinstance(self._spectrum, RowGramSums):
            return
        energies = part_totals(state, len(self._context.names))[:, INCREMENT]
        whole = set(state.of(SPECTRUM).numbers("squares"))
        for group, numbers in enumerate(self._measure.groups):
            members = [tensor for tensor in numbers if tensor in whole]
            energy = float(energies[members].sum())
            if state.has(f"of/{group}"):
                yield [GramOfMembers(group, members, _PartGram(state, f"of/{group}", energy))]
            elif energy > 0:
                raise ValueError(f"it holds no matrix of group {group + 1}")

    def result(self) -> list[Spectrum | None]:
        """Of each group, in their order; None where there is no exact spectrum.

        To be called after the result of that.
        """
        spectrum = self._spectrum
        if isinstance(spectrum, ColumnGramSum):
            found = [spectrum.squares_of(members) for members in self._measure.groups]
        elif isinstance(spectrum, RowGramSums):
            for group in sorted(self._open):
                self._start(group)
            none = np.zeros(0)
            numbers = range(len(self._measure.groups))
            found = [self._squares[n].result() if n in self._squares else none for n in numbers]
        else:
            return [None] * len(self._measure.groups)
        return [
            finished(squares, self._size, self._parameters(members), self._measure.epsilons)
            for squares, members in zip(found, self._measure.groups, strict=True)
        ]

    def _parameters(self, members: Sequence[int]) -> int:
        return sum(self._context.parameters[tensor] for tensor in members)
