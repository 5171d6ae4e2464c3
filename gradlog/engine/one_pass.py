"""One pass over a plan's blocks: tiles in a pool of threads, their pieces merged in the order of the plan.

Threads decide only when a tile is computed. What is added to what, and in which order, follows from the
plan, so that any number of threads gives the same bits.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.fused_pass import compile_fused_pass
from ...kernels.pass_layout import NONFINITE
from ...kernels.short_gram import compile_short_gram
from ..quick_dataclass import dataclass
from .block import Block
from .blocks import BlockReader
from .measure import Accumulator, Measure, PassContext, takes
from .pass_work import PassWork
from .state import State
from .tile import OpenBlocks, RowSums, Tile

if TYPE_CHECKING:
    from ..progress import Progress

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class NonfiniteRow:
    """`count` entries of a tensor's row `row` (index t of the pass) are NaN or infinite."""

    tensor: int
    row: int
    count: int


@dataclass(frozen=True)
class Gathered:
    """What a pass, or the parts of one, gathered.

    results : of each measure, by name; none where entries are not finite
    states : of each measure, instead, where a part alone was taken
    """

    results: Mapping[str, Any] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    nonfinite: Sequence[NonfiniteRow] = ()


def compile_kernels(dtypes: Iterable[np.dtype[np.floating[Any]]]) -> None:
    """Load what a pass in these types calls, or compile it if this is the first time."""
    for dtype in sorted(set(dtypes), key=str):
        compile_fused_pass(dtype)
        compile_short_gram(dtype)


def start_all(measures: Sequence[Measure], context: PassContext) -> dict[str, Accumulator[Any]]:
    """Accumulators of all measures, by name, each of which knows of those before it."""
    started: dict[str, Accumulator[Any]] = {}
    for measure in measures:
        started[measure.name] = measure.start(context.with_started(started))
    return started


def run_pass(reader: BlockReader, work: PassWork, progress: Progress | None = None) -> Gathered:
    """Take every block of the reader once, and gather what the measures of the plan ask for.

    progress : called with (bytes done, bytes in all), from the calling thread

    Raises what the reader raises, and OverflowError where products don't fit into their type.
    """
    compile_kernels(tensor.compute_dtype for tensor in work.tensors)
    plan = work.plan
    with WorkPool(plan.workers, "gradmf-compute") as pool:
        context = PassContext(
            names=[tensor.name for tensor in work.tensors],
            parameters=[tensor.parameters for tensor in work.tensors],
            rows=work.rows,
            strips=plan.strips if work.strips is None else work.strips,
            pool=pool,
            workers=plan.workers,
            ranges=plan.ranges,
            tensors=work.tensors,
            sink=work.sink,
        )
        accumulators = start_all(plan.measures, context)
        try:
            nonfinite = _Pass(reader, work, list(accumulators.values()), pool, progress).take_all()
            if nonfinite:
                return Gathered(nonfinite=nonfinite)
            if work.strips is not None:
                return Gathered(states={name: each.state() for name, each in accumulators.items()})
            return Gathered(results={name: each.result() for name, each in accumulators.items()})
        finally:
            for each in accumulators.values():
                each.close()


