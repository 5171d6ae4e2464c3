"""Exact spectra: Gram matrices of increments, over rows or over columns, whichever are fewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ....kernels.gram import column_gram, few_rows_gram, row_gram, squared_singular_values, squares_without
from ....kernels.pass_layout import ENERGY, INCREMENT
from ....kernels.short_gram import MOST_ROWS
from ...engine.backlog import Backlog
from ...engine.measure import Accumulator, CoreSeconds, Measure, PassContext
from ...engine.request import PassShape, Request, Span
from ...engine.state import PartState, State, Symmetric, TensorError
from ...engine.tile import Tile
from ...errors import MemoryLimitError
from ...quick_dataclass import dataclass
from ...sizes import format_size
from ...statistics.spectrum_errors import stretches
from ..path_lengths.path_lengths import NOTHING, check_complete, part_totals
from .costs import exact_core_seconds, exact_seconds
from .spectrum import NAME, ExactEigenvalues, Spectra, Spectrum

Doubles = NDArray[np.float64]

SINGLE_MIN_INCREMENTS = 128
SINGLE_MIN_PARAMETERS = 1 << 15
"""From this size on, products of increments are formed in float32 (checked, see `row_gram`): below it
double precision costs next to nothing, and there are fewer rounding errors to average out."""
SINGLE_LEAST_EPSILON = 1e-4
"""Ranks that may leave out less than this share of the energy take double precision at any size."""
ADDS_UP = 1e-5
"""Relative: how well the squares of a spectrum add up to the energy of the increments."""


def exact_spectrum(
    epsilons: Sequence[float], parameters: int, rows: int, *, searched: bool = False, in_parts: bool = False
) -> ExactOverRows | ExactOverColumns:
    """The measure for so many parameters and rows; arguments as of `ExactOverRows`."""
    if parameters < rows - 1:
        return ExactOverColumns(tuple(epsilons))
    return ExactOverRows(tuple(epsilons), searched, in_parts)


@dataclass(frozen=True)
class ExactOverRows(Measure):
    """From the matrix (N - 1, N - 1) of inner products of increments.

    epsilons : shares of the increments' energy that ranks may leave out
    searched : predictors are searched in matrices that hold the first gradient in front
    in_parts : a tensor that the part before began stays apart until the end
    """

    name = NAME
    span = Span.COLUMNS
    epsilons: tuple[float, ...]
    searched: bool = False
    in_parts: bool = False

    def kept_bytes(self, shape: PassShape) -> int:
        """Of matrices: as of `_copies`."""
        return 8 * max(0, shape.rows - 1) ** 2 * self._copies(len(shape.tensors), shape.workers)

    def _copies(self, tensors: int, workers: int) -> int:
        """The total's, a tensor's, LAPACK's copy, and one each in work or waiting to be added."""
        searched = (workers + 1) // 2 if self.searched else 0
        return 2 + (tensors > 1) + workers + 1 + self.in_parts + searched

    def seconds(self, sizes: Sequence[int], rows: int) -> float:
        """As of `Measure`."""
        return exact_seconds(sizes, rows)

    def core_seconds(self, sizes: Sequence[int], rows: int) -> CoreSeconds:
        """As of `Measure`."""
        return exact_core_seconds(sizes, rows, len(stretches(rows - 1)))

    def state_bytes(self, shape: PassShape, begun: int) -> int:
        """As of `Measure`: half a matrix of each tensor that is begun, one of those that are whole."""
        whole = len(shape.tensors) > begun
        return 4 * max(0, shape.rows - 1) ** 2 * (begun + whole) + 8 * shape.rows * len(shape.tensors)

    def too_large(self, request: Request, fixed: int) -> MemoryLimitError:
        """As of `Measure`."""
        copies = self._copies(len(request.tensors), 1)
        return _matrices_too_large(request, fixed, copies, request.count - 1)

    def start(self, context: PassContext) -> RowGramSums:
        """As of `Measure`."""
        return RowGramSums(self, context)


