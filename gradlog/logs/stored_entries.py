"""A tensor's entries as a copy in a log of format 1 holds them, and what else its array says of it.

Real numbers are copied bit by bit, bfloat16 as its bits. Complex entries become a last axis of two real ones,
packed ones (scale_factor, _FillValue) the numbers that they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quick_dataclass import dataclass
from .entry_types import PACKING_WORDS
from .hierarchy import ARRAY_DIMENSIONS, axis_names
from .log import Tensor
from .rank_tensor import RankTensor
from .reading import read_stored
from .row_ranges import between, noted
from .row_values import BFLOAT16, REALS
from .zarr_tensor import ZarrTensor

Box = tuple[slice, ...]


@dataclass(frozen=True)
class StoredEntries:
    """How a tensor is copied. dtype : of the copy's array; as_read : of entries before they are converted"""

    tensor: Tensor
    dtype: np.dtype[Any]
    as_read: np.dtype[Any]

    @classmethod
    def of(cls, tensor: Tensor) -> StoredEntries:
        """Of any tensor: one that is no array of Zarr's is read as numbers, exact for its type."""
        as_read: np.dtype[Any] = tensor.compute_dtype
        if isinstance(tensor, ZarrTensor):
            as_read = np.dtype(tensor.array.dtype).newbyteorder("=")
        if tensor.dtype == BFLOAT16:
            return cls(tensor, np.dtype(np.uint16), as_read)
        dtype = np.dtype(tensor.dtype) if tensor.dtype in REALS else tensor.compute_dtype
        return cls(tensor, dtype, as_read)

    @property
    def parts(self) -> int:
        """Real numbers of an entry as it is read: 2 of a complex one, which are the last axis."""
        return 2 if self.as_read.kind == "c" else 1

    @property
    def declared_dtype(self) -> str | None:
        """What the array's attribute says of its dtype, where that does not say it itself."""
        return BFLOAT16 if self.tensor.dtype == BFLOAT16 else None

    def nbytes(self, rows: int, parameters: int) -> int:
        """Bytes of so many rows and parameters as they are read."""
        return rows * parameters // self.parts * self.as_read.itemsize

    def read(self, rows: tuple[int, int], box: Box, buffer: NDArray[np.uint8], room: int) -> NDArray[Any]:
        """(rows, *box) entries as they are read, a view of `buffer`; complex ones without their last axis.

        rows : (first, last + 1) stored rows; room : as of `Tensor.read`

        Raises DataError, without the log's name, for what cannot be read.
        """
        inside = box[:-1] if self.parts > 1 else box
        extents = [part.stop - part.start for part in inside]
        count = rows[1] - rows[0]
        tensor = self.tensor
        if isinstance(tensor, ZarrTensor):
            at = tensor.step_axis
            shape = (*extents[:at], count, *extents[at:])
            out = self._view(buffer, shape)
            read_stored(tensor, (*inside[:at], slice(*rows), *inside[at:]), out, room)
            return np.moveaxis(out, at, 0)
        out = self._view(buffer, (count, *extents))
        tensor.read(rows, box, out.reshape(count, -1) if out.size else out.reshape(count, 0), room)
        return out

    def put(self, values: NDArray[Any], box: Box, target: NDArray[Any]) -> None:
        """Convert some of what was read.

        values : (rows, *extents) as of `read`; box : slices of its axes but the first; target : of `dtype`,
        filled from its origin on
        """
        inside = box[:-1] if self.parts > 1 else box
        taken = values[:, *inside]
        if self.parts > 1:
            taken = np.ascontiguousarray(taken).view(self.dtype).reshape(*taken.shape, 2)
        elif isinstance(self.tensor, ZarrTensor):
            if self.tensor.entries.packing is not None:
                taken = self.tensor.entries.packing.unpack(taken, self.dtype)
        elif self.declared_dtype == BFLOAT16:
            taken = (np.ascontiguousarray(taken).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        target[tuple(map(slice, taken.shape))] = taken

    def axes(self) -> tuple[str | None, ...]:
        """Names of the copy's axes behind the rows'."""
        names: tuple[str | None, ...] | None = None
        if (source := self._described) is not None:
            array, at = source.array, source.step_axis
            found = axis_names(getattr(array.metadata, "dimension_names", None), array.attrs, array.ndim)
            names = None if found is None else (*found[:at], *found[at + 1 :])
        if names is None:
            return tuple(f"dim_{axis}" for axis in range(len(self.tensor.shape)))
        return (*names, "part") if self.parts > 1 else names

    def attributes(self, rows: tuple[int, int]) -> dict[str, Any]:
        """What is said of the tensor and is true of a copy of these rows, (first, last + 1) stored ones.

        Raises DataError, without the log's name, where rows that it names are none.
        """
        source = self._described
        stored = {} if source is None else dict(source.array.attrs)
        absent, merged = self.tensor.absent_rows
        kept = true_of_copy(stored, unpacked=source is not None and source.entries.packing is not None)
        declared = kept.pop("gradlog", None)
        # What a box of a tensor says of itself is not true of the whole.
        marks = dict(declared) if isinstance(declared, dict) and source is self.tensor else {}
        marks.pop("version", None)  # of a root, where that is the array itself
        if self.declared_dtype is not None:
            marks["dtype"] = self.declared_dtype
        return noted(kept | ({"gradlog": marks} if marks else {}), between(absent, *rows), merged)

    @property
    def _described(self) -> ZarrTensor | None:
        """Whose array says what there is to say: of a tensor in boxes, the first one's."""
        tensor = self.tensor.boxes[0].tensor if isinstance(self.tensor, RankTensor) else self.tensor
        return tensor if isinstance(tensor, ZarrTensor) else None

    def _view(self, buffer: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[Any]:
        size = int(np.prod(shape, dtype=np.int64)) * self.as_read.itemsize
        return buffer[:size].view(self.as_read).reshape(shape)


def true_of_copy(attributes: Mapping[str, Any], *, unpacked: bool = False) -> dict[str, Any]:
    """Attributes of an array that are true of a copy, whose axes have names of their own.

    unpacked : the copy holds the numbers that packed entries stand for
    """
    false = {ARRAY_DIMENSIONS, *(PACKING_WORDS if unpacked else ())}
    return {key: value for key, value in attributes.items() if key not in false}
