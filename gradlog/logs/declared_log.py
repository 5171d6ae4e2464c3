"""A log that is not there: a JSON file declares its tensors, so that it can be planned for."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, StoreNotFoundError, first_line
from ..quick_dataclass import dataclass
from ..results.typed_fields import Fields, as_count, as_text
from . import packed_chunks, uncompressed_chunks
from .log import GradientLog, Tensor
from .stored_array import CHUNK_BYTES, even_chunks
from .zarr_tensor import REMOTE_CHUNK_SECONDS, UNDER_WAY, ZARRS_CHUNK_SECONDS

ENTRY_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}
CODECS = ("crc32c", "zstd", "blosc", "lz4", "gzip", "zlib")
"""What may encode chunks; all but the first compress them."""
FIELDS = ("rows", "dtype", "chunk_bytes", "chunk_rows", "chunks", "codecs", "remote", "tensors")
MOST_PARAMETERS = 10**13
MOST_TENSORS = 10**6
MOST_CHUNK_BYTES = 1 << 40
_NUMBERS = re.compile(r"\{(\d{1,9}):(\d{1,9})\}")


@dataclass(frozen=True)
class Storage:
    """How all tensors of a declared log are stored. Fields as in the file."""

    rows: int
    dtype: str
    codecs: tuple[str, ...]
    remote: bool

    @property
    def entry_bytes(self) -> int:
        """Bytes of an entry."""
        return ENTRY_BYTES[self.dtype]


@dataclass(frozen=True)
class DeclaredTensor(Tensor):
    """A tensor that is known by what would be its metadata: it can be planned for, and not be read.

    parameter_shape, chunk_shape : as of `Tensor.shape` and `Tensor.chunks`
    """

    storage: Storage
    parameter_shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """As of `Tensor`."""
        return self.storage.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """As of `Tensor`."""
        return self.parameter_shape

    @property
    def dtype(self) -> str:
        """As of `Tensor`."""
        return self.storage.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """As of `Tensor`."""
        return self.chunk_shape

    @property
    def entry_bytes(self) -> int:
        """As of `Tensor`."""
        return self.storage.entry_bytes

    @property
    def in_place(self) -> bool:
        """As of `Tensor`."""
        return self.compute_dtype.name == self.dtype

    @property
    def codecs(self) -> tuple[str, ...]:
        """As of `Tensor`."""
        return ("bytes", *self.storage.codecs)

    @property
    def compressed(self) -> bool:
        """As of `Tensor`: chunks with a checksum are checked whole, objects are fetched whole."""
        return self.storage.remote or bool(self.storage.codecs)

    @property
    def read_in_part(self) -> bool:
        """As of `Tensor`."""
        return not self.compressed

    @property
    def reader(self) -> str:
        """As of `Tensor`."""
        return "direct" if set(self.storage.codecs) <= {"crc32c"} or self._is_packed else "zarrs"

    @property
    def decoding_bytes(self) -> int:
        """As of `Tensor`: what is not compressed goes from files right into its place."""
        if self.reader != "direct":
            return super().decoding_bytes
        if self._is_packed:
            return packed_chunks.held_bytes(self._chunk_bytes)
        stored = self._chunk_bytes + uncompressed_chunks.CHECKSUM_BYTES * bool(self.storage.codecs)
        return stored if self.storage.remote else 0

    @property
    def _chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.entry_bytes

    @property
    def _is_packed(self) -> bool:
        return not self.storage.remote and packed_chunks.is_packed(self.storage.codecs, self._chunk_bytes)

    @property
    def waiting_bytes(self) -> int:
        """As of `Tensor`."""
        return UNDER_WAY if self.storage.remote else 0

    @property
    def chunk_seconds(self) -> float:
        """As of `Tensor`."""
        if self.storage.remote:
            return REMOTE_CHUNK_SECONDS
        if self._is_packed:
            return packed_chunks.CHUNK_SECONDS
        return uncompressed_chunks.CHUNK_SECONDS if self.reader == "direct" else ZARRS_CHUNK_SECONDS

    def read(self, *_: Any) -> None:
        """Raises DataError: there is nothing."""
        raise DataError(f"tensor '{self.name}' is declared, and not recorded: it can be planned for only")


def declared_log(path: str | os.PathLike[str]) -> GradientLog:
    """A log as a JSON file declares it, for `describe_plan`; docs/scale.md has its fields.

    Raises StoreNotFoundError where there is no file, and DataError, naming file and field, for what it
    should not hold.
    """
    place = os.fspath(path)
    try:
        document = json.loads(Path(place).read_text("utf-8"))
    except FileNotFoundError as error:
        raise StoreNotFoundError(f"{place}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise DataError(f"{place}: no JSON that can be read: {reason}") from error
    try:
        storage, tensors = _tensors(document)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error
    return GradientLog(path=place, tensors=tensors, rows=storage.rows, step=np.arange(storage.rows))


def _tensors(document: Any) -> tuple[Storage, tuple[DeclaredTensor, ...]]:
    """Raises ValueError, naming the field, for what makes no log."""
    fields = Fields(Fields.of(document, "it").held)
    for name in fields.held:
        if name not in FIELDS:
            raise ValueError(f"field {name!r} is unknown: known are {', '.join(FIELDS)}")
    storage = Storage(
        fields.count("rows", least=1, most=1 << 40),
        _one_of(fields.text("dtype"), tuple(ENTRY_BYTES), "dtype"),
        tuple(_one_of(codec, CODECS, "codecs") for codec in _maybe(fields, "codecs", fields.texts, ())),
        _maybe(fields, "remote", fields.flag, False),
    )
    size = _count(fields, "chunk_bytes", CHUNK_BYTES, most=MOST_CHUNK_BYTES)
    height = _count(fields, "chunk_rows", 1, most=storage.rows)
    shapes, chunks = fields.inner("tensors"), Fields({}, "chunks")
    if fields.has("chunks"):
        chunks = fields.inner("chunks")
    if not shapes.held:
        raise ValueError("tensors is an empty object: give each tensor's shape by its name")
    for name in chunks.held:
        if name not in shapes.held:
            raise ValueError(f"{chunks.where(name)} is of no tensor")
    tensors: dict[str, DeclaredTensor] = {}
    for key in shapes.held:
        shape = shapes.counts(key)
        if key in chunks.held:
            chunk = _chunk(chunks, key, storage.rows, shape)
        else:
            chunk = (height, *even_chunks(shape, max(1, size // (height * storage.entry_bytes))))
        for name in _names(as_text(key, "tensors")):
            if name in tensors:
                raise ValueError(f"tensors holds {name!r} twice")
            if len(tensors) == MOST_TENSORS:
                raise ValueError(f"tensors holds more than {MOST_TENSORS:,}")
            tensors[name] = DeclaredTensor(name, storage, shape, chunk)
    parameters = sum(tensor.parameters for tensor in tensors.values())
    if not 0 < parameters <= MOST_PARAMETERS:
        raise ValueError(f"tensors holds {parameters:,} parameters, not from 1 to {MOST_PARAMETERS:,}")
    return storage, tuple(tensors[name] for name in sorted(tensors))


def _names(key: str) -> Iterator[str]:
    """The name itself, or for {A:B} in it one for each number from A to B - 1."""
    found = _NUMBERS.search(key)
    if found is None:
        yield key
        return
    for number in range(int(found[1]), int(found[2])):
        yield from _names(f"{key[: found.start()]}{number}{key[found.end() :]}")


def _maybe(fields: Fields, name: str, read: Any, default: Any) -> Any:
    return read(name) if name in fields.held else default


def _count(fields: Fields, name: str, default: int, most: int) -> int:
    return fields.count(name, least=1, most=most) if name in fields.held else default


def _one_of(value: str, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        raise ValueError(f"{where} is {value!r}: known are {', '.join(known)}")
    return value


def _chunk(chunks: Fields, name: str, rows: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    where = chunks.where(name)
    found = tuple(as_count(size, f"{where}[{at}]", least=1) for at, size in enumerate(chunks.items(name)))
    if len(found) != 1 + len(shape):
        raise ValueError(
            f"{where} has {len(found)} extents, not {1 + len(shape)}: rows, and the tensor's axes"
        )
    return (min(found[0], rows), *(min(a, max(1, b)) for a, b in zip(found[1:], shape, strict=True)))
