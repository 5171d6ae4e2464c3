"""One array of a log that is being written: its metadata in the store, and its unfinished chunk in memory."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from ..errors import UsageError
from .atomic_store import PARTIAL, AtomicStore, writing
from .log import GRADS, STEP
from .new_array import new_array
from .row_ranges import MOST_RANGES, Ranges, clipped, extended, merged, noted
from .row_values import BFLOAT16
from .store import plain_array
from .whole_file import whole_folder

METADATA = "zarr.json"
CHUNKS = "c"
LATE = f"late{PARTIAL}"
"""Below `step`, where no reader looks for arrays: a tensor that is being made."""


@dataclass
class StoredArray:
    """An array (rows, *shape) of a log, and the rows of its unfinished chunk.

    name : path below the root; metadata : as in the store; chunks : shape of a chunk
    dtype : "float32", "bfloat16", ... of the values
    rows : (chunk rows, *shape) the unfinished chunk; absent : (chunk rows,) bool, rows without a value
    gaps : absent rows up to the last that was written; merged : `gaps` holds others between them too
    """

    name: str
    metadata: Any
    chunks: tuple[int, ...]
    dtype: str
    rows: NDArray[Any]
    absent: NDArray[np.bool_]
    gaps: Ranges = ()
    merged: bool = False

    @property
    def title(self) -> str:
        """Its name in messages."""
        return self.name.removeprefix(f"{GRADS}/")

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the step axis."""
        return self.rows.shape[1:]

    @property
    def length(self) -> int:
        """Rows that the store says there are."""
        return int(self.metadata.shape[0])

    def take(self, at: int, value: NDArray[Any] | None) -> None:
        """Keep a value, or zeros for None, as row `at` of the unfinished chunk."""
        self.rows[at] = 0 if value is None else value
        self.absent[at] = value is None

    def write(self, store: AtomicStore, first: int, held: int) -> None:
        """Write the unfinished chunk, whose first row is `first`; the array ends behind its `held` rows."""
        self.rows[held:] = 0
        bottom = first + self.rows.shape[0]
        # By zarr-python, whatever pipeline is set: zarrs leaves chunks of zeros out. The chunk is written
        # whole, and so is never read and mended.
        ahead = self._array(store, bottom)
        ahead[first:bottom] = self.rows
        gaps = extended(clipped(self.gaps, first), (first + np.flatnonzero(self.absent[:held])).tolist())
        if len(gaps) > MOST_RANGES:
            gaps, self.merged = merged(gaps), True
        # The array becomes longer only once its chunk is there: a kill leaves no row of zeros.
        self.end_at(store, first + held, gaps)

    def end_at(self, store: AtomicStore, length: int, gaps: Ranges) -> None:
        """Store the metadata of an array of that length, `gaps` its absent rows."""
        attributes = noted(self.metadata.attributes, gaps, self.merged)
        metadata = self.metadata.update_shape((length, *self.shape)).update_attributes(attributes)
        document = metadata.to_buffer_dict(default_buffer_prototype())[METADATA]
        sync(store.set(f"{self.name}/{METADATA}".lstrip("/"), document))
        self.metadata, self.gaps = metadata, gaps

    def read(self, store: AtomicStore, first: int, stop: int) -> NDArray[Any]:
        """(stop - first, *shape) stored rows."""
        return np.asarray(self._array(store, self.length)[first:stop])

    def chunk_keys(self, band: int) -> Iterator[str]:
        """Keys of the chunks of the rows that chunk number `band` along the step axis holds."""
        counts = (-(-extent // size) for extent, size in zip(self.shape, self.chunks[1:], strict=True))
        for place in itertools.product(*map(range, counts)):
            yield f"{self.name}/{self.metadata.encode_chunk_key((band, *place))}"

    def _array(self, store: AtomicStore, length: int) -> zarr.Array[Any]:
        metadata = self.metadata.update_shape((length, *self.shape))
        return plain_array(zarr.Array(zarr.AsyncArray(metadata, StorePath(store, self.name))))


@dataclass(frozen=True)
class Layout:
    """How arrays are laid out. rows : in a chunk; chunk_bytes : aimed at; codecs : behind the bytes"""

    rows: int
    chunk_bytes: int
    codecs: Sequence[Any]

    def create(self, store: AtomicStore, name: str, value: NDArray[Any], dtype: str) -> StoredArray:
        """An array without rows, in the place of any of that name. value : one row; name "" : the root"""
        entries = self.chunk_bytes // (self.rows * value.itemsize)
        chunks = (self.rows, *_chunk_shape(value.shape, entries))
        axes = [STEP, *(f"dim_{axis}" for axis in range(value.ndim))]
        marks = {"gradlog": {"dtype": dtype}} if dtype == BFLOAT16 else {}
        shape = (0, *value.shape)
        array = new_array(
            store, name, shape, chunks, value.dtype, axes, self.codecs, attributes=marks, overwrite=True
        )
        rows = np.zeros((self.rows, *value.shape), value.dtype)
        return StoredArray(name, array.metadata, chunks, dtype, rows, np.zeros(self.rows, np.bool_))

    def create_behind(
        self, log: Path, name: str, value: NDArray[Any], dtype: str, before: int
    ) -> StoredArray:
        """A tensor `name` of the log whose `before` rows so far, all zeros, are absent.

        It is made where no reader looks, and moved to its place in one step. Costs the bytes of those rows on
        disk; one chunk along the step axis is encoded, and its bytes are copied.
        """
        target, staging = log / name, log / STEP / LATE
        if target.exists():
            raise UsageError(f"{target}: something is there that the log doesn't know: move it away")
        shutil.rmtree(staging, ignore_errors=True)
        with whole_folder(target, staging):
            with writing(staging, log) as store:
                array = self.create(store, "", value, dtype)
                array.absent[:] = True
                if before:
                    array.write(store, 0, min(before, self.rows))
                    array.end_at(store, before, ((0, before - 1),))
                for band in range(1, -(-before // self.rows)):
                    _copy(staging / CHUNKS / "0", staging / CHUNKS / str(band))
            with writing(log, log) as store:
                parent = target.parent.relative_to(log).as_posix()
                zarr.open_group(store, path=parent, mode="a", zarr_format=3)
        array.name = name
        return array


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _chunk_shape(shape: tuple[int, ...], entries: int) -> tuple[int, ...]:
    """A chunk of at most about `entries` entries, whole along the last axes."""
    chunk = list(shape)
    for axis in range(len(shape)):
        rest = math.prod(chunk[axis + 1 :])
        if math.prod(chunk) <= max(1, entries):
            break
        chunk[axis] = max(1, entries // max(1, rest))
    return tuple(max(1, size) for size in chunk)
