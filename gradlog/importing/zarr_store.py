"""Zarr stores: a log that is copied, and stores of one training step each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..logs.absent_chunks import absent_chunk_warnings
from ..logs.log import GradientLog, Tensor, sketch_of
from ..logs.opening import open_log
from ..logs.row_values import BFLOAT16, REALS
from ..logs.series import read_series
from ..logs.whole_arrays import whole_arrays
from ..results.result import LogWarning
from ..results.row_kind import said_of_rows
from .snapshot import Contents, Kind, Snapshot, Values
from .stack import Stack


class LogRows(Stack):
    """The committed rows of a log."""

    def __init__(
        self, path: str, include: Sequence[str] = (), exclude: Sequence[str] = (), *, beside: bool = False
    ) -> None:
        """include, exclude : globs on names of tensors: only those chosen count for rows and faults
        beside : others, so that the steps of a store without any are not counted from 0

        Raises DataError where there is no log, or one that cannot be copied.
        """
        self.place = path
        self._log = open_log(path, tensors=include, exclude=exclude)
        if sketch_of(self._log) is not None:
            raise DataError(f"{path}: a sketch of a log: copy its folder, or import the log it was made of")
        self.rows = self._log.rows
        self._tensors = {tensor.name: tensor for tensor in self._log.tensors}
        self.kinds = {name: Kind(tensor.shape, _dtype(tensor)) for name, tensor in self._tensors.items()}
        self.height = max(tensor.chunks[0] for tensor in self._log.tensors)
        self._unnumbered = beside and self._log.format_version is None and self._log.step.tolist() == [0]
        span = (0, self.rows)
        self._series = {
            name: read_series(self._log, name, span)
            for name, array in self._log.series.items()
            if np.issubdtype(array.dtype, np.number) and array.shape[0] >= self.rows
        }

    @property
    def log(self) -> GradientLog:
        """What was opened."""
        return self._log

    @property
    def attributes(self) -> dict[str, Any]:
        """The free ones of its root."""
        return {name: value for name, value in self._log.attributes.items() if name != "gradlog"}

    @property
    def declared(self) -> dict[str, Any]:
        """What it says of its rows: that they are updates, and how far apart."""
        return said_of_rows(self._log.attributes)

    def warnings(self, names: set[str]) -> tuple[LogWarning, ...]:
        """What opening tells, and that chunks of tensors of such names are absent.

        Raises DataError where they must not be, or a tensor cannot be read.
        """
        self._log.check(names)
        tensors = [tensor for tensor in self._log.tensors if tensor.name in names]
        absent = absent_chunk_warnings(
            self._log, tensors, (0, self.rows), strict=False, nonfinite="fail"
        )  # fmt: skip
        return (*self._log.warnings, *absent)

    def read(self, name: str, first: int, stop: int, into: NDArray[Any] | None = None) -> NDArray[Any]:
        """(stop - first, *shape) entries of some rows, bfloat16 as bits. Raises DataError that names it."""
        tensor = self._tensors[name]
        shape = (stop - first, *tensor.shape)
        if into is None or (into.shape, into.dtype) != (shape, tensor.compute_dtype):
            into = np.empty(shape, tensor.compute_dtype)
        values = into.reshape(stop - first, tensor.parameters)
        try:
            tensor.read((first, stop), tuple(slice(0, extent) for extent in tensor.shape), values)
        except DataError as error:
            raise DataError(f"{self.place}: {error}") from error
        if tensor.dtype == BFLOAT16:
            # What was widened has nothing below its upper half.
            values = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        elif self.kinds[name].dtype != values.dtype.name:
            values = values.astype(self.kinds[name].dtype)
        return values.reshape(shape)

    def step(self, row: int) -> int | None:
        """The training step of a row, counted where the store has none."""
        return None if self._unnumbered else int(self._log.step[row])

    def series(self, row: int) -> Mapping[str, float]:
        """Values of a row by name, such as loss."""
        return {name: float(values[row]) for name, values in self._series.items()}

    @property
    def taken(self) -> str:
        """What of the source the tensors are, in words."""
        return f"the rows of a store along {self._log.step_axis}" if self._log.step_axis else ""

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why other things are no tensors, by name."""
        told = dict.fromkeys(self._log.series.keys() - self._series.keys(), "a series without a number a row")
        others = {name: why for name, why in self._log.left_out.items() if name not in self._log.series}
        return {**others, **told}


class ZarrSnapshot(Snapshot):
    """The arrays of a store, each the tensor of one step."""

    def __init__(self, path: str) -> None:
        self.place = path

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""
        arrays, attributes, left_out = whole_arrays(self.place)
        tensors = {name: Kind(array.shape, array.dtype) for name, array in arrays.items()}
        scalars = {name: value for name, value in attributes.items() if type(value) in (int, float)}
        return Contents.with_scalars(tensors, scalars, left_out)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        arrays = whole_arrays(self.place)[0]
        yield lambda name: arrays[name].read()


def _dtype(tensor: Tensor) -> str:
    """As what entries are stored: their own type, where it is one of those of format 1."""
    return tensor.dtype if tensor.dtype in (*REALS, BFLOAT16) else tensor.compute_dtype.name
