"""Read the blocks of a plan ahead of their use, in threads of its own, into a few reused buffers."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..logs.log import GIVE_UP_SECONDS, Tensor
from .block import Block
from .parameter_range import ParameterRange, Segment
from .plan import Plan

WAITING_TOGETHER = 16
"""Small tensors whose chunks are waited for together."""
BLOCKS_WAITING = 2
"""Blocks that are read together where chunks are waited for: the first answers of one come with another's."""


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
        self._ready: queue.SimpleQueue[Future[Block] | BaseException | None] = queue.SimpleQueue()
        waits = any(tensor.waiting_bytes for tensor in tensors)
        self._together = min(BLOCKS_WAITING if waits else 1, plan.buffers)
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
        while self._thread.is_alive():
            for tensor in self._tensors:
                tensor.give_up()
            self._thread.join(GIVE_UP_SECONDS)

    def __iter__(self) -> Iterator[Block]:
        while True:
            item = self._ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item.result()

    def release(self, block: Block) -> None:
        """Give the block's memory back to the reader."""
        self._free.put(block.buffer)

    def _run(self) -> None:
        pool = ThreadPoolExecutor(self._together, thread_name_prefix="gradmf-reading")
        try:
            for index, item in enumerate(self._plan.ranges):
                start = 0
                for rows in item.row_blocks:
                    buffer = self._free.get()
                    if buffer is None or self._stop.is_set():
                        return
                    self._ready.put(pool.submit(self._read_in_turn, index, item, rows, start, buffer))
                    start += self._kept(rows)
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)
        finally:
            pool.shutdown(cancel_futures=self._stop.is_set())

    def _kept(self, rows: tuple[int, int]) -> int:
        """Rows of a block that are not left out."""
        return rows[1] - rows[0] if self._keep is None else int(self._keep[self._inside(rows)].sum())

    def _inside(self, rows: tuple[int, int]) -> slice:
        return slice(rows[0] - self._plan.rows[0], rows[1] - self._plan.rows[0])

    def _read_in_turn(
        self, index: int, item: ParameterRange, rows: tuple[int, int], start: int, buffer: NDArray[np.uint8]
    ) -> Block:
        with self._turn:
            return self._read(index, item, rows, start, buffer)

    def _read(
        self, index: int, item: ParameterRange, rows: tuple[int, int], start: int, buffer: NDArray[np.uint8]
    ) -> Block:
        dtypes = {self._tensors[segment.tensor].compute_dtype for segment in item.segments}
        dtype = max(dtypes, key=lambda d: d.itemsize)
        count = rows[1] - rows[0]
        values = buffer[: count * item.width * dtype.itemsize].view(dtype).reshape(count, item.width)
        stored = 0
        pieces = []
        for segment, first, last in item.columns():
            tensor = self._tensors[segment.tensor]
            pieces.append((tensor, segment, rows, values[:, first:last]))
            stored += item.decodes * count * segment.width * tensor.entry_bytes
        if len(pieces) > 1 and any(tensor.waiting_bytes for tensor, *_ in pieces):
            with ThreadPoolExecutor(WAITING_TOGETHER, thread_name_prefix="gradmf-segment") as pool:
                for _ in pool.map(lambda piece: self._read_segment(*piece), pieces):
                    pass
        else:
            for piece in pieces:
                self._read_segment(*piece)
        if self._keep is not None and (kept := self._kept(rows)) < count:
            values[:kept] = values[self._keep[self._inside(rows)]]
            values = values[:kept]
        return Block(index, item, start, rows == item.row_blocks[-1], values, stored, buffer)

    def _read_segment(
        self, tensor: Tensor, segment: Segment, rows: tuple[int, int], out: NDArray[Any]
    ) -> None:
        try:
            tensor.read(rows, segment.box, out, self._plan.decoding_bytes // self._together)
        except DataError as error:
            raise DataError(f"{self._path}: {error}") from error
