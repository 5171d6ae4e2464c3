"""What a plan is made for, and what the work takes whatever the plan."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence

from ...kernels.pass_layout import carried_bytes
from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..predictors import HistoryBank
from ..quick_dataclass import dataclass
from ..sizes import format_size
from .ranges import SMALL_BLOCK_BYTES, Limits, most_block_rows, tile_width

SLACK = 1.1
"""A plan may go this far over the memory asked for, rather than decode chunks twice."""
DECODING_PART = 0.75
"""Of the memory, at most this part may be needed to decode a single chunk."""
SUMS_PART = 16
"""Of the memory, this part is for per-row sums of tensors that are read together."""
RANGES_OF_PART = 4
"""At least, where the chunk grid allows: parts then differ by a quarter of one."""
HELD_ROWS = 512
"""Rows of a block that whoever takes whole blocks has enough of."""
UNCOUNTED = 8 << 20
"""Up to here, chunks in decoding are lost in what libraries take."""
UNREFUSED = 64 << 20
"""Up to here, what a single chunk takes is no reason to refuse a log."""


class Span(enum.Enum):
    """What a block has to hold."""

    ANY = "some rows of some columns"
    COLUMNS = "all rows of some columns"
    ROWS = "some rows of all columns"


@dataclass(frozen=True)
class PassShape:
    """What bytes depend on. rows : that the pass keeps, at most; block_rows : of a block, at most

    workers : tiles in work at once; span : what a block holds
    """

    tensors: Sequence[Tensor]
    rows: int
    block_rows: int
    workers: int
    span: Span

    @property
    def parameters(self) -> int:
        """Number of parameters of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def rows_at_once(self) -> int:
        """Rows of the tallest block."""
        return self.rows if self.span is Span.COLUMNS else min(self.rows, self.block_rows)


@dataclass(frozen=True)
class Request:
    """What a plan is made for.

    rows : (first, last + 1) stored rows to read
    bank : of the predictors whose history the sums of rows carry
    memory : bytes to stay within; threads : tiles in work at once
    parts : that the ranges are shared out to: they are so narrow that parts are about alike
    """

    tensors: Sequence[Tensor]
    rows: tuple[int, int]
    bank: HistoryBank
    memory: int
    threads: int
    parts: int = 1

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.rows[1] - self.rows[0]

    @property
    def parameters(self) -> int:
        """Number of parameters of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def room(self) -> int:
        """Bytes that a plan may take, beside those for chunks that are being decoded."""
        return int(self.memory * SLACK) - self.decoding_bytes

    @property
    def decoding_bytes(self) -> int:
        """Bytes kept for chunks in decoding: for one at least, unless it takes half of `memory`.

        Where chunks are waited for, a quarter of it may be under way.
        """
        waiting = min(self.waiting_bytes, self.memory // 4)
        return min(max(self._decoding_bytes, waiting), self.memory // 2)

    @functools.cached_property
    def waiting_bytes(self) -> int:
        """Bytes that are to be under way at once, where chunks are waited for."""
        return max((tensor.waiting_bytes for tensor in self.tensors), default=0)

    @property
    def _decoding_bytes(self) -> int:
        return 0 if self._largest_chunk[0] <= UNCOUNTED else self._largest_chunk[0]

    @functools.cached_property
    def _largest_chunk(self) -> tuple[int, str]:
        """Bytes that it takes to decode, and its tensor's name."""
        found = ((tensor.decoding_bytes, tensor.name) for tensor in self.tensors)
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

    def shape(self, span: Span, workers: int) -> PassShape:
        """What bytes of measures depend on."""
        return PassShape(self.tensors, self.count, self.block_rows(Span.ANY), workers, span)

    def block_rows(self, span: Span) -> int:
        """Rows of a block at most, where columns need not stay whole: the weights of long means take room."""
        most = most_block_rows(self.bank.weight_columns)
        if span is not Span.ROWS:
            return most
        # A block holds all tensors, each with sums of its own for every row.
        return max(1, min(most, self._rows_of_sums // max(1, len(self.tensors))))

    def limits(
        self, span: Span, kept: int, column: int, *, narrow: bool, held: bool, grouped: int | None
    ) -> Limits:
        """What bounds a block.

        kept : bytes that stay; column : bytes that each column carries on
        narrow, held, grouped : as of `Measure.narrow_tiles`, `holds_blocks` and `most_grouped`
        """
        whole = span is Span.COLUMNS
        row_bytes = sum(tensor.parameters * tensor.compute_dtype.itemsize for tensor in self.tensors)
        return Limits(
            rows=self.rows,
            room=self.room - kept,
            state=0 if whole else column,
            whole_columns=whole,
            block_rows=self.block_rows(span),
            group=self._group(span, grouped),
            tile=None if narrow else tile_width(self.count),
            widest=None if self.parts == 1 else max(1, self.parameters // (RANGES_OF_PART * self.parts)),
            small=self.waiting_bytes > 0 or (held and HELD_ROWS * row_bytes <= SMALL_BLOCK_BYTES),
        )

    def _group(self, span: Span, grouped: int | None) -> int:
        """Small tensors read together at most."""
        rows = self.count if span is Span.COLUMNS else min(self.count, self.block_rows(Span.ANY))
        most = max(1, self._rows_of_sums // rows)
        return most if span is Span.COLUMNS or grouped is None else min(most, grouped)

    @property
    def _rows_of_sums(self) -> int:
        return self.memory // SUMS_PART // (8 * self.bank.sum_columns)

    @property
    def history_bytes(self) -> int:
        """Bytes of predictors' history that each column carries from one block of rows to the next."""
        entry = max((tensor.compute_dtype.itemsize for tensor in self.tensors), default=4)
        return carried_bytes(self.bank.lags, len(self.bank.decays), entry)

    def sums_bytes(self, shape: PassShape) -> int:
        """Bytes of sums of rows of tiles in work, and of weights of predictors for the rows of blocks."""
        rows = shape.rows_at_once
        sums = self.bank.sum_columns * (shape.workers + 1) * rows
        return 8 * (sums + 2 * self.bank.weight_columns * rows)

    def too_many_rows(self, fixed: int) -> MemoryLimitError:
        """The error when sums of rows, `fixed` bytes with all else that stays, leave no room."""
        return MemoryLimitError(
            f"the sums of {self.count} rows take more than --memory {format_size(self.memory)} holds: "
            f"give --memory {self.enough(fixed)}, or fewer rows with --rows"
        )
