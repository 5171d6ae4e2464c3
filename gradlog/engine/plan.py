"""The plan of a pass: the rank method, the ranges and blocks to read, and the memory they take."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..results.projection import CHOSEN_DIMENSIONS, Projection
from ..sizes import format_size
from .costs import exact_seconds, incremental_seconds, pass_seconds, sketch_seconds
from .ranges import (
    TILE_WIDTH,
    Limits,
    ParameterRange,
    block_bytes,
    columnwise_ranges,
    decoded_row_bytes,
    reading_bytes,
    rowwise_range,
)
from .request import Request

BASIS_LEAST = 64
BASIS_MOST = 1024
"""Rows of the incremental method's basis: fewer would bound little, more would take longer than they tell."""
EXACT_SECONDS = 5.0
EXACT_FACTORS = {"incremental": 1.5, "sketch": 4.0}
"""Under `auto`, an exact spectrum may take so much longer than another one, or so many times as long: more
where that would be certain of nothing."""
WORTH_IT = 0.9
"""Whole columns, which take more memory, are read where that takes at most this part of the time."""
NARROW = 512
"""Tensors up to this many parameters have their exact spectrum from the D x D side in any method."""

PLANNED_THREADS = (8, 4, 2, 1)
"""Tiles in work that the borders of ranges leave room for: the most that fits, however many are in work."""


@dataclass(frozen=True)
class Plan:
    """How a log will be read.

    rows : (first, last + 1) stored rows
    method : "exact", "incremental", "sketch" or "none"
    by_columns : the exact spectrum is taken from the D x D side, because D < N - 1
    basis_rows : the incremental method's basis may grow to this many rows
    block_bytes : the largest block in memory; buffers : blocks in memory at once
    workers : tiles in work at once
    memory : estimated peak in bytes, above the interpreter and its libraries
    decoding_bytes : what chunks may take while they are decoded
    decoded_bytes : of gradients, in their stored types
    window : rows of a window of training whose subspace is followed, 0 for none
    seconds : a rough estimate of what the pass takes
    projection : of the sketch method; stored : tensors that are sketches by it already, with the number of
    parameters that each was made of
    """

    rows: tuple[int, int]
    ranges: tuple[ParameterRange, ...]
    method: str
    by_columns: bool
    basis_rows: int
    block_bytes: int
    buffers: int
    workers: int
    memory: int
    decoding_bytes: int
    decoded_bytes: int
    window: int = 0
    seconds: float = 0.0
    projection: Projection | None = None
    stored: Mapping[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]

    def parameters_of(self, index: int, tensor: Tensor) -> int:
        """Number of parameters of tensor `index`, before it was sketched."""
        return self.stored.get(index, tensor.parameters)

    def is_wide(self, tensor: Tensor) -> bool:
        """Whether the sketch method projects a tensor by itself; smaller ones keep their exact spectra."""
        if self.projection is None:
            return False
        return is_wide(tensor, self.projection.dim, bool(self.stored))

    @property
    def order(self) -> object:
        """What decides the order of sums: plans that have it in common give the same bits."""
        return self.rows, self.ranges, self.method, self.by_columns, self.basis_rows, self.projection

    @property
    def decodes(self) -> int:
        """How often the chunk that is decoded most often is decoded."""
        return max((r.decodes for r in self.ranges), default=1)


def make_plan(request: Request, rank: str) -> Plan:
    """Choose the method, its ranges and blocks.

    rank : "auto" (exact where it is affordable, else incremental, else sketch), "exact", "incremental",
    "sketch" or "none"

    The order of sums, and with it the last bits, follows from the method, the borders of ranges and blocks,
    and the size of the basis. Where memory is scarce, what tiles in work take moves all of these: so they are
    planned for one of PLANNED_THREADS whatever `request.threads` says, which then only decides how many tiles
    are in work.

    Raises MemoryLimitError when even the smallest plan does not fit.
    """
    plan = _make_plan(request, rank)
    return replace(plan, seconds=plan_seconds(request, plan))


