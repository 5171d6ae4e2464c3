"""Write a log of format 1 whose rows are all known: in a folder, whole or not at all, or in memory."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, StorePath

from ..errors import UsageError, first_line
from .growing_array import GrowingArray
from .local_folder import LocalFolder
from .log import FORMAT_VERSION, GRADS, STEP, GradientLog
from .new_array import new_array
from .opening import read_log
from .places.place import Place
from .store import plain_array
from .stored_array import CHUNK_BYTES, Layout

SERIES_CHUNK = 1 << 13


class WholeLog:
    """A log that is written once: `begin`, then each tensor by `add` and its rows by `write`, then `commit`.

    Rows and tensors come in any order. Until `commit` there is no `step`, and so no log. In a folder a tensor
    may also be made by `grow`, and its chunks written as they are to be.
    """

    def __init__(self, store: Store) -> None:
        """store : empty"""
        self._store = store
        self._layouts: dict[bool, Layout] = {}
        self._rows = 0
        self._tensors: dict[str, zarr.Array[Any]] = {}

    @classmethod
    def in_memory(cls) -> WholeLog:
        """One that `read` alone gives back."""
        return cls(MemoryStore())

    @classmethod
    @contextlib.contextmanager
    def at_place(cls, place: Place) -> Iterator[WholeLog]:
        """One that stands at a place, where nothing is, once the block ends well; else nothing is left."""
        with place.whole_folder() as folder:
            yield cls(LocalStore(folder))

    def begin(self, rows: int, attributes: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
        """Make the root. attributes : free ones; declared : what `gradlog` says beside the version"""
        self._rows = rows
        marked = {**attributes, "gradlog": {"version": FORMAT_VERSION, **declared}}
        zarr.create_group(self._store, zarr_format=3, attributes=marked)

    def add(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        axes: tuple[str, ...] | None = None,
        declared: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a tensor's array. shape : of a row; axes : their names; declared : what its `gradlog` says"""
        size = max(1, math.prod(shape) * dtype.itemsize)
        height = max(1, min(self._rows, CHUNK_BYTES // size))
        self._tensors[name] = self._array(
            f"{GRADS}/{name}",
            (self._rows, *shape),
            (height, *(max(1, extent) for extent in shape)),
            dtype,
            axes or tuple(f"dim_{axis}" for axis in range(len(shape))),
            {"gradlog": dict(declared)} if declared else {},
        )

    def write(self, name: str, first: int, values: NDArray[Any]) -> None:
        """Put rows of a tensor in place. first : number of the first; values : (rows, entries), converted"""
        array = self._tensors[name]
        rows = slice(first, first + values.shape[0])
        array[rows] = values.reshape(-1, *array.shape[1:]).astype(array.dtype, copy=False)

    def grow(
        self,
        name: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any],
        axes: tuple[str | None, ...],
        attributes: Mapping[str, Any],
        *,
        compress: bool = False,
    ) -> GrowingArray:
        """Make a tensor's array, for its chunks to be written one by one.

        shape, axes : of a row; chunks : with the rows; compress : by zstd, before the checksum
        """
        assert isinstance(self._store, LocalStore)
        if compress not in self._layouts:
            self._layouts[compress] = Layout(CHUNK_BYTES, (ZstdCodec(level=1),) if compress else ())
        return GrowingArray(
            LocalFolder(self._store.root), f"{GRADS}/{name}", (self._rows, *shape), chunks, dtype,
            (STEP, *axes), attributes, self._layouts[compress], compress=compress,
        )  # fmt: skip

    def add_series(self, name: str, values: NDArray[Any], attributes: Mapping[str, Any]) -> None:
        """Write a series, (rows,) of any dtype.

        Raises UsageError where Zarr v3 has no such, and then nothing of it is there.
        """
        dtype: Any = values.dtype
        if dtype.kind == "O" and all(isinstance(value, str) for value in values):
            dtype = str
        chunks = (max(1, min(values.size, SERIES_CHUNK)),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # types that the specification lacks, and Zarr has
            try:
                self._array(name, values.shape, chunks, dtype, (), attributes)[...] = values
            except (OSError, MemoryError):
                raise
            except Exception as error:
                sync(self._store.delete_dir(name))
                raise UsageError(f"series `{name}` of {values.dtype}: {first_line(error)}") from error

    def commit(self, step: NDArray[np.int64], series: Mapping[str, NDArray[Any]]) -> int:
        """Write series and then the training steps, each (rows,); returns the bytes of gradients."""
        for name, values in {**series, STEP: step}.items():
            self.add_series(name, values, {})
        return sum(int(array.nbytes) for array in self._tensors.values())

    def read(self, name: str) -> GradientLog:
        """The log as it was committed, called `name`."""
        return read_log(name, StorePath(self._store))

    def _array(
        self,
        name: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: Any,
        axes: tuple[str, ...],
        attributes: Mapping[str, Any],
    ) -> zarr.Array[Any]:
        codecs = (Crc32cCodec(),)
        return plain_array(
            new_array(self._store, name, shape, chunks, dtype, (STEP, *axes), codecs, attributes=attributes)
        )