class WorkPool(ThreadPoolExecutor):
    """Threads whose tasks are dropped where the work in the `with` statement fails."""

    def __init__(self, workers: int, name: str) -> None:
        super().__init__(workers, thread_name_prefix=name)

    def __exit__(self, *error: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Taken:
    """A tile, and the pieces that accumulators made of it, by their numbers."""

    tile: Tile
    pieces: Sequence[tuple[int, Any]]


class _Pass:
    """The tiles that are in work, and what becomes of them."""

    def __init__(
        self,
        reader: BlockReader,
        work: PassWork,
        accumulators: Sequence[Accumulator[Any]],
        pool: ThreadPoolExecutor,
        progress: Progress | None,
    ) -> None:
        self._reader = reader
        self._work = work
        self._accumulators = accumulators
        self._taking = accumulators
        self._pool = pool
        self._progress = progress
        self._holds = work.plan.holds_blocks
        self._gradients, self._row_sums, self._increments = (
            [(number, getattr(a, hook)) for number, a in enumerate(accumulators) if takes(a, hook)]
            for hook in ("gradients", "row_sums", "increments")
        )
        self._wants_first = any(a.wants_first for a in accumulators)
        self._sums = RowSums(work.bank, increments=bool(self._increments) or self._holds)
        self._open = OpenBlocks()
        self._waiting: collections.deque[Future[_Taken]] = collections.deque()
        self._latest: dict[tuple[int, int], Future[_Taken]] = {}
        self._done = 0
        self._nonfinite: list[NonfiniteRow] = []

    def take_all(self) -> list[NonfiniteRow]:
        """Take every block; what was found not to be finite."""
        before: tuple[Block, list[Doubles]] | None = None
        for block in self._reader:
            for accumulator in self._taking:
                accumulator.begin_block(block)
            self._submit(block)
            if not self._holds:
                continue
            # With two buffers only, nothing could be read while two blocks are in work.
            late = self._work.plan.buffers > 2
            if late and before is not None:
                self._end_held(*before)
            before = block, [sums for tile in self._merged() for sums in tile.sums]
            if not late:
                self._end_held(*before)
                before = None
        if before is not None:
            self._end_held(*before)
        for _ in self._merged():
            pass
        return self._nonfinite

    def _submit(self, block: Block) -> None:
        """Start the tiles of a block: the same columns of the block of rows before it come first.

        The pool starts tasks in the order they come in, so that the one waited for is never behind.
        """
        weights = self._sums.weights(block)
        for tile in self._open.tiles(block):
            while not self._holds and self._waiting and not self._has_room(block):
                self._merge_next()
            taking = self._taking
            for accumulator in taking:
                accumulator.enter(tile)
            before = self._latest.pop(tile.key, None)
            future = self._pool.submit(self._run, tile, weights, before, taking)
            if not block.last:
                self._latest[tile.key] = future
            self._waiting.append(future)

    def _has_room(self, block: Block) -> bool:
        few = len(self._waiting) <= self._work.plan.workers
        return few and all(accumulator.admits(block) for accumulator in self._taking)

    def _run(
        self,
        tile: Tile,
        weights: Doubles,
        before: Future[_Taken] | None,
        taking: Sequence[Accumulator[Any]],
    ) -> _Taken:
        try:
            if before is not None:
                before.result()
            with np.errstate(over="ignore", invalid="ignore"):
                return self._take(tile, weights, hooked=bool(taking))
        except OverflowError as error:
            tensors = self._work.tensors
            names = ", ".join(f"'{tensors[strip.tensor].name}'" for strip in tile.strips[:3])
            raise OverflowError(f"tensor {names}: {error}") from error
        finally:
            for accumulator in taking:
                accumulator.leave(tile)
            # What holds blocks still needs the increments that the tiles leave there.
            if self._open.over(tile) and not self._holds:
                self._reader.release(tile.block)

    def _take(self, tile: Tile, weights: Doubles, *, hooked: bool) -> _Taken:
        if not hooked:
            self._sums.take(tile, weights)
            return _Taken(tile, ())
        pieces = [(number, take(tile)) for number, take in self._gradients]
        if self._wants_first and tile.start == 0:
            tile.first_gradients = tile.values[:1].copy()
        self._sums.take(tile, weights)
        pieces += [(number, take(tile)) for number, take in self._row_sums]
        if tile.finite and tile.rows:
            pieces += [(number, take(tile)) for number, take in self._increments]
        return _Taken(tile, [(number, piece) for number, piece in pieces if piece is not None])

    def _merged(self) -> Iterator[Tile]:
        """All tiles that are in work, each once it is merged."""
        while self._waiting:
            yield self._merge_next()

    def _merge_next(self) -> Tile:
        taken = self._waiting.popleft().result()
        tile = taken.tile
        self._look_for_nonfinite(tile)
        if not self._nonfinite:
            for number, piece in taken.pieces:
                self._accumulators[number].merge(piece)
        if tile.last_of_block:
            if not self._holds:
                self._end_block(tile.block, ())
            self._done += tile.block.stored_bytes
            if self._progress is not None:
                self._progress(self._done, self._work.plan.decoded_bytes)
        return tile

    def _look_for_nonfinite(self, tile: Tile) -> None:
        for strip, sums in zip(tile.strips, tile.sums, strict=True):
            for row in np.flatnonzero(sums[:, NONFINITE]):
                found = NonfiniteRow(strip.tensor, tile.start + int(row), int(sums[row, NONFINITE]))
                self._nonfinite.append(found)
                self._taking = ()  # nothing is merged any more: further tiles are only looked through

    def _end_held(self, block: Block, sums: Sequence[Doubles]) -> None:
        self._end_block(block, sums)
        self._reader.release(block)

    def _end_block(self, block: Block, sums: Sequence[Doubles]) -> None:
        if not self._nonfinite:
            for accumulator in self._accumulators:
                accumulator.end_block(block, sums)
