"""Spectra of gradient matrices: of tensors taken as matrices, at sampled rows, each beside the one before.

Rows are copied out of each block before it is worked on, so that no chunk is decoded again. How many rows a
tensor gives follows from what it costs: all spectra together stay at about a tenth of the pass's own work,
and the matrices within their share of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.matrix_spectrum import spectra_of_rows
from ..engine.block import Block
from ..engine.measure import Accumulator, Measure, PassContext
from ..engine.request import PassShape
from ..logs.log import Tensor
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
        whole = len(context.ranges) == 1
        sizes = sample_sizes(context.tensors, context.rows, whole_rows=whole, room=room, asked=self.asked)
        return MatrixSamples(sizes, context)


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


class MatrixSamples(Accumulator[None]):
    """Copies sampled rows. sizes : as of `sample_sizes`"""

    def __init__(self, sizes: Mapping[int, int | str], context: PassContext) -> None:
        self._sizes = sizes
        self._context = context
        self._open: dict[int, _Matrices] = {}
        self._pending: dict[int, Future[tuple[Doubles, Doubles]]] = {}

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
            if segment.tensor not in self._open:
                values = np.empty((size, *tensor.shape), tensor.compute_dtype)
                self._open[segment.tensor] = _Matrices(values, values.size)
            held = self._open[segment.tensor]
            for at in inside:
                row = block.values[wanted[at] - block.start, first:last]
                held.values[at][segment.box] = row.reshape(segment.shape)
            held.missing -= inside.size * segment.width
            if not held.missing:
                del self._open[segment.tensor]
                self._start(segment.tensor, held.values)

    def _start(self, tensor: int, values: NDArray[Any]) -> None:
        waiting = [future for future in self._pending.values() if not future.done()]
        if len(waiting) >= 2:
            waiting[0].result()
        matrices = values.reshape(values.shape[0], *self._shape(tensor))
        self._pending[tensor] = self._context.pool.submit(spectra_of_rows, matrices)

    def _shape(self, tensor: int) -> tuple[int, int]:
        shape = matrix_shape(self._context.tensors[tensor].shape)
        assert shape is not None
        return shape

    def merge(self, piece: None) -> None:
        """There are none: rows are taken from blocks."""

    def result(self) -> SampledMatrices:
        """As of `Accumulator`."""
        names, found = self._context.names, {}
        for at, future in self._pending.items():
            squares, held = future.result()
            rows = sampled_rows(self._context.rows, squares.shape[0])
            found[names[at]] = MatrixSpectra(self._shape(at), rows, squares, held)
        reasons = {names[at]: why for at, why in self._sizes.items() if isinstance(why, str)}
        return SampledMatrices(found, reasons)


@dataclass
class _Matrices:
    """(k, *shape) of a tensor that is still being read. missing : entries that are not there yet"""

    values: NDArray[Any]
    missing: int


def sampled_rows(rows: int, size: int) -> NDArray[np.int64]:
    """(size,) rows in the middles of as many equal parts of the run. size : at most `rows`"""
    return (2 * np.arange(size, dtype=np.int64) + 1) * rows // (2 * size)