def _make_plan(request: Request, rank: str) -> Plan:
    request.check_chunks()
    for planned in PLANNED_THREADS:
        try:
            reference = _plan_for(replace(request, threads=planned), rank)
            break
        except MemoryLimitError:
            if planned == PLANNED_THREADS[-1]:
                raise
    threads = request.threads
    while True:
        try:
            plan = _plan_for(replace(request, threads=threads), reference.method)
        except MemoryLimitError:
            plan = None
        if plan is not None and plan.order == reference.order:
            return plan
        if threads <= planned:
            return replace(reference, workers=min(threads, reference.workers))
        threads = max(planned, threads // 2)


def _plan_for(request: Request, rank: str) -> Plan:
    if rank == "none":
        return _plan_without_spectrum(request)
    if rank == "incremental":
        return _plan_incremental(request)
    if rank == "sketch" or (rank == "auto" and request.stored):
        return _plan_sketch(request)
    if rank == "exact":
        return _plan_exact(request)
    try:
        exact = _plan_exact(request)
    except MemoryLimitError as error:
        return _plan_inexact(request, error)
    exact_takes = plan_seconds(request, exact)
    if exact_takes <= EXACT_SECONDS:
        return exact
    try:
        other = _plan_inexact(request)
    except MemoryLimitError:
        return exact
    other_takes = plan_seconds(request, other)
    affordable = exact_takes <= max(other_takes + EXACT_SECONDS, EXACT_FACTORS[other.method] * other_takes)
    return exact if affordable else other


def _plan_inexact(request: Request, exact: MemoryLimitError | None = None) -> Plan:
    """Incremental, and a sketch where no basis fits. exact : why the exact method does not do"""
    try:
        return _plan_incremental(request)
    except MemoryLimitError as error:
        try:
            return _plan_sketch(request)
        except MemoryLimitError as other:
            before = f"{exact}; " if exact else ""
            raise MemoryLimitError(f"{before}incrementally, {error}; as a sketch, {other}") from None


def plan_seconds(request: Request, plan: Plan) -> float:
    """Rough seconds that a pass by the plan takes, reading and spectra."""
    sizes = [plan.parameters_of(index, tensor) for index, tensor in enumerate(request.tensors)]
    seconds = pass_seconds(request.tensors, plan.ranges, plan.rows, request.state_bytes)
    if plan.method == "exact":
        return seconds + exact_seconds(sizes, plan.count)
    if plan.method == "incremental":
        return seconds + incremental_seconds(sizes, plan.count)
    if plan.projection is not None:
        return seconds + sketch_seconds(sizes, plan.count, plan.projection.dim)
    return seconds


def _plan_without_spectrum(request: Request) -> Plan:
    """Blocks of rows that carry their state along, or whole columns where that is cheaper and fits."""
    by_rows = _plan_blocks_of_rows(request)
    if request.window or request.band is not None or all(len(r.row_blocks) == 1 for r in by_rows.ranges):
        return by_rows
    fixed = request.series_bytes(request.threads, True)
    limits = Limits(
        request.rows, request.room - fixed, 0, True, request.block_rows, request.group(True), request.tile
    )
    try:
        ranges = tuple(columnwise_ranges(request.tensors, limits))
    except MemoryLimitError:
        return by_rows
    whole = _plan(request, ranges, "none", limits, fixed, request.threads)
    if whole.memory > max(request.memory, by_rows.memory):
        return by_rows
    cheaper = plan_seconds(request, whole) < WORTH_IT * plan_seconds(request, by_rows)
    return whole if cheaper else by_rows


def _plan_blocks_of_rows(request: Request) -> Plan:
    fixed = request.series_bytes(request.threads, False) + request.window_bytes(request.threads, False)
    state = request.state_bytes
    if fixed > request.room * 7 // 8:
        raise request.too_many_rows(fixed)
    limits = Limits(
        request.rows,
        request.room - fixed,
        state,
        False,
        request.block_rows,
        request.group(False),
        request.tile,
    )
    ranges = tuple(columnwise_ranges(request.tensors, limits))
    return _plan(request, ranges, "none", limits, fixed, request.threads)


def _plan_exact(request: Request) -> Plan:
    count, parameters = request.count, request.parameters
    by_columns = parameters < count - 1
    size = parameters if by_columns else count - 1
    for workers in range(max(1, request.threads), 0, -1):
        # Gram matrices: the total's, a tensor's, LAPACK's copy, and one each in work or waiting to be added.
        copies = 2 + (len(request.tensors) > 1) + (1 if by_columns else workers + 1) + request.kept_matrices
        copies += (workers + 1) // 2 if request.searched else 0
        series = request.series_bytes(workers, not by_columns)
        series += request.rowwise_window_bytes(workers) if by_columns else request.window_bytes(workers, True)
        fixed = series + 8 * size * size * copies
        if fixed <= request.memory // 2:
            break
    if request.room - fixed < request.memory // 8:
        if series > fixed // 2:
            raise request.too_many_rows(fixed)
        raise MemoryLimitError(
            f"the exact rank of {count} rows works on {copies} matrices of {size} x {size}, more than "
            f"--memory {format_size(request.memory)} holds: give --memory {request.enough(fixed)}, or "
            "fewer rows with --rows, or --rank none for path lengths alone"
        )
    state = request.state_bytes if by_columns else 0
    block_rows = request.rowwise_rows if by_columns else request.block_rows
    group = request.group(not by_columns)
    limits = Limits(
        request.rows, request.room - fixed, state, not by_columns, block_rows, group, request.tile
    )
    if by_columns:
        only = rowwise_range(request.tensors, limits, divided=False)
        ranges: tuple[ParameterRange, ...] = () if only is None else (only,)
    else:
        ranges = tuple(columnwise_ranges(request.tensors, limits))
    return _plan(request, ranges, "exact", limits, fixed, workers, by_columns=by_columns)


def _plan_incremental(request: Request) -> Plan:
    fixed = request.series_bytes(request.threads, False) + request.rowwise_window_bytes(request.threads)
    state = request.state_bytes
    # One basis for the whole model and one for each tensor that has no spectrum of its own otherwise.
    wide = [tensor for tensor in request.tensors if tensor.parameters > NARROW]
    alone = len(request.tensors) == 1
    entry = max((tensor.compute_dtype.itemsize for tensor in request.tensors), default=4)
    basis_columns = request.parameters + (0 if alone else sum(tensor.parameters for tensor in wide))
    narrow = 0 if alone else sum(t.parameters**2 for t in request.tensors if t.parameters <= NARROW)
    fixed += 8 * narrow
    limits = Limits(request.rows, request.room - fixed, state, False, request.rowwise_rows)
    only = rowwise_range(request.tensors, limits, divided=True)
    if only is None:
        return _plan(request, (), "incremental", limits, fixed, request.threads, basis_rows=BASIS_LEAST)
    state = request.parameters * limits.state + reading_bytes(request.tensors, only)
    block = block_bytes(request.tensors, only)
    left = request.room - fixed - state - 2 * block
    rows = min(BASIS_MOST, left // max(1, basis_columns * entry))
    if rows < BASIS_LEAST:
        need = fixed + state + 2 * block + BASIS_LEAST * basis_columns * entry
        raise MemoryLimitError(
            f"a basis of {BASIS_LEAST} vectors of {request.parameters} parameters takes more than "
            f"--memory {format_size(request.memory)}: give --memory {request.enough(need, 0.0)}, or "
            "fewer tensors with --tensor, or --rank none for path lengths alone"
        )
    fixed += rows * basis_columns * entry
    return _plan(request, (only,), "incremental", limits, fixed, request.threads, basis_rows=rows)


def _plan_sketch(request: Request) -> Plan:
    """A sketch of each wide tensor after the other; small ones in groups, with exact spectra of their own."""
    dims = (request.sketch_dim,) if request.sketch_dim else CHOSEN_DIMENSIONS
    for dim in dims:
        fixed = request.series_bytes(request.threads, False) + request.window_bytes(request.threads, False)
        fixed += _sketch_bytes(request, dim)
        if fixed <= request.memory // 2:
            break
    if request.room - fixed < request.memory // 8:
        raise MemoryLimitError(
            f"a sketch of {request.count} rows by {dim} takes more than --memory "
            f"{format_size(request.memory)} holds: give --memory {request.enough(fixed)}, or a smaller "
            "--sketch-dim, or fewer rows with --rows, or --rank none for path lengths alone"
        )
    state = request.state_bytes
    limits = Limits(
        request.rows, request.room - fixed, state, False, request.block_rows, request.group(False)
    )
    plan = _plan(
        request,
        sketch_ranges(request.tensors, limits, dim, bool(request.stored)),
        "sketch",
        limits,
        fixed,
        request.threads,
    )
    return replace(plan, projection=Projection(dim, request.seed), stored=request.stored)


def _sketch_bytes(request: Request, dim: int) -> int:
    """Bytes of the sums (N, M), of Gram matrices of small tensors, and of the algebra at the end."""
    wide = [is_wide(tensor, dim, bool(request.stored)) for tensor in request.tensors]
    small = [t.parameters for t, apart in zip(request.tensors, wide, strict=True) if not apart]
    alone = sum(tensor.parameters > 0 for tensor in request.tensors) == 1
    # Two units at work, one whose spectrum is sought, with a copy, and the total.
    arrays = 2 if alone else 5
    grams = min(sum(small), 2 * TILE_WIDTH) * max(small, default=0)
    side = min(request.count, dim)
    return 8 * (arrays * request.count * dim + grams + 8 * side * side)


def is_wide(tensor: Tensor, dim: int, stored: bool) -> bool:
    """Whether the sketch method projects a tensor; stored : those are sketches already that say so."""
    if stored:
        return tensor.made_of is not None
    return tensor.parameters > min(dim, TILE_WIDTH // 2)


def sketch_ranges(
    tensors: Sequence[Tensor], limits: Limits, dim: int, stored: bool
) -> tuple[ParameterRange, ...]:
    """Ranges in which a wide tensor stands by itself."""
    found: list[ParameterRange] = []
    wide = [is_wide(tensor, dim, stored) for tensor in tensors]
    for _, group in itertools.groupby(range(len(tensors)), lambda index: index if wide[index] else -1):
        numbers = list(group)
        for item in columnwise_ranges([tensors[index] for index in numbers], limits):
            found.append(item.of(numbers))
    return tuple(found)


def _plan(
    request: Request,
    ranges: tuple[ParameterRange, ...],
    method: str,
    limits: Limits,
    fixed: int,
    workers: int,
    *,
    by_columns: bool = False,
    basis_rows: int = 0,
) -> Plan:
    tensors = request.tensors
    block = max((block_bytes(tensors, item) for item in ranges), default=0)
    beside = max((item.width * limits.state + reading_bytes(tensors, item) for item in ranges), default=0)
    # The incremental method reads one block, sums the next and takes a third into its bases at once.
    most = 3 if method == "incremental" else 2
    buffers = next((n for n in range(most, 1, -1) if fixed + n * block + beside <= request.room), 1)
    memory = fixed + buffers * block + beside
    return Plan(
        rows=request.rows,
        ranges=ranges,
        method=method,
        by_columns=by_columns,
        basis_rows=basis_rows,
        block_bytes=block,
        buffers=buffers,
        workers=workers,
        memory=memory + request.decoding_bytes,
        decoding_bytes=request.decoding_bytes + max(0, request.room - memory),
        decoded_bytes=request.count * decoded_row_bytes(tensors, ranges),
        window=request.window,
    )
