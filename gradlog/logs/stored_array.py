"""One array of a log that is being written: its metadata, and the rows of its unfinished chunk."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..quick_dataclass import dataclass
from .chunk_encoding import Encoder, encoding
from .log import GRADS, STEP
from .log_folder import LogFolder
from .row_ranges import MOST_RANGES, Ranges, clipped, extended, merged, noted
from .row_values import BFLOAT16

CHUNK_BYTES = 4 << 20
"""Size of a chunk aimed at, where nobody says otherwise."""
METADATA = "zarr.json"
MOST_PADDING = 0.02
"""Of the entries stored, those that fill up the last chunk along an axis of a tensor."""


@dataclass
class StoredArray:
    """An array (rows, *shape) of a log, and the rows of its unfinished chunk.

    A chunk is written as soon as it is full, or by `finish`. It counts once `commit` has made the array
    longer.

    name : path below the root; document : its metadata, as JSON has it
    dtype : "float32", "bfloat16", ... of the values
    chunks : shape of a chunk; key : of a chunk's coordinates; encode : a chunk as it is stored
    rows : (chunk rows, *shape) the unfinished chunk; without a row where a chunk holds one
    absent : rows without a value since the last commit; gaps : those before
    merged : `gaps` holds others between them too
    """

    name: str
    document: dict[str, Any]
    dtype: str
    chunks: tuple[int, ...]
    key: Callable[[tuple[int, ...]], str]
    encode: Encoder
    rows: NDArray[Any]
    absent: set[int] = field(default_factory=set)
    gaps: Ranges = ()
    merged: bool = False
    _text: str | None = None  # of the metadata, but for the length

    @property
    def title(self) -> str:
        """Its name in messages."""
        return self.name.removeprefix(f"{GRADS}/")

    @property
    def height(self) -> int:
        """Rows of a chunk."""
        return self.chunks[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the step axis."""
        return self.rows.shape[1:]

    @property
    def length(self) -> int:
        """Rows that the store says there are."""
        return int(self.document["shape"][0])

    def take(self, folder: LogFolder, row: int, value: NDArray[Any] | None) -> None:
        """Keep a value, or zeros for None, as a row behind the last; a chunk that it fills is written.

        Raises as `LogFolder.put`; the row may then be given again.
        """
        if value is None:
            self.absent.add(row)
        else:
            self.absent.discard(row)
        if self.height == 1:
            whole = np.zeros(self.shape, self.rows.dtype) if value is None else value
            self._write(folder, row, whole[None])
            return
        at = row % self.height
        self.rows[at] = 0 if value is None else value
        if at == self.height - 1:
            self._write(folder, row // self.height, self.rows)

    def finish(self, folder: LogFolder, rows: int) -> None:
        """Write the last chunk of an array of `rows` rows where it is not full. Raises as `LogFolder.put`."""
        if held := rows % self.height:
            self.rows[held:] = 0
            self._write(folder, rows // self.height, self.rows)

    def commit(self, folder: LogFolder, before: int, rows: int) -> None:
        """Make the array `rows` rows long, of which `before` counted already. Raises as `LogFolder.put`.

        All of its chunks are there: a kill leaves no row of zeros.
        """
        gaps = extended(clipped(self.gaps, before), sorted(self.absent))
        if len(gaps) > MOST_RANGES:
            gaps, self.merged = merged(gaps), True
        self.end_at(folder, rows, gaps)

    def end_at(self, folder: LogFolder, length: int, gaps: Ranges) -> None:
        """Store the metadata of an array of that length, `gaps` its absent rows."""
        if gaps != self.gaps or self._text is None:
            attributes = noted(self.document.get("attributes", {}), gaps, self.merged)
            document = self.document | {"shape": [_LENGTH, *self.shape], "attributes": attributes}
            text = json.dumps(document, indent=2).replace(f'"{_LENGTH}"', _LENGTH, 1)
        else:
            document, text = self.document, self._text
        head, _, tail = text.partition(_LENGTH)
        folder.put(f"{self.name}/{METADATA}".lstrip("/"), (f"{head}{length}{tail}".encode(),))
        self.document = document | {"shape": [length, *self.shape]}
        self.gaps, self._text = gaps, text

    def chunk_keys(self, bands: Iterable[int]) -> Iterator[str]:
        """Keys below the root of all chunks of those numbers along the step axis."""
        for band in bands:
            for place in itertools.product(*map(range, self._counts)):
                yield f"{self.name}/{self.key((band, *place))}"

    def fill(self, folder: LogFolder, before: int) -> None:
        """Write chunks of zeros for the rows below `before`, all of them absent, and commit them."""
        zeros = self.encode(np.zeros(self.chunks, self.rows.dtype))
        for key in self.chunk_keys(range(-(-before // self.height))):
            folder.put(key.lstrip("/"), zeros)
        self.rows[:] = 0
        self.end_at(folder, before, ((0, before - 1),) if before else ())

    @property
    def _counts(self) -> list[int]:
        return [-(-extent // size) for extent, size in zip(self.shape, self.chunks[1:], strict=True)]

    def _write(self, folder: LogFolder, band: int, values: NDArray[Any]) -> None:
        """Write chunk number `band` along the step axis. values : (chunk rows, *shape)"""
        for place in itertools.product(*map(range, self._counts)):
            corner = tuple(
                slice(at * size, (at + 1) * size) for at, size in zip(place, self.chunks[1:], strict=True)
            )
            piece = values[:, *corner]
            if piece.shape == self.chunks:
                chunk = np.ascontiguousarray(piece)
            else:
                chunk = np.zeros(self.chunks, values.dtype)
                chunk[tuple(map(slice, piece.shape))] = piece
            folder.put(f"{self.name}/{self.key((band, *place))}".lstrip("/"), self.encode(chunk))


@dataclass(frozen=True)
class Layout:
    """How arrays are laid out. chunk_bytes : aimed at; compressors : Zarr's codecs, before the checksum"""

    chunk_bytes: int
    compressors: Sequence[Any] = ()

    def create(
        self,
        folder: LogFolder,
        name: str,
        height: int,
        value: NDArray[Any],
        dtype: str,
        box: dict[str, Any] | None = None,
    ) -> StoredArray:
        """An array without rows, in the place of any of that name.

        height : rows of a chunk; value : one row; name "" : the root; box : what its `gradlog` says too
        """
        entries = self.chunk_bytes // (height * value.itemsize)
        chunks = (height, *even_chunks(value.shape, entries))
        mark = {**({"dtype": dtype} if dtype == BFLOAT16 else {}), **(box or {})}
        template, encode = self.template(value.ndim, value.dtype)
        document = template | {
            "shape": [0, *value.shape],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "attributes": {"gradlog": mark} if mark else {},
        }
        rows = unfinished(height, value.shape, value.dtype)
        made = StoredArray(name, document, dtype, chunks, flat_key, encode(chunks), rows)
        for key in self.groups_above(name):
            if not folder.exists(key):
                folder.put(key, (GROUP_DOCUMENT,))
        if folder.exists(name):
            folder.clear(name)
        made.end_at(folder, 0, ())
        return made

    def create_behind(
        self,
        folder: LogFolder,
        name: str,
        height: int,
        value: NDArray[Any],
        dtype: str,
        before: int,
        box: dict[str, Any] | None = None,
    ) -> StoredArray:
        """A tensor `name` of the log whose `before` rows so far, all zeros, are absent.

        No reader finds it before it is whole. Costs the bytes of those rows.
        """
        if folder.exists(name):
            raise UsageError(
                f"{folder.path}/{name}: something is there that the log doesn't know: move it away"
            )
        for key in self.groups_above(name):
            if not folder.exists(key):
                folder.put(key, (GROUP_DOCUMENT,))
        with folder.unseen(name) as (inside, place):
            array = self.create(inside, place, height, value, dtype, box)
            array.fill(inside, before)
        array.name = name
        return array

    @functools.cached_property
    def _encodings(self) -> dict[tuple[int, str], tuple[list[Any], Callable[..., Encoder]]]:
        return {}

    def template(
        self, ndim: int, dtype: np.dtype[Any]
    ) -> tuple[dict[str, Any], Callable[[tuple[int, ...]], Encoder]]:
        """The metadata of an array, but for its shape and chunks, and what encodes chunks of a shape."""
        known = self._encodings.get((ndim, dtype.str))
        if known is None:
            known = self._encodings[(ndim, dtype.str)] = encoding(self.compressors, ndim, dtype)
        codecs, encode = known
        ones = [1] * (ndim + 1)
        document = {
            "shape": ones,
            "data_type": dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": ones}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": dtype.type(0).item(),
            "codecs": codecs,
            "attributes": {},
            "dimension_names": [STEP, *(f"dim_{axis}" for axis in range(ndim))],
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
        return document, encode

    @staticmethod
    def groups_above(name: str) -> Iterator[str]:
        """Keys of the metadata of the groups that an array lies in, without the root's."""
        parts = name.split("/")
        for depth in range(1, len(parts)):
            yield "/".join((*parts[:depth], METADATA))


GROUP_DOCUMENT = json.dumps({"attributes": {}, "zarr_format": 3, "node_type": "group"}, indent=2).encode()


_LENGTH = "ROWS"
"""Stands where the length of an array does."""


def flat_key(coordinates: tuple[int, ...]) -> str:
    return "c." + ".".join(map(str, coordinates))


def unfinished(height: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """(chunk rows, *shape) for the rows of a chunk that is not full; of one row there is none."""
    return np.zeros((height if height > 1 else 0, *shape), dtype)


def even_chunks(shape: tuple[int, ...], entries: int) -> tuple[int, ...]:
    """A chunk of at most about `entries` entries, whole along the last axes.

    Chunks divide the axis that they cut with at most `MOST_PADDING` entries beyond its end.
    """
    chunk = list(shape)
    for axis, extent in enumerate(shape):
        rest = math.prod(shape[axis + 1 :])
        if math.prod(chunk) <= max(1, entries):
            break
        pieces = -(-extent // max(1, entries // rest))
        while pieces * -(-extent // pieces) > (1 + MOST_PADDING) * extent:
            pieces += 1
        chunk[axis] = -(-extent // pieces)
    return tuple(max(1, size) for size in chunk)