@dataclass(frozen=True)
class ExactOverColumns(Measure):
    """From the matrix (D, D) of inner products of columns, of which there are fewer. Fields as before."""

    name = NAME
    span = Span.ROWS
    one_tile = True
    epsilons: tuple[float, ...]

    def kept_bytes(self, shape: PassShape) -> int:
        """Of the total's matrix, LAPACK's copy, one in work, and a tensor's."""
        return 8 * shape.parameters**2 * self._copies(len(shape.tensors))

    def _copies(self, tensors: int) -> int:
        return 3 + (tensors > 1)

    def seconds(self, sizes: Sequence[int], rows: int) -> float:
        """As of `Measure`."""
        return exact_seconds(sizes, rows)

    def core_seconds(self, sizes: Sequence[int], rows: int) -> CoreSeconds:
        """As of `Measure`: a tensor's matrix is a block of the whole model's, known in the end."""
        found = exact_core_seconds(sizes, rows, 0)
        return CoreSeconds(found.products, at_end=found.spectra + found.at_end)

    def state_bytes(self, shape: PassShape, begun: int) -> int:  # noqa: ARG002
        """As of `Measure`: half the matrix of all columns."""
        return 4 * shape.parameters**2

    def too_large(self, request: Request, fixed: int) -> MemoryLimitError:
        """As of `Measure`."""
        return _matrices_too_large(request, fixed, self._copies(len(request.tensors)), request.parameters)

    def start(self, context: PassContext) -> ColumnGramSum:
        """As of `Measure`."""
        return ColumnGramSum(self, context)


def _matrices_too_large(request: Request, fixed: int, copies: int, size: int) -> MemoryLimitError:
    return MemoryLimitError(
        f"the exact rank of {request.count} rows works on {copies} matrices of {size} x {size}, more than "
        f"--memory {format_size(request.memory)} holds: give --memory {request.enough(fixed)}, or "
        "fewer rows with --rows, or --rank none for path lengths alone"
    )


class GramListener(Protocol):
    """Another measure that takes Gram matrices over rows.

    of_every_tensor : of each tensor too, with the first gradient in front: then it searches
    """

    of_every_tensor: bool

    def take_tensor(self, tensor: int, gram: NDArray[Any]) -> None:
        """gram : (N, N), inner products of [g_0, h_1, ..., h_{N-1}] over a tensor's parameters"""

    def take_increments(self, tensor: int, gram: Doubles) -> None:
        """gram : (N - 1, N - 1), inner products of h_1 to h_{N-1}, of a tensor that has strips of its own"""

    def take_model(self, gram: Doubles, of_increments: Doubles) -> None:
        """gram : the same over all parameters; of_increments : (N - 1, N - 1) of it, h_1 to h_{N-1}"""


class _PartGram:
    """A matrix of a part that is added a row at a time.

    energy : that its diagonal has to add up to, behind the first gradients `in_front`, 0 or 1
    """

    def __init__(self, state: PartState, name: str, energy: float, in_front: int = 0) -> None:
        self._state, self._name, self._energy, self._in_front = state, name, energy, in_front

    def add_to(self, matrix: Doubles) -> None:
        """Raises ValueError where it does not fit."""
        energies = self._state.add_symmetric(self._name, matrix)[self._in_front :]
        if not adds_up(float(energies.sum()), self._energy):
            raise ValueError(f"{self._name}.npy does not fit totals.npy")


def _add(gram: NDArray[Any] | _PartGram, matrix: Doubles) -> None:
    if isinstance(gram, _PartGram):
        gram.add_to(matrix)
    else:
        matrix += gram


def adds_up(found: float, expected: float) -> bool:
    """Whether the sum of a spectrum is the energy of its increments."""
    return abs(found - expected) <= ADDS_UP * expected + NOTHING


@dataclass
class RowGrams:
    """Gram matrices over rows.

    grams : (tensor, strips that it is the sum of, matrix) of tensors that have further strips elsewhere
    columns, squares : of tensors that are whole in it, by number: Gram matrices over columns, or sigma_i^2
    total : of the tensors in the former two; searched : of each tensor that is whole in it, by number
    left_out : sigma_i^2 of the only tensor without each stretch of increments, where it is whole
    """

    grams: Sequence[tuple[int, int, NDArray[Any] | _PartGram]] = ()
    columns: Sequence[tuple[int, Doubles]] = ()
    squares: Sequence[tuple[int, Doubles]] = ()
    total: NDArray[Any] | _PartGram | None = None
    searched: Sequence[tuple[int, NDArray[Any]]] = ()
    left_out: Sequence[Doubles] = ()


