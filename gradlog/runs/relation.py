"""How two runs of the same parameters move relative to each other: one pass over both logs, side by side."""

from __future__ import annotations

import collections
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ..engine.block import Block
from ..engine.blocks import BlockReader
from ..engine.parameter_range import Strips
from ..engine.plan import Plan
from ..errors import UsageError
from ..logs.log import GradientLog, Tensor
from ..logs.opening import Run
from ..logs.store import codec_pipeline
from ..processors import available_processors
from ..progress import Progress
from ..quick_dataclass import dataclass
from ..results.known_values import mean_of_known
from ..results.result import Settings
from ..sizes import DEFAULT_MEMORY
from .pairing import Pairing

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class RelationWindow:
    """One window of training steps that both runs logged.

    step : its first; cosine : mean of the gradients' cosines; gradients, increments : overlap of the runs'
    leading subspaces of each, None where one has no energy, and for a last window of fewer rows
    """

    step: int
    cosine: float | None
    gradients: float | None
    increments: float | None


@dataclass(frozen=True)
class ScopeRelation:
    """One scope, a tensor or the whole model (name None): means of what `RelationWindow` holds."""

    name: str | None
    cosine: float | None
    gradients: float | None
    increments: float | None


@dataclass(frozen=True)
class Relation:
    """Two runs of the same parameters, at the training steps that both logged.

    dimensions, window : of the leading subspaces, and rows of each window
    step : (N,) int64; cosine : (N,), of the two gradients at each step, NaN where one is 0
    """

    dimensions: int
    window: int
    step: NDArray[np.int64]
    cosine: Doubles
    total: ScopeRelation
    windows: tuple[RelationWindow, ...]
    tensors: tuple[ScopeRelation, ...]


