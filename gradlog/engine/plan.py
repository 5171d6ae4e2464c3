"""The plan of a pass: what is gathered, the ranges and blocks to read, and the memory they take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..quick_dataclass import dataclass
from .costs import pass_seconds
from .measure import Measure
from .range_table import Ranges
from .ranges import Limits, block_bytes, column_ranges, model_range, reading_bytes
from .request import Request, Span

AFFORDABLE_SECONDS = 5.0
"""What is more certain may always take so much longer than what is less."""
WORTH_IT = 0.9
"""Whole columns, which take more memory, are read where that takes at most this part of the time."""

PLANNED_THREADS = (8, 4, 2, 1)
"""Tiles in work that the borders of ranges leave room for: the most that fits, however many are in work."""


@dataclass(frozen=True)
class Way:
    """One way to gather what was asked for, beside what every way gathers.

    method : its name; adverb : in a message that lists why several ways don't fit
    patience : how many times as long as another method it may take before that is taken instead, by its
    name: always, where it is not there
    """

    method: str
    measures: tuple[Measure, ...] = ()
    adverb: str = ""
    patience: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How a log will be read, and what is gathered.

    rows : (first, last + 1) stored rows
    measures : in the order in which they start; span : what a block holds
    block_bytes : the largest block in memory; buffers : blocks in memory at once
    workers : tiles in work at once
    memory : estimated peak in bytes, above the interpreter and its libraries
    decoding_bytes : what chunks may take while they are decoded
    decoded_bytes : of gradients, in their stored types
    seconds : a rough estimate of what the pass takes
    way : that was chosen
    """

    rows: tuple[int, int]
    ranges: Ranges
    measures: tuple[Measure, ...]
    span: Span
    block_bytes: int
    buffers: int
    workers: int
    memory: int
    decoding_bytes: int
    decoded_bytes: int
    seconds: float = 0.0
    way: Way = Way("none")

    @property
    def method(self) -> str:
        """Name of the way to ranks."""
        return self.way.method

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]

    def kept(self, keep: NDArray[np.bool_] | None) -> int:
        """Number of rows that are not left out. keep : (rows,) bool, False for those; None keeps all"""
        return self.count if keep is None else int(keep.sum())

    @property
    def holds_blocks(self) -> bool:
        """Whether a measure takes whole blocks."""
        return any(measure.holds_blocks for measure in self.measures)

    @property
    def strips(self) -> Counter[int]:
        """How many strips each tensor is cut into."""
        return self.ranges.strips

    @property
    def order(self) -> object:
        """What decides the order of sums: plans that have it in common give the same bits."""
        return self.rows, self.ranges, self.measures

    @property
    def decodes(self) -> int:
        """How often the chunk that is decoded most often is decoded."""
        return max((item.decodes for item, _ in self.ranges.alike), default=1)

    def is_affordable(self, other: Plan) -> bool:
        """Whether it is followed where one that is less certain may be cheaper."""
        factor = self.way.patience.get(other.method, math.inf)
        return self.seconds <= max(other.seconds + AFFORDABLE_SECONDS, factor * other.seconds)

    def measure(self, name: str) -> Measure | None:
        """The measure of that name."""
        return next((measure for measure in self.measures if measure.name == name), None)


