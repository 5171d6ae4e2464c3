"""What a plan is made for, and what the work takes whatever the plan."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..measures.search.history_band import BandLayout
from ..sizes import format_size
from .ranges import TILE_WIDTH, decoding_bytes, most_block_rows, tile_width

SLACK = 1.1
"""A plan may go this far over the memory asked for, rather than decode chunks twice."""
SEARCHED_TOGETHER = 1 << 21
"""Bytes of small Gram matrices that are searched together."""
DECODING_PART = 0.75
"""Of the memory, at most this part may be needed to decode a single chunk."""
SUMS_PART = 16
"""Of the memory, this part is for per-row sums of tensors that are read together."""
UNCOUNTED = 8 << 20
"""Up to here, chunks in decoding are lost in what libraries take."""
UNREFUSED = 64 << 20
"""Up to here, what a single chunk takes is no reason to refuse a log."""
WINDOWED_GROUP = 8
"""Small tensors read together at most, where windows of each are kept over all rows."""


@dataclass(frozen=True)
class Request:
    """What a plan is made for.

    rows : (first, last + 1) stored rows to read
    history_rows, sum_columns : float64 values that the fused pass keeps per parameter and per row
    weight_columns : float64 weights of predictors for each row
    memory : bytes to stay within; threads : tiles in work at once
    kept_matrices : Gram matrices that stay until the end, beside the total's; searched : half of one more for
    each tile in work
    kept_bytes : of other sums that are kept, beside those of the whole model's rows
    band : of the Gram matrix over rows, from which predictors are searched where all of it is not formed
    window : rows of a window of training whose subspace is followed, 0 for none
    sketch_dim : M of the sketch method, None to choose; seed : of its projection; stored : as of `Plan`
    """

    tensors: Sequence[Tensor]
    rows: tuple[int, int]
    history_rows: int
    sum_columns: int
    weight_columns: int
    memory: int
    threads: int
    kept_matrices: int = 0
    searched: bool = False
    kept_bytes: int = 0
    band: BandLayout | None = None
    window: int = 0
    sketch_dim: int | None = None
    seed: int = 0
    stored: Mapping[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]

    @property
    def parameters(self) -> int:
        """Number of parameters of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def tile(self) -> int | None:
        """Columns of a tile; None for TILE_WIDTH, which windows and the band allow for."""
        return None if self.window or self.band is not None else tile_width(self.count)

    @property
    def room(self) -> int:
        """Bytes that a plan may take, beside those for chunks that are being decoded."""
        return int(self.memory * SLACK) - self.decoding_bytes

    @property
    def decoding_bytes(self) -> int:
        """Bytes kept for chunks in decoding: for one at least, unless it takes half of `memory`."""
        return min(self._decoding_bytes, self.memory // 2)

    @property
    def _decoding_bytes(self) -> int:
        return 0 if self._largest_chunk[0] <= UNCOUNTED else self._largest_chunk[0]

    @functools.cached_property
    def _largest_chunk(self) -> tuple[int, str]:
        """Bytes that it takes to decode, and its tensor's name."""
        found = ((decoding_bytes(tensor), tensor.name) for tensor in self.tensors)
        return max(found, key=lambda item: item[0], default=(0, ""))

    def enough(self, fixed: int, blocks: float = 1 / 8) -> str:
        """--memory that leaves this part of it for blocks beside `fixed` bytes."""
        enough = min((fixed + self._decoding_bytes) / (SLACK - blocks), fixed / (SLACK - 0.5 - blocks))
        return format_size(int(enough) + 1)

    def check_chunks(self) -> None:
        """Raise MemoryLimitError where a chunk cannot be decoded within memory."""
        largest, name = self._largest_chunk
        if largest <= max(UNREFUSED, DECODING_PART * self.memory):
            return
        raise MemoryLimitError(
            f"a chunk of tensor '{name}' takes {format_size(largest)} to decode, as stored and decoded, too "
            f"much for --memory {format_size(self.memory)}: give --memory "
            f"{format_size(int(largest / DECODING_PART) + 1)}"
        )

    @property
    def block_rows(self) -> int:
        """Rows of a block at most, where columns need not stay whole: the weights of long means take room."""
        return most_block_rows(self.weight_columns)

    @property
    def rowwise_rows(self) -> int:
        """The same where a block holds all tensors, each with sums of its own for every row."""
        return max(1, min(self.block_rows, self._rows_of_sums // max(1, len(self.tensors))))

    def group(self, whole_columns: bool) -> int:
        """Small tensors read together at most. whole_columns : with all their rows"""
        rows = self.count if whole_columns else min(self.count, self.block_rows)
        most = max(1, self._rows_of_sums // rows)
        return min(most, WINDOWED_GROUP) if self.window and not whole_columns else most

    @property
    def _rows_of_sums(self) -> int:
        return self.memory // SUMS_PART // (8 * self.sum_columns)

    def series_bytes(self, workers: int, whole_columns: bool) -> int:
        """Bytes of per-row sums, the whole model's with a copy and those of tiles in work, and of weights."""
        rows = self.count if whole_columns else min(self.count, self.block_rows)
        sums = self.sum_columns * (2 * self.count + (workers + 1) * rows)
        band = 0 if self.band is None else self.band.kept_bytes(len(self.tensors), workers)
        searched = self._searched_together(workers) if self.searched else 0
        return 8 * (sums + 2 * self.weight_columns * rows) + self.kept_bytes + band + searched

    def _searched_together(self, workers: int) -> int:
        """Bytes of lots of small Gram matrices that wait, and of what searches in work make of them."""
        matrix = 8 * self.count**2
        lot = min(SEARCHED_TOGETHER, len(self.tensors) * matrix)
        return (6 * workers + 2) * lot if matrix < SEARCHED_TOGETHER else 0

    def window_bytes(self, workers: int, whole_columns: bool) -> int:
        """Bytes of matrices of windows: of the total, of open tensors, and of tiles in work."""
        if not self.window:
            return 0
        matrices = 8 * 4 * self.window * (self.count + self.window)
        scopes = 2 if whole_columns else 1 + WINDOWED_GROUP
        return matrices * (scopes + workers + 1) + workers * 8 * 6 * self.window * TILE_WIDTH

    def rowwise_window_bytes(self, workers: int) -> int:
        """The same where a block holds all columns, and windows are finished at its end."""
        matrices = 8 * 4 * self.window * (min(self.count, self.block_rows) + 2 * self.window)
        return matrices * (1 + len(self.tensors) + workers + 1) + workers * 8 * 6 * self.window * TILE_WIDTH

    @property
    def carried_bytes(self) -> int:
        """Bytes that each column carries from one block of rows to the next, for windows and the band."""
        entry = max((tensor.compute_dtype.itemsize for tensor in self.tensors), default=4)
        return 2 * self.window * entry + (0 if self.band is None else self.band.column_bytes(entry))

    @property
    def state_bytes(self) -> int:
        """Bytes that stand beside each column while its rows are read a block at a time."""
        return 8 * self.history_rows + self.carried_bytes

    def too_many_rows(self, fixed: int) -> MemoryLimitError:
        """The error when per-row sums alone, `fixed` bytes, leave no room."""
        return MemoryLimitError(
            f"the sums of {self.count} rows take more than --memory {format_size(self.memory)} holds: "
            f"give --memory {self.enough(fixed)}, or fewer rows with --rows"
        )
