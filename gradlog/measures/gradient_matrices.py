"""Spectra of gradient matrices: of tensors taken as matrices, at sampled rows, each beside the one before.

Rows are copied out of each block before it is worked on, so that no chunk is decoded again. How many rows a
tensor gives follows from what it costs: all spectra together stay at about a tenth of the pass's own work,
and the matrices within their share of memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.matrix_spectrum import spectra_of_rows
from ..engine.backlog import Backlog
from ..engine.block import Block
from ..engine.measure import Accumulator, Measure, PassContext
from ..engine.request import PassShape
from ..engine.state import PartState, State
from ..logs.log import Tensor
from ..quick_dataclass import dataclass
from ..results.samples import MatrixSpectra, matrix_shape

Doubles = NDArray[np.float64]

NAME = "gradient_matrices"
MOST_SAMPLES = 16
WORK_SHARE = 16.0
"""Floating-point operations of sampled spectra for each logged number: a tenth of what the pass takes."""
LEAST_WORK = 1e8
"""Operations that are always affordable: hundredths of a second."""
MEMORY_SHARE = 8
"""Sampled matrices may take this part of the memory."""
TOO_MUCH_WORK = "its spectra cost too much beside the pass: give --samples K"
TOO_LARGE = "its matrices take too much memory: give more --memory"
REASONS = (TOO_MUCH_WORK, TOO_LARGE)


@dataclass(frozen=True)
class SampledMatrices:
    """Of each tensor that has any, by name; reasons : why others have none."""

    spectra: Mapping[str, MatrixSpectra]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class GradientMatrices(Measure):
    """asked : rows to sample, whatever their work; None for what is affordable. memory : of the pass"""

    name = NAME
    asked: int | None
    memory: int

    def kept_bytes(self, shape: PassShape) -> int:
        """As of `Measure`."""
        return reserved_bytes(shape.tensors, shape.rows, self.memory, self.asked)

    def start(self, context: PassContext) -> MatrixSamples:
        """As of `Measure`."""
        room = reserved_bytes(context.tensors, context.rows, self.memory, self.asked)
        whole = context.in_one_range
        sizes = sample_sizes(context.tensors, context.rows, whole_rows=whole, room=room, asked=self.asked)
        here = {segment.tensor for item in context.ranges for segment in item.segments}
        return MatrixSamples({tensor: size for tensor, size in sizes.items() if tensor in here}, context)


def reserved_bytes(tensors: Sequence[Tensor], rows: int, memory: int, asked: int | None) -> int:
    """Bytes to keep for sampled matrices, at most an eighth of `memory`. asked : as of `sample_sizes`"""
    matrices = [(t.parameters * t.compute_dtype.itemsize, shape) for t in tensors if (shape := _matrix(t))]
    samples = 3 * min(rows, asked or MOST_SAMPLES) * sum(size for size, _ in matrices)
    return min(
        memory // MEMORY_SHARE, samples + max((_gram_bytes(shape) for _, shape in matrices), default=0)
    )


def sample_sizes(
    tensors: Sequence[Tensor], rows: int, *, whole_rows: bool, room: int, asked: int | None
) -> dict[int, int | str]:
    """For each matrix among the tensors, by number: rows to sample, or why there are none.

    whole_rows : a block holds all tensors, so that all their matrices are open together
    room : bytes; asked : rows that the user asked for, whatever their work
    """
    shapes = {at: shape for at, t in enumerate(tensors) if (shape := _matrix(t)) is not None}
    work = sum(_operations(shape) for shape in shapes.values())
    logged = float(rows) * sum(t.parameters for t in tensors)
    affordable = int(min(MOST_SAMPLES, max(WORK_SHARE * logged, LEAST_WORK) / work)) if work else 0
    most = min(rows, affordable if asked is None else asked)
    sizes: dict[int, int | str] = {}
    together = sum(tensors[at].parameters * tensors[at].compute_dtype.itemsize for at in shapes)
    for at, shape in shapes.items():
        alone = 3 * tensors[at].parameters * tensors[at].compute_dtype.itemsize
        fits = (room - _gram_bytes(shape)) // (together if whole_rows else alone)
        size = min(most, max(0, fits))
        sizes[at] = size or (TOO_MUCH_WORK if most == 0 else TOO_LARGE)
    return sizes


def _matrix(tensor: Tensor) -> tuple[int, int] | None:
    """The shape of a tensor taken as a matrix; None for vectors, and for sums that a sketch holds instead."""
    return None if tensor.made_of else matrix_shape(tensor.shape)


def _gram_bytes(shape: tuple[int, int]) -> int:
    """Of the Gram matrix of the smaller side, eigenvectors of two rows, and what LAPACK takes."""
    return 48 * min(shape) ** 2


def _operations(shape: tuple[int, int]) -> float:
    """Of one spectrum: the Gram matrix of the smaller side, its eigenvectors, their product with the next."""
    small, large = sorted(map(float, shape))
    return 2 * small**2 * large + 30 * small**3


Spans = tuple[tuple[int, int], ...]
"""(first, last + 1) along each axis of a tensor: a box of its entries."""


@dataclass(frozen=True)
class SampledTensor:
    """Rows of a tensor that was sampled, or what came of them.

    shape : of the tensor
    boxes, values : those of its entries that are here, (k, entries) of all boxes one after another
    spectra : as of `spectra_of_rows`, where all of it was here
    reason : why there are none, "" where there are
    """

    tensor: int
    shape: tuple[int, ...] = ()
    boxes: Sequence[Spans] = ()
    values: NDArray[Any] | None = None
    spectra: tuple[Doubles, Doubles] | None = None
    reason: str = ""


class MatrixSamples(Accumulator[SampledTensor]):
    """Copies sampled rows of the tensors of a pass. sizes : as of `sample_sizes`"""

    def __init__(self, sizes: Mapping[int, int | str], context: PassContext) -> None:
        self._sizes = sizes
        self._context = context
        self._reasons = {tensor: size for tensor, size in sizes.items() if isinstance(size, str)}
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._open: dict[int, _Matrices] = {}
        self._backlog = Backlog(context.pool, 2)
        self._pending: dict[int, Future[tuple[Doubles, Doubles]]] = {}
        self._known: dict[int, tuple[Doubles, Doubles]] = {}  # of states that were taken in

    def begin_block(self, block: Block) -> None:
        """As of `Accumulator`: spectra start as soon as a tensor's matrices are whole."""
        stop = block.start + block.values.shape[0]
        for segment, first, last in block.range.columns():
            size = self._sizes.get(segment.tensor)
            if not isinstance(size, int):
                continue
            wanted = sampled_rows(self._context.rows, size)
            inside = np.flatnonzero((wanted >= block.start) & (wanted < stop))
            if not inside.size:
                continue
            tensor = self._context.tensors[segment.tensor]
            held = self._matrices(segment.tensor, size, tensor.shape, tensor.compute_dtype)
            for at in inside:
                row = block.values[wanted[at] - block.start, first:last]
                held.values[at][segment.box] = row.reshape(segment.shape)
            held.boxes[tuple((part.start, part.stop) for part in segment.box)] = None
            self._taken(segment.tensor, inside.size * segment.width)

    def _matrices(self, tensor: int, size: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Matrices:
        """Room for the sampled rows of a tensor."""
        if tensor not in self._open:
            values = np.empty((size, *shape), dtype)
            self._open[tensor] = _Matrices(values, values.size)
            self._shapes[tensor] = shape
        return self._open[tensor]

    def _taken(self, tensor: int, entries: int) -> None:
        """Count entries as there, and start where all are."""
        held = self._open[tensor]
        held.missing -= entries
        if held.missing:
            return
        del self._open[tensor]
        matrices = held.values.reshape(held.values.shape[0], *self._shape(tensor))
        self._pending[tensor] = self._backlog.submit(spectra_of_rows, matrices)

    def _shape(self, tensor: int) -> tuple[int, int]:
        shape = matrix_shape(self._shapes[tensor])
        assert shape is not None
        return shape

    def merge(self, piece: SampledTensor) -> None:
        """As of `Accumulator`: of states alone, for rows are taken from blocks."""
        tensor = piece.tensor
        if piece.reason:
            self._reasons[tensor] = piece.reason
        elif piece.spectra is not None:
            self._shapes[tensor], self._known[tensor] = piece.shape, piece.spectra
        elif piece.values is not None:
            held = self._matrices(tensor, piece.values.shape[0], piece.shape, piece.values.dtype)
            last = 0
            for span in piece.boxes:
                first, last = last, last + _entries(span)
                part = piece.values[:, first:last].reshape(-1, *(stop - start for start, stop in span))
                held.values[_all_rows(span)] = part
                held.boxes[span] = None
            self._taken(tensor, piece.values.size)

    def _spectra(self) -> dict[int, tuple[Doubles, Doubles]]:
        """As of `spectra_of_rows`, by tensor."""
        found = self._known | {tensor: future.result() for tensor, future in self._pending.items()}
        return dict(sorted(found.items()))

    def state(self) -> State:
        """squares/T, held/T : of tensors that are whole here, as of `spectra_of_rows`

        boxes/T, values/T : (n, 2 axes) and (k, entries) of others; shapes/T : of either
        reasons/T : (1,) place in REASONS, of those that are not sampled
        """
        found: dict[str, NDArray[Any]] = {}
        for tensor, (squares, held) in self._spectra().items():
            found |= {f"squares/{tensor}": squares, f"held/{tensor}": held}
        for tensor, each in sorted(self._open.items()):
            parts = [each.values[_all_rows(span)].reshape(len(each.values), -1) for span in each.boxes]
            found[f"boxes/{tensor}"] = np.array(list(each.boxes), dtype=np.float64).reshape(len(parts), -1)
            found[f"values/{tensor}"] = np.concatenate(parts, axis=1, dtype=np.float64)
        for tensor, shape in sorted(self._shapes.items()):
            found[f"shapes/{tensor}"] = np.array(shape, dtype=np.float64)
        for tensor, why in sorted(self._reasons.items()):
            found[f"reasons/{tensor}"] = np.array([REASONS.index(why)], dtype=np.float64)
        return found

    def pieces(self, state: PartState) -> Iterator[SampledTensor]:
        """As of `Accumulator`."""
        for tensor in state.numbers("reasons"):
            place = int(state.array(f"reasons/{tensor}", (1,))[0])
            if place not in range(len(REASONS)):
                raise ValueError(f"{NAME}/reasons/{tensor}.npy is no reason")
            yield SampledTensor(tensor, reason=REASONS[place])
        for tensor in state.numbers("squares"):
            shape = self._sound_shape(state, tensor)
            squares = state.array(f"squares/{tensor}", (-1, min(matrix_shape(shape) or (0,))))
            held = state.array(f"held/{tensor}", (max(0, len(squares) - 1), squares.shape[1]))
            yield SampledTensor(tensor, shape, spectra=(squares, held))
        for tensor in state.numbers("values"):
            shape = self._sound_shape(state, tensor)
            values = state.array(f"values/{tensor}", (-1, -1))
            corners = state.array(f"boxes/{tensor}", (-1, 2 * len(shape))).astype(np.int64)
            boxes = [tuple(zip(row[::2], row[1::2], strict=True)) for row in corners.tolist()]
            inside = all(
                0 <= a < b <= extent for span in boxes for (a, b), extent in zip(span, shape, strict=True)
            )
            if not inside or values.shape[1] != sum(map(_entries, boxes)):
                raise ValueError(f"{NAME}/boxes/{tensor}.npy does not fit its values")
            yield SampledTensor(tensor, shape, boxes, values)

    def _sound_shape(self, state: PartState, tensor: int) -> tuple[int, ...]:
        shape = tuple(map(int, state.array(f"shapes/{tensor}", (-1,)).tolist()))
        if math.prod(shape) != self._context.parameters[tensor] or matrix_shape(shape) is None:
            raise ValueError(f"{NAME}/shapes/{tensor}.npy is of another tensor")
        return shape

    def result(self) -> SampledMatrices:
        """As of `Accumulator`."""
        names, found = self._context.names, {}
        for at, (squares, held) in self._spectra().items():
            rows = sampled_rows(self._context.rows, squares.shape[0])
            found[names[at]] = MatrixSpectra(self._shape(at), rows, squares, held)
        reasons = {names[at]: why for at, why in sorted(self._reasons.items())}
        return SampledMatrices(found, reasons)


@dataclass
class _Matrices:
    """(k, *shape) of a tensor that is still being read. missing : entries that are not there yet

    boxes : of those that are
    """

    values: NDArray[Any]
    missing: int
    boxes: dict[Spans, None] = field(default_factory=dict)


def _entries(span: Spans) -> int:
    return math.prod(stop - start for start, stop in span)


def _all_rows(span: Spans) -> tuple[slice, ...]:
    """Of (k, *shape) the entries of a box, in all of the k rows."""
    return (slice(None), *(slice(start, stop) for start, stop in span))


def sampled_rows(rows: int, size: int) -> NDArray[np.int64]:
    """(size,) rows in the middles of as many equal parts of the run. size : at most `rows`"""
    return (2 * np.arange(size, dtype=np.int64) + 1) * rows // (2 * size)
