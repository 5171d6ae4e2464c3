"""Inventory of a tensor's chunks: which are stored, taken from names and shard indexes, nothing decoded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarr.storage import LocalStore

from ..errors import DataError
from .store import first_line

_ABSENT = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class ChunkInventory:
    """Chunks that hold committed rows of one tensor.

    expected : chunks of the grid that reach below row `rows`; absent : coordinates of those not stored,
    in order (inner chunks of shards, where there are shards); stored_bytes : encoded size of what is
    stored, uncommitted rows included; None when not asked for
    """

    expected: int
    absent: tuple[tuple[int, ...], ...]
    stored_bytes: int | None

    def since(self, array: zarr.Array[Any], row: int) -> ChunkInventory:
        """The part of the inventory whose chunks reach row `row` or later."""
        first = row // array.chunks[0]
        before = first * int(np.prod(grid_shape(array.shape[1:], array.chunks[1:])))
        absent = tuple(chunk for chunk in self.absent if chunk[0] >= first)
        return ChunkInventory(self.expected - before, absent, self.stored_bytes)

    def absent_rows(self, array: zarr.Array[Any], rows: int) -> tuple[int, int]:
        """First and last row (inclusive) that the absent chunks touch."""
        height = array.chunks[0]
        first = min(chunk[0] for chunk in self.absent) * height
        last = (max(chunk[0] for chunk in self.absent) + 1) * height - 1
        return first, min(last, rows - 1)


def take_inventory(name: str, array: zarr.Array[Any], rows: int, *, sizes: bool = False) -> ChunkInventory:
    """Hold an array's chunk grid against the keys in the store.

    Parameters
    ----------
    name : what to call the array in errors
    rows : committed rows; chunks wholly past them don't count
    sizes : also add up the encoded bytes

    Raises DataError when the store cannot be listed.
    """
    try:
        stored = dict(_stored_keys(array, sizes))
    except Exception as error:
        raise DataError(f"tensor '{name}': its chunks cannot be listed: {first_line(error)}") from error
    shape = (rows, *array.shape[1:])
    expected = int(np.prod(grid_shape(shape, array.chunks)))
    encode = array.metadata.encode_chunk_key
    absent: list[tuple[int, ...]] = []
    for coordinates in itertools.product(*map(range, grid_shape(shape, array.shards or array.chunks))):
        present = encode(coordinates) in stored
        if array.shards is not None:
            absent.extend(_absent_in_shard(name, array, coordinates, shape, present))
        elif not present:
            absent.append(coordinates)
    total = sum(stored.values()) if sizes else None
    return ChunkInventory(expected, tuple(sorted(absent)), total)


def grid_shape(shape: Sequence[int], chunks: Sequence[int]) -> tuple[int, ...]:
    """Number of chunks along each axis."""
    return tuple(-(-extent // max(1, size)) for extent, size in zip(shape, chunks, strict=True))


def _stored_keys(array: zarr.Array[Any], sizes: bool) -> Iterable[tuple[str, int]]:
    store, prefix = array.store_path.store, array.store_path.path
    if isinstance(store, LocalStore):
        # zarr's own listing walks with pathlib, several times slower on stores of many chunks.
        yield from _walk(str(store.root / prefix), "", sizes)
        return

    async def listed() -> list[tuple[str, int]]:
        head = f"{prefix}/" if prefix else ""
        keys = [key async for key in store.list_prefix(head)]
        return [(key.removeprefix(head), await store.getsize(key) if sizes else 0) for key in keys]

    yield from sync(listed())


def _walk(folder: str, relative: str, sizes: bool) -> Iterable[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path, f"{relative}{entry.name}/", sizes)
            else:
                yield relative + entry.name, entry.stat().st_size if sizes else 0


def _absent_in_shard(
    name: str, array: zarr.Array[Any], shard: tuple[int, ...], shape: Sequence[int], present: bool
) -> Iterable[tuple[int, ...]]:
    """Coordinates (in the grid of inner chunks) of the committed chunks that a shard lacks."""
    assert array.shards is not None
    inner = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    limits = grid_shape(shape, array.chunks)
    index = _shard_index(name, array, shard, inner) if present else np.zeros(inner, bool)
    if index is None:
        return
    for offset in np.argwhere(~index).tolist():
        chunk = tuple(s * n + o for s, n, o in zip(shard, inner, offset, strict=True))
        if all(c < limit for c, limit in zip(chunk, limits, strict=True)):
            yield chunk


def _shard_index(
    name: str, array: zarr.Array[Any], shard: tuple[int, ...], inner: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """Which inner chunks a shard stores; None where its index is encoded in a way that isn't known here."""
    from zarr.abc.store import RangeByteRequest, SuffixByteRequest
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
    from zarr.core.buffer import default_buffer_prototype

    codecs = getattr(array.metadata, "codecs", ())
    codec = next(c for c in codecs if isinstance(c, ShardingCodec))
    coding, *rest = codec.index_codecs
    known = isinstance(coding, BytesCodec) and all(isinstance(c, Crc32cCodec) for c in rest)
    if not known or len(rest) > 1:
        return None
    size = 16 * int(np.prod(inner)) + 4 * len(rest)
    at_end = str(getattr(codec.index_location, "value", codec.index_location)) == "end"
    request = SuffixByteRequest(size) if at_end else RangeByteRequest(0, size)
    path = array.store_path
    key = "/".join(part for part in (path.path, array.metadata.encode_chunk_key(shard)) if part)
    try:
        data = sync(path.store.get(key, default_buffer_prototype(), request))
    except Exception as error:
        raise DataError(
            f"tensor '{name}': the index of shard {key} cannot be read: {first_line(error)}"
        ) from error
    raw = b"" if data is None else data.to_bytes()
    if len(raw) != size:
        raise DataError(f"tensor '{name}': shard {key} is cut short: its index is incomplete")
    endian = getattr(getattr(coding, "endian", None), "value", getattr(coding, "endian", "little"))
    order = ">" if endian == "big" else "<"
    entries = np.frombuffer(raw[: size - 4 * len(rest)], dtype=f"{order}u8").reshape(*inner, 2)
    stored: NDArray[np.bool_] = entries[..., 0] != _ABSENT
    # An index without a checksum may say anything, and codecs would believe it.
    whole = sync(path.store.getsize(key))
    starts, lengths = entries[..., 0][stored], entries[..., 1][stored]
    if bool(np.any((starts > whole) | (lengths > whole) | (lengths == 0))) or bool(
        np.any(starts + lengths > whole)
    ):
        raise DataError(
            f"tensor '{name}': the index of shard {key} is damaged: it points outside of the shard"
        )
    return stored
