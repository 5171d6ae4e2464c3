"""One pass over a plan's blocks: tiles in a pool of threads, their results merged in the order of the plan.

Threads decide only when a tile is computed. What is added to what, and in which order, follows from the
plan, so that any number of threads gives the same bits.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.fused_pass import compile_fused_pass, fused_pass
from ...kernels.gram import column_gram, few_rows_gram, row_gram
from ...kernels.pass_layout import ENERGY, INCREMENT, narrowed, new_history, sum_columns, widened
from ...kernels.short_gram import MOST_ROWS, compile_short_gram
from ..logs.log import Tensor
from ..measures.incremental.rowwise import RowwiseSpectra
from ..measures.path_lengths.path_length import nonfinite_rows
from ..measures.search.band_work import TileBands
from ..measures.search.history_band import BandLayout
from ..measures.subspaces.subspace import ModelSubspaces
from ..measures.subspaces.windows import TileWindows
from ..predictors import HistoryBank
from .blocks import Block, BlockReader
from .pass_result import PassResult, TileResult
from .plan import Plan
from .ranges import ParameterRange, Part
from .tile_merger import TileMerger

if TYPE_CHECKING:
    from ..measures.sketch.sketching import SketchSpectra, Turn
    from ..progress import Progress
    from .side_work import SideWork


SINGLE_MIN_INCREMENTS = 128
SINGLE_MIN_PARAMETERS = 1 << 15
"""From this size on, products of increments are formed in float32 (checked, see `row_gram`): below it
double precision costs next to nothing, and there are fewer rounding errors to average out."""
SINGLE_LEAST_EPSILON = 1e-4
"""Ranks that may leave out less than this share of the energy take double precision at any size."""


def compile_kernels(tensors: Sequence[Tensor]) -> None:
    """Load what a pass over these tensors calls, or compile it if this is the first time."""
    for dtype in sorted({tensor.compute_dtype for tensor in tensors}, key=str):
        compile_fused_pass(dtype)
        compile_short_gram(dtype)


def run_pass(
    reader: BlockReader,
    tensors: Sequence[Tensor],
    plan: Plan,
    bank: HistoryBank,
    rows: int,
    epsilons: Sequence[float],
    progress: Progress | None = None,
    part_of: Sequence[ParameterRange] | None = None,
    *,
    tensor_steps: bool = False,
    subspaces: ModelSubspaces | None = None,
    search: bool = False,
    band: BandLayout | None = None,
    side_work: SideWork | None = None,
) -> PassResult:
    """Take every block of the reader once and gather path lengths and spectra.

    Parameters
    ----------
    part_of : the ranges of the whole plan, where `plan` holds those of a part only
    rows : rows that the reader keeps
    epsilons : shares of the increments' energy that ranks may leave out
    progress : called with (bytes done, bytes in all), from the calling thread
    tensor_steps : keep the per-step sums of each tensor too
    subspaces : takes in the windows of training, where they were asked for
    search : search for the best predictors, where the plan forms Gram matrices over rows
    band : of these, from which predictors are searched otherwise
    side_work : takes more on the side, for `advise`

    Raises what the reader raises.
    """
    compile_kernels(tensors)
    pool = ThreadPoolExecutor(plan.workers, thread_name_prefix="gradmf-compute")
    sketches = None
    if plan.method == "sketch":
        from ..measures.sketch.sketching import SketchSpectra  # deferred: few passes sketch

        sketches = SketchSpectra(tensors, plan, epsilons, rows, pool)
    search = search and plan.method == "exact" and not plan.by_columns
    precise = min(epsilons, default=1.0) < SINGLE_LEAST_EPSILON
    if band is not None:
        band = replace(band, rows=rows)
    tiles = _TileWork(tensors, plan, bank, reader, sketches, search, precise, band)
    merger = TileMerger(tensors, plan, bank, rows, epsilons, pool, part_of, sketches)
    merger.side_work = side_work
    if tensor_steps:
        merger.keep_tensor_steps(rows)
    if search:
        merger.search([tensor.name for tensor in tensors])
    if band is not None:
        merger.search_band([tensor.name for tensor in tensors], band)
    waiting: collections.deque[Future[TileResult]] = collections.deque()
    done = 0
    bases: ThreadPoolExecutor | None = None

    def merge_next() -> TileResult:
        nonlocal done
        result = waiting.popleft().result()
        merger.merge(result)
        if subspaces is not None and not merger.nonfinite:
            subspaces.update(result.windows, ends_block=bool(result.stored_bytes))
        done += result.stored_bytes
        if progress is not None and result.stored_bytes:
            progress(done, plan.decoded_bytes)
        return result

    try:
        if plan.method == "incremental":
            # A pool of its own: it works between the small eigenvalue problems of the calling thread, while
            # the other pool takes the next block.
            bases = ThreadPoolExecutor(plan.workers, thread_name_prefix="gradmf-bases")
            rowwise = RowwiseSpectra(tensors, plan, epsilons, rows, bases)

            def take_in(block: Block, sums: list[NDArray[np.float64]]) -> None:
                if not merger.nonfinite:
                    rowwise.update(block, [part[:, INCREMENT] for part in sums])
                reader.release(block)

            before: tuple[Block, list[NDArray[np.float64]]] | None = None
            for block in reader:
                if side_work is not None:
                    side_work.take(block, pool)
                waiting.extend(tiles.submitted(pool, task) for task in tiles.tasks(block))
                # With two buffers only, nothing could be read while two blocks are in work.
                if before is not None and plan.buffers > 2:
                    take_in(*before)
                sums = [part for _ in range(len(waiting)) for part in merge_next().sums]
                before = block, sums
                if plan.buffers <= 2:
                    take_in(*before)
            if before is not None and plan.buffers > 2:
                take_in(*before)
            return replace(merger.result(rowwise), subspaces=subspaces, side_work=side_work)
        for block in reader:
            if side_work is not None:
                side_work.take(block, pool)
            for task in tiles.tasks(block):
                while len(waiting) > plan.workers or (waiting and sketches and not sketches.has_room(block)):
                    merge_next()
                waiting.append(tiles.submitted(pool, task))
        while waiting:
            merge_next()
        gathered = merger.result() if part_of is None else merger.partial_result()
        return replace(gathered, subspaces=subspaces, side_work=side_work)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if bases is not None:
            bases.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Task:
    """Tile `number` of a block; `weights` as of `HistoryBank.weights`."""

    block: Block
    number: int
    parts: tuple[Part, ...]
    last_of_block: bool
    weights: NDArray[np.float64]
    turn: Turn | None = None

    @property
    def key(self) -> tuple[int, int]:
        """What the tiles of the same columns, in all blocks of rows, have in common."""
        return self.block.range_index, self.number


class _TileWork:
    """Computes tiles; carries each tile's predictor history from one block of rows to the next."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        plan: Plan,
        bank: HistoryBank,
        reader: BlockReader,
        sketches: SketchSpectra | None,
        search: bool,
        precise: bool,
        band: BandLayout | None,
    ) -> None:
        self._search = search
        self._precise = precise
        self._bands = None if band is None else TileBands(band)
        self._sketches = sketches
        self._tensors = tensors
        self._plan = plan
        self._bank = bank
        self._decays = np.array(bank.decays, dtype=np.float64)
        self._reader = reader
        self._windows = TileWindows(plan.window)
        self._histories: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
        self._spoiled: set[tuple[int, int]] = set()
        self._latest: dict[tuple[int, int], Future[TileResult]] = {}
        self._pending: dict[int, int] = {}
        self._lock = threading.Lock()

    def tasks(self, block: Block) -> Iterator[_Task]:
        """The tiles of a block."""
        stop = block.start + block.values.shape[0]
        tiles = block.range.tiles
        weights = self._bank.weights(block.start, stop)
        self._pending[id(block)] = len(tiles)
        for number, parts in enumerate(tiles):
            yield _Task(block, number, parts, number == len(tiles) - 1, weights)

    def submitted(self, pool: ThreadPoolExecutor, task: _Task) -> Future[TileResult]:
        """Start a task; the same tile of the block of rows before it is waited for first.

        The pool starts tasks in the order they come in, so that the one waited for is never behind.
        """
        if self._sketches is not None:
            task = replace(task, turn=self._sketches.sketcher.turn(task.block))
        before = self._latest.pop(task.key, None)
        future = pool.submit(self._run, task, before)
        if not task.block.last:
            self._latest[task.key] = future
        return future

    def _run(self, task: _Task, before: Future[TileResult] | None) -> TileResult:
        try:
            if before is not None:
                before.result()
            with np.errstate(over="ignore", invalid="ignore"):
                return self._process(task)
        except OverflowError as error:
            names = ", ".join(f"'{self._tensors[part.tensor].name}'" for part in task.parts[:3])
            raise OverflowError(f"tensor {names}: {error}") from error
        finally:
            if task.turn is not None:
                task.turn.finish()
            self._finish(task.block)

    def _finish(self, block: Block) -> None:
        with self._lock:
            self._pending[id(block)] -= 1
            over = self._pending[id(block)] == 0
            if over:
                del self._pending[id(block)]
        # The incremental method still needs the increments that the tiles leave in the block.
        if over and self._plan.method != "incremental":
            self._reader.release(block)

    def _process(self, task: _Task) -> TileResult:
        block, plan, bank = task.block, self._plan, self._bank
        values = block.values
        rows = values.shape[0]
        increments_needed = plan.method != "none" or self._bands is not None
        before = self._histories.pop(task.key, None)
        # Gradients are taken before the pass puts increments in their place.
        windows = self._windows.take(task.key, task.parts, values, block.start, block.last)
        all_sums = []
        first, last = task.parts[0].first, task.parts[-1].last
        beginning = values[:1, first:last].copy() if self._search or self._bands is not None else None
        for number, part in enumerate(task.parts):
            width = part.last - part.first
            if before is None:
                # Columns whose rows are all here share one history: it is not carried on.
                once = block.start == 0 and block.last
                history = new_history(1 if once else width, bank.lags, len(bank.decays))
            else:
                history = widened(before[number], width)
            sums = np.zeros((rows, sum_columns(len(bank.predictors))))
            fused_pass(
                values, part.first, part.last, block.start, history, bank.lags, self._decays,
                task.weights, sums, increments_needed,
            )  # fmt: skip
            all_sums.append(sums)
            if not block.last:
                self._histories.setdefault(task.key, []).append(narrowed(history, width))
        if any(nonfinite_rows(sums).any() for sums in all_sums):
            self._spoiled.add(task.key)
        over_rows: NDArray[np.floating[Any]] | None = None
        over_columns, of_parts = [], []
        # Later blocks of these columns start from what is not finite: nothing is made of them either.
        finite = task.key not in self._spoiled
        if plan.method == "exact" and finite and rows:
            if plan.by_columns:
                over_columns = [column_gram(values[:, first:last])]
            else:
                energies = np.asarray(sum(sums[:, INCREMENT] for sums in all_sums))
                if self._search and beginning is not None:
                    # With the first gradient in front, the increments' matrix is that of all gradients too.
                    values[:1, first:last] = beginning
                    energies[0] = sum(sums[0, ENERGY] for sums in all_sums)
                skip = 0 if self._search else 1
                if rows - skip <= MOST_ROWS:
                    over_rows = few_rows_gram(values, skip, first, last)
                else:
                    over_rows = row_gram(values[skip:, first:last], energies[skip:], self._single(task))
                if len(task.parts) > 1:
                    over_columns = [column_gram(values[1:, p.first : p.last]) for p in task.parts]
                if len(task.parts) > 1 and self._search:
                    of_parts = [row_gram(values[:, p.first : p.last], energies, False) for p in task.parts]
        lagged: tuple[NDArray[np.float64], ...] = ()
        if self._bands is not None and finite and rows:
            lagged = self._bands.take(
                task.key, task.parts, values, None if block.start else beginning, all_sums, last=block.last,
                single=self._large(task),
            )  # fmt: skip
        small: dict[int, NDArray[np.floating[Any]]] = {}
        if self._sketches is not None and task.turn is not None and finite and rows:
            small = self._sketches.project(task.turn, block, task.parts, [s[:, INCREMENT] for s in all_sums])
        stored = block.stored_bytes if task.last_of_block else 0
        return TileResult(
            block.start, task.parts, all_sums, over_rows, over_columns, stored, windows,
            range_index=block.range_index, small_grams=small, part_grams=of_parts, lagged=lagged,
        )  # fmt: skip

    def _single(self, task: _Task) -> bool:
        rows = task.block.values.shape[0]
        return rows > SINGLE_MIN_INCREMENTS and self._large(task) and not self._precise

    def _large(self, task: _Task) -> bool:
        parameters = self._tensors[task.parts[0].tensor].parameters
        return len(task.parts) == 1 and parameters >= SINGLE_MIN_PARAMETERS
