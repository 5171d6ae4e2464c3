"""The ranges of a plan: a large model has hundreds of thousands, held as numbers until one is asked for."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from ..logs.log import Tensor
from ..quick_dataclass import dataclass
from .parameter_range import ParameterRange, Segment

Shape = tuple[int, ...]


@dataclass(frozen=True)
class RangeForm:
    """What ranges of one segment have in common, wherever they lie. Fields as of `ParameterRange`."""

    shape: Shape
    row_blocks: tuple[tuple[int, int], ...]
    tile: int | None
    decodes: int

    def at(self, tensor: int, start: Sequence[int]) -> ParameterRange:
        """The range whose box has its first parameter at `start`."""
        box = tuple(slice(at, at + extent) for at, extent in zip(start, self.shape, strict=True))
        return ParameterRange((Segment(tensor, box),), self.row_blocks, self.tile, self.decodes)


class TensorRanges(Sequence[ParameterRange]):
    """Neighbouring ranges of one tensor.

    starts : (n, axes) int64, the first parameter of each; kinds : (n,) number of its form among `forms`
    """

    def __init__(
        self, tensor: int, starts: NDArray[np.int64], kinds: NDArray[Any], forms: Sequence[RangeForm]
    ) -> None:
        self.tensor = tensor
        self.starts = starts
        self.kinds = kinds.astype(np.min_scalar_type(len(forms)), copy=False)
        self.forms = tuple(forms)

    def __len__(self) -> int:
        return self.kinds.size

    @overload
    def __getitem__(self, index: int) -> ParameterRange: ...

    @overload
    def __getitem__(self, index: slice) -> TensorRanges: ...

    def __getitem__(self, index: int | slice) -> ParameterRange | TensorRanges:
        if isinstance(index, slice):
            return TensorRanges(self.tensor, self.starts[index], self.kinds[index], self.forms)
        return self.forms[int(self.kinds[index])].at(self.tensor, self.starts[index].tolist())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TensorRanges)
            and (self.tensor, self.forms) == (other.tensor, other.forms)
            and np.array_equal(self.kinds, other.kinds)
            and np.array_equal(self.starts, other.starts)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def alike(self) -> list[tuple[ParameterRange, int]]:
        """As of `Ranges`."""
        _, first, counts = np.unique(self.kinds, return_index=True, return_counts=True)
        return [(self[at], count) for at, count in sorted(zip(first.tolist(), counts.tolist(), strict=True))]

    @property
    def widths(self) -> NDArray[np.int64]:
        """(n,) columns of each."""
        of_forms = np.array([math.prod(form.shape) for form in self.forms], dtype=np.int64)
        widths: NDArray[np.int64] = of_forms[self.kinds]
        return widths


Run: TypeAlias = ParameterRange | TensorRanges


class Ranges(Sequence[ParameterRange]):
    """Ranges in their order. runs : ranges, and many of one tensor"""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.runs = tuple(runs)
        self._ends = list(itertools.accumulate(map(_count, self.runs)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[ParameterRange]:
        for run in self.runs:
            if isinstance(run, ParameterRange):
                yield run
            else:
                yield from run

    @overload
    def __getitem__(self, index: int) -> ParameterRange: ...

    @overload
    def __getitem__(self, index: slice) -> Ranges: ...

    def __getitem__(self, index: int | slice) -> ParameterRange | Ranges:
        if isinstance(index, slice):
            first, last, _ = index.indices(len(self))
            return Ranges(self._between(first, last))
        at = range(len(self))[index]
        number = bisect.bisect_right(self._ends, at)
        run = self.runs[number]
        return run if isinstance(run, ParameterRange) else run[at - self._ends[number]]

    def _between(self, first: int, last: int) -> Iterator[Run]:
        for number in range(bisect.bisect_right(self._ends, first), len(self.runs)):
            run = self.runs[number]
            begin = self._ends[number] - _count(run)
            if begin >= last:
                return
            yield run if isinstance(run, ParameterRange) else run[max(0, first - begin) : last - begin]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self.runs == other.runs

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Ranges, (self.runs,)

    @functools.cached_property
    def alike(self) -> list[tuple[ParameterRange, int]]:
        """One range of each tensor and extent, and how many there are, in the order of the first of them."""
        found: list[tuple[ParameterRange, int]] = []
        for run in self.runs:
            found += [(run, 1)] if isinstance(run, ParameterRange) else run.alike
        return found

    def row_bytes(self, tensors: Sequence[Tensor]) -> NDArray[np.int64]:
        """(n,) bytes that one row of each range's gradients takes in the store."""
        sizes = [
            np.array([row_bytes(tensors, run)])
            if isinstance(run, ParameterRange)
            else run.widths * tensors[run.tensor].entry_bytes
            for run in self.runs
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *sizes])

    def decoded_row_bytes(self, tensors: Sequence[Tensor]) -> int:
        """Bytes that one row takes in the store, each chunk as often as it is decoded."""
        return sum(count * item.decodes * row_bytes(tensors, item) for item, count in self.alike)

    @property
    def strips(self) -> Counter[int]:
        """How many strips each tensor is cut into: it is complete when all of them are in."""
        found: Counter[int] = Counter()
        for item, count in self.alike:
            for tensor, strips in item.strips():
                found[tensor] += count * strips
        return found


def row_bytes(tensors: Sequence[Tensor], item: ParameterRange) -> int:
    """Bytes that one row of a range's gradients takes in the store."""
    return sum(segment.width * tensors[segment.tensor].entry_bytes for segment in item.segments)


def _count(run: Run) -> int:
    return 1 if isinstance(run, ParameterRange) else len(run)
