"""What a pass gathers: a measure says what it takes, and starts the accumulator that takes it in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import MemoryLimitError
from ..logs.log import Tensor
from ..quick_dataclass import dataclass
from .block import Block
from .costs import CORES
from .range_table import Ranges
from .request import PassShape, Request, Span
from .state import PartState, State
from .tile import Tile

Doubles = NDArray[np.float64]
_Piece = TypeVar("_Piece")
RowSink = Callable[[int, int, NDArray[Any]], None]
"""Takes rows of a tensor: its number, the index t of the first of them, and their values (T, entries)."""


@dataclass(frozen=True)
class PassContext:
    """What an accumulator may know of the pass that it belongs to, or of the parts that it adds up.

    names, parameters : of each tensor; rows : that are taken, N
    strips : how many strips each tensor is cut into: it is complete when all of them are in
    ranges, tensors : that are read, of a part its own ranges; empty where parts are added up
    pool : for work beside the tiles, of which `workers` are in work at once
    started : accumulators of measures that come before this one, by name
    sink : takes rows that a measure makes as soon as they are whole; None where they are kept
    """

    names: Sequence[str]
    parameters: Sequence[int]
    rows: int
    strips: Mapping[int, int]
    pool: ThreadPoolExecutor
    workers: int
    ranges: Ranges = field(default_factory=Ranges)
    tensors: Sequence[Tensor] = ()
    started: Mapping[str, Accumulator[Any]] = field(default_factory=dict)
    sink: RowSink | None = None

    @property
    def in_one_range(self) -> bool:
        """Whether all parameters are read side by side, in the only range of the whole plan."""
        return len(self.ranges) == 1 and self.ranges.strips == Counter(self.strips)

    def with_started(self, started: Mapping[str, Accumulator[Any]]) -> PassContext:
        """The same, for the next measure."""
        return replace(self, started=dict(started))


@dataclass(frozen=True)
class CoreSeconds:
    """Rough seconds of one core, beside reading and the sums of rows.

    products : of what adds over parameters, so that parts share it
    spectra : of whole tensors, each by itself, wherever it becomes whole
    at_end : of the whole model, by whoever has all sums
    """

    products: float = 0.0
    spectra: float = 0.0
    at_end: float = 0.0


class Measure(ABC):
    """What is asked of a pass. Plans with equal measures and ranges give the same bits: a frozen dataclass.

    name : one measure of a pass has it; names its result, and its arrays in part files
    span : what a block has to hold for it
    one_tile : with Span.ROWS, all columns are one unit of work
    holds_blocks : its accumulator takes whole blocks, in `end_block`
    most_grouped : small tensors read together at most, where a block holds some rows of some columns
    narrow_tiles : its memory allows for tiles of the usual width only
    """

    name: ClassVar[str]
    span: ClassVar[Span] = Span.ANY
    one_tile: ClassVar[bool] = False
    holds_blocks: ClassVar[bool] = False
    most_grouped: ClassVar[int | None] = None
    narrow_tiles: ClassVar[bool] = False

    @abstractmethod
    def start(self, context: PassContext) -> Accumulator[Any]:
        """An accumulator that has taken nothing in yet."""

    def kept_bytes(self, shape: PassShape) -> int:  # noqa: ARG002
        """Bytes that it takes whatever the width of blocks."""
        return 0

    def column_bytes(self, shape: PassShape) -> int:  # noqa: ARG002
        """Bytes that each column carries from one block of rows to the next."""
        return 0

    def seconds(self, sizes: Sequence[int], rows: int) -> float:  # noqa: ARG002
        """Rough seconds beside reading and the sums of rows. sizes : parameters of each tensor"""
        return 0.0

    def core_seconds(self, sizes: Sequence[int], rows: int) -> CoreSeconds:
        """Rough seconds of one core, by who takes them. sizes : parameters of each tensor"""
        return CoreSeconds(CORES * self.seconds(sizes, rows))

    def state_bytes(self, shape: PassShape, begun: int) -> int:  # noqa: ARG002
        """Bytes of the state of a part, at most. begun : of its tensors, those that others hold pieces of"""
        return self.kept_bytes(shape)

    def stands_apart(self, tensor: Tensor) -> bool:  # noqa: ARG002
        """Whether a tensor shares no range with others."""
        return False

    def sized(self, request: Request, beside: int) -> Self:  # noqa: ARG002
        """The measure in the size that memory allows for. beside : bytes that the other measures keep"""
        return self

    def grown(self, request: Request, left: int) -> Self:  # noqa: ARG002
        """The measure in the size that `left` bytes allow for, once blocks are laid out.

        Raises MemoryLimitError where they are too few.
        """
        return self

    def too_large(self, request: Request, fixed: int) -> MemoryLimitError | None:  # noqa: ARG002
        """The error where what it keeps leaves no room. fixed : bytes that all measures keep"""
        return None


class Accumulator(ABC, Generic[_Piece]):
    """Takes in the tiles of a pass, or states: a monoid, whose pieces over disjoint parameters add up.

    For each tile, in any thread and in the order of time for tiles of the same columns, `gradients`,
    `row_sums` and `increments` are called, each where a subclass has it; what they return, a piece each, is
    handed to `merge` in the calling thread, in the order of the plan whichever thread was first. So is what
    `pieces` finds in the state of a part, or of several that were added: then `state` is that of all of them
    together, whether they were added at once or group by group. Nothing is merged once an entry that is not
    finite was met.

    wants_first : `Tile.first_gradients` is wanted
    """

    wants_first: bool = False

    def begin_block(self, block: Block) -> None:
        """A block of gradients was read; its tiles follow. In the calling thread."""

    def admits(self, block: Block) -> bool:  # noqa: ARG002
        """Whether memory is there to start a tile of a block before all others are merged."""
        return True

    def enter(self, tile: Tile) -> None:
        """A tile is about to start. In the calling thread, in the order of the plan."""

    def gradients(self, tile: Tile) -> _Piece | None:  # noqa: ARG002
        """Take in a tile of gradients."""
        return None

    def row_sums(self, tile: Tile) -> _Piece | None:  # noqa: ARG002
        """Take in the sums of a tile's rows."""
        return None

    def increments(self, tile: Tile) -> _Piece | None:  # noqa: ARG002
        """Take in a tile whose gradients have become increments, all of them finite."""
        return None

    def leave(self, tile: Tile) -> None:
        """A tile is over, whatever became of it. In the thread that took it."""

    @abstractmethod
    def merge(self, piece: _Piece) -> None:
        """Add the sums over other columns, or of later rows."""

    def end_block(self, block: Block, sums: Sequence[Doubles]) -> None:
        """All tiles of a block are merged. In the calling thread.

        block : its values are there, as increments, for measures that hold blocks only
        sums : of each strip of the block, for those too: (T, columns of `fused_pass`)
        """

    def close(self) -> None:
        """The pass is over, whatever became of it."""

    def state(self) -> State:
        """What was gathered, as plain arrays, which stay as they are: what a part file holds.

        After it nothing is merged any more.
        """
        raise NotImplementedError

    def pieces(self, state: PartState) -> Iterator[_Piece]:
        """Pieces that make up the state of a part; merging them leaves the state's arrays as they are.

        Raises ValueError, in words, where its arrays don't fit each other or those of other measures.
        """
        raise NotImplementedError

    @abstractmethod
    def result(self) -> Any:
        """What was gathered amounts to this; nothing is merged any more."""


def takes(accumulator: Accumulator[Any], method: str) -> bool:
    """Whether an accumulator has a method of its own."""
    return getattr(type(accumulator), method) is not getattr(Accumulator, method)