def relate(
    baseline: Run,
    run: Run,
    steps: tuple[NDArray[np.int64], NDArray[np.int64]],
    settings: Settings,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> Relation:
    """Cosines of two runs' gradients at equal steps, and overlaps of their leading subspaces, per window.

    The overlap is the mean squared cosine of the principal angles between the leading
    `settings.subspace`-dimensional right singular subspaces of the two runs' windows. It follows from Gram
    matrices of the windows; no basis is formed.

    Parameters
    ----------
    steps : of each run, the training steps that its analysis holds; those in both are taken
    settings : tensors, exclude, truncate, subspace and window are followed

    Raises
    ------
    DataError : the runs have other parameters, or no steps in common, or steps twice
    UsageError : the settings name no subspace, or as of `analyze`
    MemoryLimitError : as of `analyze`
    """
    if settings.subspace is None:
        raise UsageError("the settings name no subspace, a number of directions, to relate runs by")
    workers = threads or available_processors()
    with codec_pipeline(workers):
        pair = Pairing.of(baseline, run, settings)
        step, kept, plans = pair.plan(steps, settings, memory, workers)
        chosen = pair.tensors
        scopes = _pass(pair.logs, chosen, plans, kept, settings, step.size, progress)
    total, tensors = scopes[-1], scopes[:-1]
    return Relation(
        dimensions=settings.subspace,
        window=settings.window_rows,
        step=step,
        cosine=total.cosines,
        total=total.means(None),
        windows=total.windows(step, settings.window_rows),
        tensors=tuple(scope.means(tensor.name) for scope, tensor in zip(tensors, chosen[0], strict=True)),
    )


def check_relation(
    baseline: Run,
    run: Run,
    rows: Sequence[tuple[int | None, int | None]],
    settings: Settings,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
) -> None:
    """Raise what `relate` would for these rows of the two runs, before anything else is spent on them.

    rows : (first, last + 1) of each, as of `Settings`; other arguments as of `relate`
    """
    workers = threads or available_processors()
    with codec_pipeline(workers):
        pair = Pairing.of(baseline, run, settings)
        steps = [log.step[slice(*span)] for log, span in zip(pair.logs, rows, strict=True)]
        if all(each.size for each in steps):  # else the runs' own analyses tell
            pair.plan(steps, settings, memory, workers)


class _Pair:
    """Matrices of one scope's windows, added up over parameters, and what they amount to."""

    def __init__(self, rows: int, dimensions: int) -> None:
        self._rows = rows
        self._dimensions = dimensions
        self._grams: Doubles | None = None
        self.cosines = np.full(rows, np.nan)
        self._overlaps: list[list[float | None]] = [[], []]

    def update(self, grams: Doubles) -> None:
        """Add the matrices over a tile's columns."""
        if self._grams is None:
            self._grams = grams.copy()
        else:
            self._grams += grams

    def finish(self) -> None:
        """All parameters are in: only figures are kept."""
        from ...kernels.window_gram import (
            BETWEEN,
            FIRST,
            GRADIENTS,
            INCREMENTS,
            SECOND,
            leading_subspace,
            mean_squared_cosine,
        )

        grams, self._grams = self._grams, None
        if grams is None:
            return
        window = grams.shape[-1]
        diagonal = (
            np.einsum("nkii->nki", grams[:, GRADIENTS]).transpose(1, 0, 2).reshape(3, -1)[:, : self._rows]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            norms = np.sqrt(diagonal[FIRST]), np.sqrt(diagonal[SECOND])
            self.cosines = np.clip(diagonal[BETWEEN] / norms[0] / norms[1], -1.0, 1.0)
        for number, pair in enumerate(grams):
            whole = (number + 1) * window <= self._rows
            for kind in (GRADIENTS, INCREMENTS):
                first, second = (
                    leading_subspace(pair[kind, side], self._dimensions) if whole else None
                    for side in (FIRST, SECOND)
                )
                overlap = None
                if first is not None and second is not None:
                    overlap = mean_squared_cosine(first, second, pair[kind, BETWEEN])
                self._overlaps[kind].append(overlap)

    def means(self, name: str | None) -> ScopeRelation:
        """Over steps and windows."""
        overlaps = [mean_of_known(np.array([x for x in kind if x is not None])) for kind in self._overlaps]
        return ScopeRelation(name, mean_of_known(self.cosines), overlaps[0], overlaps[1])

    def windows(self, step: NDArray[np.int64], window: int) -> tuple[RelationWindow, ...]:
        """Each window."""
        found = []
        for at, overlaps in enumerate(zip(*self._overlaps, strict=True)):
            first = at * window
            cosine = mean_of_known(self.cosines[first : first + window])
            found.append(RelationWindow(int(step[first]), cosine, *overlaps))
        return tuple(found)


_Waiting = tuple[Strips, Future[list[Doubles]], tuple[Block, Block] | None]
"""A tile, its matrices, and with the last tile of a block the blocks to give back."""


def _pass(
    logs: Sequence[GradientLog],
    chosen: Sequence[Sequence[Tensor]],
    plans: Sequence[Plan],
    kept: Sequence[NDArray[np.intp]],
    settings: Settings,
    rows: int,
    progress: Progress | None,
) -> list[_Pair]:
    """The scope of each tensor, and of the whole model at the end."""
    from ...kernels.gram import one_blas_thread
    from ...kernels.window_gram import paired_grams

    assert settings.subspace is not None
    window, dimensions = settings.window_rows, settings.subspace
    masks = []
    for plan, found in zip(plans, kept, strict=True):
        mask = np.zeros(plan.count, dtype=bool)
        mask[found - plan.rows[0]] = True
        masks.append(None if mask.all() else mask)
    scopes = [_Pair(rows, dimensions) for _ in range(len(chosen[0]) + 1)]
    missing = plans[0].strips
    waiting: collections.deque[_Waiting] = collections.deque()
    pool = ThreadPoolExecutor(plans[0].workers, thread_name_prefix="gradmf-compute")
    done, total = 0, sum(plan.decoded_bytes for plan in plans)

    def work(tile: Strips, blocks: tuple[Block, Block]) -> list[Doubles]:
        with np.errstate(over="ignore", invalid="ignore"):
            a, b = (block.values for block in blocks)
            return [paired_grams(a[:, p.first : p.last], b[:, p.first : p.last], window) for p in tile]

    def merge_next() -> None:
        nonlocal done
        tile, future, ended = waiting.popleft()
        for strip, grams in zip(tile, future.result(), strict=True):
            scopes[-1].update(grams)
            scopes[strip.tensor].update(grams)
            missing[strip.tensor] -= 1
            if not missing[strip.tensor]:
                scopes[strip.tensor].finish()
        if ended is not None:
            for reader, block in zip(readers, ended, strict=True):
                reader.release(block)
                done += block.stored_bytes
            if progress is not None:
                progress(done, total)

    turn = threading.Lock()  # decoding takes all processors, and memory beside the block, each time
    with (
        BlockReader(logs[0].path, chosen[0], plans[0], masks[0], turn) as first,
        BlockReader(logs[1].path, chosen[1], plans[1], masks[1], turn) as second,
        one_blas_thread(),
    ):
        readers = (first, second)
        try:
            for blocks in zip(first, second, strict=True):
                tiles = blocks[0].range.tiles
                for number, tile in enumerate(tiles):
                    ended = blocks if number == len(tiles) - 1 else None
                    waiting.append((tile, pool.submit(work, tile, blocks), ended))
                    while len(waiting) > plans[0].workers:
                        merge_next()
                # The readers need a buffer before the next block can come.
                while sum(ended is not None for _, _, ended in waiting) >= plans[0].buffers:
                    merge_next()
            while waiting:
                merge_next()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    scopes[-1].finish()
    return scopes