class RowGramSums(Accumulator[RowGrams]):
    """Tensors' spectra start as soon as they are complete."""

    def __init__(self, measure: ExactOverRows, context: PassContext) -> None:
        self._measure = measure
        self._context = context
        self._skip = 0 if measure.searched else 1  # rows before the first increment that are left out
        self._precise = min(measure.epsilons, default=1.0) < SINGLE_LEAST_EPSILON
        self._increments = max(0, context.rows - 1)
        self._size = max(0, context.rows - self._skip)
        # A single tensor's spectrum is the total's: one matrix serves both.
        self._alone = len(context.strips) == 1
        self._total = np.zeros((0 if self._alone else self._size,) * 2)
        self._open: dict[int, Doubles] = {}
        self._missing = dict(context.strips)
        self._squares: dict[int, Future[Doubles]] = {}
        self._known: dict[int, Doubles] = {}  # of states that were taken in
        self._backlog = Backlog(context.pool, context.workers)
        self._left_out: list[Future[Doubles]] = []
        self._left_out_known: Sequence[Doubles] = ()
        self.listeners: list[GramListener] = []
        self.wants_first = measure.searched

    def increments(self, tile: Tile) -> RowGrams:
        """As of `Accumulator`."""
        first = tile.first_gradients
        energies = np.asarray(sum(sums[:, INCREMENT] for sums in tile.sums))
        if not self._skip and first is not None:
            # With the first gradient in front, the increments' matrix is that of all gradients too.
            tile.values[:1] = first
            energies[0] = sum(sums[0, ENERGY] for sums in tile.sums)
        try:
            return self._products(tile, energies)
        finally:
            if not self._skip and first is not None:
                tile.values[:1] = 0.0

    def _products(self, tile: Tile, energies: Doubles) -> RowGrams:
        skip = self._skip
        if tile.rows - skip <= MOST_ROWS:
            gram: NDArray[Any] = few_rows_gram(tile.block.values, skip, tile.first, tile.last)
        else:
            gram = row_gram(tile.values[skip:], energies[skip:], self._single(tile))
        if len(tile.strips) == 1:
            return RowGrams(grams=[(tile.strips[0].tensor, 1, gram)])
        return RowGrams(
            total=gram,
            columns=[(strip.tensor, column_gram(tile.of(strip)[1:])) for strip in tile.strips],
            searched=[(s.tensor, row_gram(tile.of(s), energies, False)) for s in tile.strips]
            if self._measure.searched
            else (),
        )

    def _single(self, tile: Tile) -> bool:
        return tile.rows > SINGLE_MIN_INCREMENTS and is_large(tile, self._context) and not self._precise

    def merge(self, piece: RowGrams) -> None:
        """As of `Accumulator`."""
        if piece.total is not None and not self._alone:
            _add(piece.total, self._total)
        for tensor, gram in piece.columns:
            self._start(tensor, gram)
        for tensor, squares in piece.squares:
            self._known[tensor] = squares
        self._left_out_known = piece.left_out or self._left_out_known
        for tensor, gram in piece.searched:
            self._tell(tensor, gram)
        for tensor, strips, part in piece.grams:
            _add(part, self._open.setdefault(tensor, np.zeros((self._size, self._size))))
            self._missing[tensor] -= strips
            if not self._missing[tensor]:
                self._complete(tensor, self._open.pop(tensor))

    def _complete(self, tensor: int, gram: Doubles) -> None:
        if self._alone:
            self._tell_model(gram)
            self._leave_out(self._of_increments(gram))
        else:
            self._total += gram
        self._start(tensor, self._of_increments(gram))
        self._tell(tensor, gram)
        for listener in self.listeners:
            listener.take_increments(tensor, self._of_increments(gram))

    def _tell(self, tensor: int, gram: NDArray[Any]) -> None:
        for listener in self.listeners:
            if listener.of_every_tensor:
                listener.take_tensor(tensor, gram)

    def _tell_model(self, gram: Doubles) -> None:
        for listener in self.listeners:
            listener.take_model(gram, self._of_increments(gram))

    def _of_increments(self, gram: Doubles) -> Doubles:
        return gram if self._skip else gram[1:, 1:]

    def _start(self, tensor: int, gram: Doubles) -> None:
        """Find the eigenvalues in the pool; no more matrices wait there than the plan counted."""
        self._squares[tensor] = self._backlog.submit(squared_singular_values, gram)

    def _leave_out(self, gram: Doubles) -> None:
        """Find the whole model's eigenvalues without each stretch of increments in the pool.

        All matrices of the pass are added by then: no more are in work than the plan counted.
        """
        pool = self._context.pool
        self._left_out = [pool.submit(squares_without, gram, *each) for each in stretches(self._increments)]

    def _complete_squares(self) -> dict[int, Doubles]:
        """sigma_i^2 of the tensors that are complete, by number."""
        return self._known | {tensor: future.result() for tensor, future in self._squares.items()}

    def _squares_left_out(self) -> Sequence[Doubles]:
        return [future.result() for future in self._left_out] or self._left_out_known

    def state(self) -> State:
        """squares/T : sigma_i^2 of tensors that are whole here; gram/T : matrices of others.

        total : the sum of the matrices of those that are whole; left_out : (B, n) of the only tensor, where
        it is whole, sigma_i^2 without each stretch of increments, zeros behind
        """
        found: dict[str, NDArray[Any] | Symmetric] = {
            f"squares/{tensor}": squares for tensor, squares in sorted(self._complete_squares().items())
        }
        if found and not self._alone:
            found["total"] = Symmetric(self._total)
        found.update({f"gram/{tensor}": Symmetric(self._open[tensor]) for tensor in sorted(self._open)})
        spectra = self._squares_left_out()
        if spectra:
            table = np.zeros((len(spectra), max(map(len, spectra))))
            for row, squares in zip(table, spectra, strict=True):
                row[: squares.size] = squares
            found["left_out"] = table
        return found

    def pieces(self, state: PartState) -> Iterator[RowGrams]:
        """As of `Accumulator`: spectra that don't fit the part's sums, or the other parts, are refused."""
        totals = part_totals(state, len(self._context.names))
        energies = totals[:, INCREMENT]
        whole, cut = state.numbers("squares"), state.numbers("gram")
        twice = set(whole) & set(cut)
        if twice:
            raise TensorError("it holds both forms of the spectrum of tensor {}", min(twice))
        check_complete(totals, {*whole, *cut}, "spectrum")
        holds_total = state.has("total")
        if whole and not self._alone and not holds_total:
            raise ValueError("it holds no spectrum of the whole model")
        for tensor in (*whole, *cut):
            if tensor in self._known or tensor in self._squares:
                raise TensorError("it holds tensor {}, which is whole without it", tensor)
        squares = [(tensor, self._sound_squares(state, tensor, energies)) for tensor in whole]
        yield RowGrams(squares=squares, left_out=self._sound_left_out(state))
        for tensor in cut:
            gram = _PartGram(state, f"gram/{tensor}", float(energies[tensor]), 1 - self._skip)
            yield RowGrams(grams=[(tensor, state.strips(tensor), gram)])
        if holds_total:
            energy = float(energies[whole].sum())
            yield RowGrams(total=_PartGram(state, "total", energy, 1 - self._skip))

    def _sound_squares(self, state: PartState, tensor: int, energies: Doubles) -> Doubles:
        name = f"squares/{tensor}"
        if tensor in self._open:
            raise ValueError(f"it holds {name}.npy whole, and another part a piece of it")
        squares = state.array(name, (-1,))
        parameters = self._context.parameters[tensor]
        sizes = (self._increments, min(self._increments, parameters))
        sound = squares.size in sizes and bool((squares >= 0).all()) and not (np.diff(squares) > 0).any()
        if not sound or not adds_up(float(squares.sum()), float(energies[tensor])):
            raise ValueError(f"{name}.npy does not fit totals.npy")
        return squares

    def _sound_left_out(self, state: PartState) -> list[Doubles]:
        if not state.has("left_out"):
            return []
        sizes = [self._increments - (last - first) for first, last in stretches(self._increments)]
        spectra = state.array("left_out", (len(sizes), max(sizes, default=0)))
        sound = bool((np.isfinite(spectra) & (spectra >= 0)).all()) and not (np.diff(spectra) > 0).any()
        if not sound or not self._alone:
            raise ValueError("left_out.npy does not fit the spectrum")
        return [squares[:size] for squares, size in zip(spectra, sizes, strict=True)]

    def result(self) -> Spectra:
        """Raises TensorError where a tensor is not complete."""
        for tensor, width in enumerate(self._context.parameters):
            if width and tensor not in self._squares and tensor not in self._known:
                raise TensorError("no part holds the spectrum of tensor {}", tensor)
        found = self._complete_squares()
        if self._alone:
            (total,) = found.values()
        else:
            self._tell_model(self._total)
            self._leave_out(self._of_increments(self._total))
            total = squared_singular_values(self._of_increments(self._total))
        parameters = self._context.parameters
        return Spectra(
            self._finished(total, sum(parameters), self._squares_left_out()),
            [self._finished(found.get(t, np.zeros(0)), width) for t, width in enumerate(parameters)],
        )

    def _finished(self, squares: Doubles, parameters: int, left_out: Sequence[Doubles] = ()) -> Spectrum:
        return finished(squares, self._increments, parameters, self._measure.epsilons, left_out)