def make_plan(request: Request, measures: Sequence[Measure], ways: Sequence[Way]) -> Plan:
    """Choose a way to gather what was asked for, and lay ranges and blocks out.

    measures : that every way gathers
    ways : the most certain first. The first that fits is taken, unless it takes much longer than the next
    that does: see AFFORDABLE_SECONDS and `Way.patience`

    The order of sums, and with it the last bits, follows from the measures and the borders of ranges and
    blocks. Where memory is scarce, what tiles in work take moves all of these: so they are planned for one of
    PLANNED_THREADS whatever `request.threads` says, which then only decides how many tiles are in work.

    Raises MemoryLimitError when even the smallest plan does not fit.
    """
    request.check_chunks()
    for planned in PLANNED_THREADS:
        try:
            reference = _choose(replace(request, threads=planned), measures, ways)
            break
        except MemoryLimitError:
            if planned == PLANNED_THREADS[-1]:
                raise
    threads = request.threads
    if threads == planned:
        return reference
    while True:
        try:
            plan = lay_out(replace(request, threads=threads), measures, reference.way)
        except MemoryLimitError:
            plan = None
        if plan is not None and plan.order == reference.order:
            return plan
        if threads <= planned:
            return replace(reference, workers=min(threads, reference.workers))
        threads = max(planned, threads // 2)


def _choose(request: Request, measures: Sequence[Measure], ways: Sequence[Way]) -> Plan:
    best: Plan | None = None
    refused: dict[str, MemoryLimitError] = {}
    for way in ways:
        try:
            plan = lay_out(request, measures, way)
        except MemoryLimitError as error:
            refused[way.adverb] = error
            continue
        if best is not None:
            return best if best.is_affordable(plan) else plan
        best = plan
        if plan.seconds <= AFFORDABLE_SECONDS:
            break
    if best is None:
        first, *others = refused.items()
        told = [str(first[1]), *(f"{adverb}, {error}" for adverb, error in others)]
        raise MemoryLimitError("; ".join(told))
    return best


def lay_out(request: Request, measures: Sequence[Measure], way: Way) -> Plan:
    """The cheapest layout that all the measures, those of the way too, allow for.

    Raises MemoryLimitError where none fits.
    """
    return replace(_cheapest(request, (*measures, *way.measures)), way=way)


def _cheapest(request: Request, measures: tuple[Measure, ...]) -> Plan:
    spans = {measure.span for measure in measures} - {Span.ANY}
    if len(spans) > 1:
        raise ValueError("one measure wants whole rows, another whole columns")
    if spans:
        return _laid_out(request, measures, spans.pop())
    by_rows = _laid_out(request, measures, Span.ANY)
    narrow = any(measure.narrow_tiles for measure in measures)
    if narrow or all(len(item.row_blocks) == 1 for item, _ in by_rows.ranges.alike):
        return by_rows
    # Blocks of rows carry their history along: whole columns, where they fit, may be cheaper.
    try:
        whole = _laid_out(request, measures, Span.COLUMNS)
    except MemoryLimitError:
        return by_rows
    if whole.memory > max(request.memory, by_rows.memory):
        return by_rows
    return whole if whole.seconds < WORTH_IT * by_rows.seconds else by_rows


def _laid_out(request: Request, measures: tuple[Measure, ...], span: Span) -> Plan:
    measures, workers, kept = _sized(request, measures, span)
    shape = request.shape(span, workers)
    column = request.history_bytes + sum(m.column_bytes(shape) for m in measures)
    limits = request.limits(
        span,
        kept,
        column,
        narrow=any(measure.narrow_tiles for measure in measures),
        held=any(measure.holds_blocks for measure in measures),
        grouped=min((m.most_grouped for m in measures if m.most_grouped is not None), default=None),
    )
    ranges = _ranges(request.tensors, measures, span, limits)
    used = _block_memory(request, ranges, limits)
    grown = tuple(m.grown(request, limits.room - used.beside - 2 * used.block) for m in measures)
    if grown != measures:
        kept += sum(m.kept_bytes(shape) for m in grown) - sum(m.kept_bytes(shape) for m in measures)
    # Where blocks are held one is read, the next summed and a third taken in at once; of others two are read
    # where chunks are waited for.
    most = 3 if request.waiting_bytes or any(measure.holds_blocks for measure in grown) else 2
    fits = (n for n in range(most, 1, -1) if kept + n * used.block + used.beside <= request.room)
    buffers = next(fits, 1)
    memory = kept + buffers * used.block + used.beside
    sizes = [tensor.parameters for tensor in request.tensors]
    seconds = pass_seconds(request.tensors, ranges, request.rows, column)
    return Plan(
        rows=request.rows,
        ranges=ranges,
        measures=grown,
        span=span,
        block_bytes=used.block,
        buffers=buffers,
        workers=workers,
        memory=memory + request.decoding_bytes,
        decoding_bytes=request.decoding_bytes + max(0, request.room - memory),
        decoded_bytes=request.count * ranges.decoded_row_bytes(request.tensors),
        seconds=seconds + sum(measure.seconds(sizes, request.count) for measure in grown),
    )


def _sized(request: Request, asked: tuple[Measure, ...], span: Span) -> tuple[tuple[Measure, ...], int, int]:
    """The measures in their sizes, tiles in work at once, and the bytes that stay.

    No more tiles are in work than leaves half of the memory to blocks, where that can be had.
    """
    for workers in range(max(1, request.threads), 0, -1):
        shape = request.shape(span, workers)
        sums = request.sums_bytes(shape)
        kept = {measure.name: measure.kept_bytes(shape) for measure in asked}
        beside = sums + sum(kept.values())
        measures = tuple(m.sized(request, beside - kept[m.name]) for m in asked)
        fixed = sums + sum(measure.kept_bytes(shape) for measure in measures)
        if fixed <= request.memory // 2:
            break
    if request.room - fixed < request.memory // 8:
        for measure in measures:
            error = measure.too_large(request, fixed)
            if error is not None and 2 * measure.kept_bytes(shape) >= fixed:
                raise error
        raise request.too_many_rows(fixed)
    return measures, workers, fixed


def _ranges(tensors: Sequence[Tensor], measures: Sequence[Measure], span: Span, limits: Limits) -> Ranges:
    if span is Span.ROWS:
        only = model_range(tensors, limits, not any(measure.one_tile for measure in measures))
        return Ranges() if only is None else Ranges([only])
    return column_ranges(tensors, limits, lambda t: any(measure.stands_apart(t) for measure in measures))


@dataclass(frozen=True)
class _BlockMemory:
    """block : bytes of the largest block; beside : of what columns carry on, and while a block is read"""

    block: int
    beside: int


def _block_memory(request: Request, ranges: Ranges, limits: Limits) -> _BlockMemory:
    tensors, kinds = request.tensors, [item for item, _ in ranges.alike]
    return _BlockMemory(
        max((block_bytes(tensors, item) for item in kinds), default=0),
        max((item.width * limits.state + reading_bytes(tensors, item) for item in kinds), default=0),
    )
