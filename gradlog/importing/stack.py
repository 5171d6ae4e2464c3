"""Sources that hold the rows of many steps: each row is a snapshot, and blocks of them are read at once."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from .snapshot import Contents, Kind, Snapshot, Values

ENOUGH_BYTES = 64 << 20
"""Of rows at once: larger blocks are read only where chunks are taller."""
ENOUGH_OF_TENSOR = 1 << 20
"""Of a tensor: more would take no less time, and has left the processor's cache before it is written."""


class Stack(abc.ABC):
    """Tensors of many steps.

    place : what messages call it; rows : how many; height : rows that are decoded at once
    kinds : of a row of each tensor
    """

    place: str
    rows: int
    height: int = 1
    kinds: Mapping[str, Kind]

    @abc.abstractmethod
    def read(self, name: str, first: int, stop: int, into: NDArray[Any] | None = None) -> NDArray[Any]:
        """(stop - first, *shape) entries of some rows, bfloat16 as bits.

        into : what an earlier call gave for the tensor: its memory may be taken, fresh one is cleared first

        Raises DataError that names it.
        """

    def step(self, row: int) -> int | None:  # noqa: ARG002
        """The training step that is stored for a row."""
        return None

    def series(self, row: int) -> Mapping[str, float]:  # noqa: ARG002
        """Values of a row by name, such as loss."""
        return {}

    @property
    def taken(self) -> str:
        """What of the source the tensors are, in words."""
        return ""

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why other things are no tensors, by name."""
        return {}


class Blocks:
    """Blocks of rows of a stack's tensors, read when they are asked for.

    A row lasts until the second one behind it is asked for. A tensor is asked for by one thread at a time,
    others by others meanwhile.
    """

    def __init__(self, stack: Stack, room: int) -> None:
        """room : bytes that all tensors' blocks may take; one row of each is held at least"""
        self.stack = stack
        row = max(1, sum(kind.nbytes for kind in stack.kinds.values()))
        enough = max(1, ENOUGH_BYTES // row)
        whole = -(-enough // stack.height) * stack.height  # no chunk is decoded twice
        rows = max(1, min(whole, room // row))
        most = rows - rows % stack.height if rows > stack.height else rows
        self._rows = {name: min(most, self._enough(kind)) for name, kind in stack.kinds.items()}
        held = sum(self._rows[name] * kind.nbytes for name, kind in stack.kinds.items())
        self._keeps = 2 * held <= room
        self._held: dict[str, tuple[int, NDArray[Any]]] = {}
        self._before: dict[str, NDArray[Any]] = {}

    def row(self, name: str, row: int) -> NDArray[Any]:
        """One row of a tensor."""
        rows = self._rows[name]
        first = row // rows * rows
        if name not in self._held or self._held[name][0] != first:
            _, before = self._held.pop(name, (0, None))
            last = min(first + rows, self.stack.rows)
            self._held[name] = (first, self.stack.read(name, first, last, self._before.pop(name, None)))
            if before is not None and self._keeps:
                self._before[name] = before
            del before
        found: NDArray[Any] = self._held[name][1][row - first]
        return found

    def _enough(self, kind: Kind) -> int:
        """Rows of a tensor that are worth to be read at once, whole chunks."""
        rows = -(-ENOUGH_OF_TENSOR // max(1, kind.nbytes))
        return -(-rows // self.stack.height) * self.stack.height


class StackRow(Snapshot):
    """A row of a stack."""

    def __init__(self, blocks: Blocks, row: int) -> None:
        self._blocks = blocks
        self._row = row
        self.place = f"{blocks.stack.place} row {row}"

    @property
    def label(self) -> str:
        """That of a store with a single row; the place of one of many says nothing of its step."""
        stack = self._blocks.stack
        return stack.place if stack.rows == 1 else ""

    def contents(self) -> Contents:
        """What it holds, without reading entries."""
        stack = self._blocks.stack
        step, series = stack.step(self._row), stack.series(self._row)
        return Contents(stack.kinds, stack.left_out, stack.taken, step, series)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        yield lambda name: self._blocks.row(name, self._row)


def rows_of(stack: Stack, room: int) -> list[Snapshot]:
    """All rows of a stack. room : bytes that may be held of it at once"""
    blocks = Blocks(stack, room)
    return [StackRow(blocks, row) for row in range(stack.rows)]