class ColumnGramSum(Accumulator[Any]):
    """The matrix of all columns, whose blocks on the diagonal are those of the tensors."""

    def __init__(self, measure: ExactOverColumns, context: PassContext) -> None:
        self._measure = measure
        self._context = context
        self._increments = max(0, context.rows - 1)
        self._gram = np.zeros((sum(context.parameters),) * 2)
        self._taken = False

    def increments(self, tile: Tile) -> Doubles:
        """(D, D): of all columns."""
        return column_gram(tile.values)

    def merge(self, piece: NDArray[Any] | _PartGram) -> None:
        """As of `Accumulator`."""
        self._taken = True
        _add(piece, self._gram)

    def state(self) -> State:
        """gram : of all columns, in the part that holds them"""
        return {"gram": Symmetric(self._gram)} if self._taken else {}

    def pieces(self, state: PartState) -> Iterator[_PartGram]:
        """As of `Accumulator`."""
        totals = part_totals(state, len(self._context.names))
        if state.has("gram"):
            yield _PartGram(state, "gram", float(totals[:, INCREMENT].sum()))
        else:
            check_complete(totals, (), "spectrum")

    def result(self) -> Spectra:
        """Raises TensorError where there is none."""
        parameters = self._context.parameters
        if not self._taken and any(parameters):
            first = next(tensor for tensor, width in enumerate(parameters) if width)
            raise TensorError("no part holds the spectrum of tensor {}", first)
        stops = np.cumsum(parameters, dtype=np.int64).tolist()
        blocks = [slice(stop - width, stop) for stop, width in zip(stops, parameters, strict=True)]
        each = list(self._context.pool.map(lambda at: squared_singular_values(self._gram[at, at]), blocks))
        total = squared_singular_values(self._gram)
        return Spectra(
            self._finished(total, sum(parameters)),
            [self._finished(squares, width) for squares, width in zip(each, parameters, strict=True)],
        )

    def squares_of(self, tensors: Sequence[int]) -> Doubles:
        """sigma_i^2, descending, of some tensors together."""
        stops = np.cumsum(self._context.parameters, dtype=np.int64)
        columns = np.concatenate(
            [np.arange(stops[t] - self._context.parameters[t], stops[t]) for t in tensors]
        )
        return squared_singular_values(self._gram[np.ix_(columns, columns)])

    def _finished(self, squares: Doubles, parameters: int) -> Spectrum:
        return finished(squares, self._increments, parameters, self._measure.epsilons)


def finished(
    squares: Doubles,
    increments: int,
    parameters: int,
    epsilons: Sequence[float],
    left_out: Sequence[Doubles] = (),
) -> Spectrum:
    """The spectrum of a scope: a matrix of the larger side has zeros behind the rank that it can have."""
    return ExactEigenvalues(squares[: min(increments, parameters)], epsilons, left_out)


def is_large(tile: Tile, context: PassContext) -> bool:
    """Whether products over a tensor's columns may be formed in float32, with checks."""
    return len(tile.strips) == 1 and context.parameters[tile.strips[0].tensor] >= SINGLE_MIN_PARAMETERS
