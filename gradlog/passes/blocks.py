"""Read the blocks of a plan ahead of their use, in a thread of its own, into a few reused buffers."""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype

from ...kernels.bfloat16 import widen
from ..errors import DataError
from ..logs.inventory import grid_shape
from ..logs.log import Tensor
from ..logs.ranges import ParameterRange, Segment, chunk_spans, decoding_bytes
from ..logs.store import first_line
from ..plans.plan import Plan
from ..sizes import extents


@dataclass
class Block:
    """One block: `values` (T, W) float32 or float64 in C order, the kept rows of `range`'s columns.

    start : index t of its first row; last : no later block has these columns
    """

    range_index: int
    range: ParameterRange
    start: int
    last: bool
    values: NDArray[Any]
    stored_bytes: int
    buffer: NDArray[np.uint8]


class BlockReader:
    """Iterate over a plan's blocks while a thread reads ahead; a context manager that ends the thread.

    Every block must be given back with `release` once nothing uses its values any more.
    """

    def __init__(
        self,
        path: str,
        tensors: Sequence[Tensor],
        plan: Plan,
        keep: NDArray[np.bool_] | None,
        turn: threading.Lock | None = None,
    ) -> None:
        """keep : (rows,) bool over the plan's rows, False for rows that are left out; None keeps all.

        turn : held while a block is decoded, by readers that share what that takes
        """
        self._turn = contextlib.nullcontext() if turn is None else turn
        self._path = path
        self._tensors = tensors
        self._plan = plan
        self._keep = keep
        self._free: queue.SimpleQueue[NDArray[np.uint8] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Block | BaseException | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        for _ in range(plan.buffers):
            self._free.put(np.empty(plan.block_bytes, np.uint8))
        self._thread = threading.Thread(target=self._run, name="gradmf-reader", daemon=True)

    def __enter__(self) -> BlockReader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._free.put(None)
        self._thread.join()

    def __iter__(self) -> Iterator[Block]:
        while True:
            item = self._ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def release(self, block: Block) -> None:
        """Give the block's memory back to the reader."""
        self._free.put(block.buffer)

    def _run(self) -> None:
        try:
            for index, item in enumerate(self._plan.ranges):
                start = 0
                for rows in item.row_blocks:
                    buffer = self._free.get()
                    if buffer is None or self._stop.is_set():
                        return
                    with self._turn:
                        block = self._read(index, item, rows, start, buffer)
                    start += block.values.shape[0]
                    self._ready.put(block)
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def _read(
        self, index: int, item: ParameterRange, rows: tuple[int, int], start: int, buffer: NDArray[np.uint8]
    ) -> Block:
        dtypes = {self._tensors[segment.tensor].compute_dtype for segment in item.segments}
        dtype = max(dtypes, key=lambda d: d.itemsize)
        count = rows[1] - rows[0]
        values = buffer[: count * item.width * dtype.itemsize].view(dtype).reshape(count, item.width)
        stored = 0
        for segment, first, last in item.columns():
            tensor = self._tensors[segment.tensor]
            self._read_segment(tensor, segment, rows, values[:, first:last])
            stored += item.decodes * count * segment.width * tensor.array.dtype.itemsize
        if self._keep is not None:
            offset = self._plan.rows[0]
            keep = self._keep[rows[0] - offset : rows[1] - offset]
            kept = int(keep.sum())
            if kept < count:
                values[:kept] = values[keep]
                values = values[:kept]
        return Block(index, item, start, rows == item.row_blocks[-1], values, stored, buffer)

    def _read_segment(
        self, tensor: Tensor, segment: Segment, rows: tuple[int, int], out: NDArray[Any]
    ) -> None:
        try:
            for array, first, last in _readers(tensor, segment, rows):
                for span in _spans(tensor, segment, (first, last), self._plan.decoding_bytes):
                    _read_rows(array, tensor, segment, span, out[span[0] - rows[0] : span[1] - rows[0]])
        except MemoryError:
            raise
        except Exception as error:
            raise self._decoding_error(tensor, segment, rows, error) from error

    def _decoding_error(
        self, tensor: Tensor, segment: Segment, rows: tuple[int, int], error: Exception
    ) -> DataError:
        """Name the first chunk of the segment that cannot be decoded, by decoding them one at a time."""
        array = tensor.plain
        for chunk in itertools.product(*chunk_spans((slice(*rows), *segment.box), tensor.chunks)):
            where = tuple(
                slice(c * size, min((c + 1) * size, extent))
                for c, size, extent in zip(chunk, tensor.chunks, array.shape, strict=True)
            )
            try:
                array.get_basic_selection(where)
            except Exception as found:
                height = tensor.chunks[0]
                last = min((chunk[0] + 1) * height, array.shape[0]) - 1
                grid = extents(grid_shape(array.shape, tensor.chunks))
                return DataError(
                    f"{self._path}: tensor '{tensor.name}': chunk {'/'.join(map(str, chunk))} of grid {grid} "
                    f"(rows {chunk[0] * height}-{last}) cannot be decoded: {first_line(found)}; "
                    "restore it, or leave the tensor or the rows out with --exclude or --rows"
                )
        return DataError(f"{self._path}: tensor '{tensor.name}': reading failed: {first_line(error)}")


def _readers(
    tensor: Tensor, segment: Segment, rows: tuple[int, int]
) -> list[tuple[zarr.Array[Any], int, int]]:
    """Which array to read which rows with: zarr-python where zarrs would pass over checksums."""
    first, last = rows
    if not tensor.array.dtype.isnative:
        return [(tensor.plain, first, last)]
    if not tensor.checked or tensor.reader == "zarr-python":
        return [(tensor.array, first, last)]
    whole_box = all(
        part.start % size == 0 and part.stop % size == 0
        for part, size in zip(segment.box, tensor.chunks[1:], strict=True)
    )
    height = tensor.chunks[0]
    start, stop = -(-first // height) * height, last // height * height
    if not whole_box or start >= stop:
        return [(tensor.plain, first, last)]
    spans = [(tensor.plain, first, start), (tensor.array, start, stop), (tensor.plain, stop, last)]
    return [span for span in spans if span[1] < span[2]]


def _spans(tensor: Tensor, segment: Segment, rows: tuple[int, int], room: int) -> Iterator[tuple[int, int]]:
    """Rows to read at once, along the chunk grid, so that chunks in decoding stay within `room` bytes.

    zarrs keeps every chunk that it reads in part until the call returns.
    """
    across = math.prod(map(len, chunk_spans(segment.box, tensor.chunks[1:])))
    step = tensor.chunks[0] * max(1, room // max(1, across * decoding_bytes(tensor)))
    borders = [rows[0], *range(rows[0] // step * step + step, rows[1], step), rows[1]]
    return itertools.pairwise(borders)


def _read_rows(
    array: zarr.Array[Any], tensor: Tensor, segment: Segment, rows: tuple[int, int], out: NDArray[Any]
) -> None:
    selection = (slice(*rows), *segment.box)
    if out.flags.c_contiguous and array.dtype == out.dtype:
        shape = (rows[1] - rows[0], *segment.shape)
        target = default_buffer_prototype().nd_buffer.from_numpy_array(out.reshape(shape))
        array.get_basic_selection(selection, out=target)
        return
    values = np.asarray(array.get_basic_selection(selection))
    if tensor.dtype == "bfloat16":
        values = widen(values)
    out[...] = values.reshape(out.shape)
