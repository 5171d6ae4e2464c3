"""The chunks that a Zarr array has in its store, from names and the indexes of shards; nothing is decoded."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from ..errors import DataError, first_line
from .inventory import ChunkInventory, grid_shape
from .shard_index import ABSENT, IndexLayout


def take_inventory(
    name: str, array: zarr.Array[Any], rows: int, *, axis: int = 0, sizes: bool = False
) -> ChunkInventory:
    """Hold an array's chunk grid against the keys in the store.

    Parameters
    ----------
    name : what to call the array in errors
    rows : committed rows; chunks wholly past them don't count
    axis : number of the axis that rows lie along
    sizes : also add up the encoded bytes

    Raises DataError when the store cannot be listed, or when chunks lie under other keys than the metadata
    says.
    """
    shape = (*array.shape[:axis], rows, *array.shape[axis + 1 :])
    shards, chunk = array.shards, array.chunks  # each is worked out when it is asked for
    expected = math.prod(grid_shape(shape, chunk))
    grid = itertools.product(*map(range, grid_shape(shape, shards or chunk)))
    encode = chunk_keys(array)
    total = None
    try:
        store = array.store_path.store
        if sizes or not isinstance(store, LocalStore) or "/" not in encode((0,) * array.ndim):
            stored = dict(_stored_keys(array, sizes))
            total = sum(stored.values()) if sizes else None
            there = [(coordinates, encode(coordinates) in stored) for coordinates in grid]
        else:
            # Keys with slashes are folders of few files each, dearer to list than to look for.
            root = str(store.root / array.store_path.path)
            exists = os.path.exists
            there = [(coordinates, exists(f"{root}/{encode(coordinates)}")) for coordinates in grid]
    except Exception as error:
        raise DataError(f"tensor '{name}': its chunks cannot be listed: {first_line(error)}") from error
    absent: list[tuple[int, ...]] = []
    for coordinates, present in there:
        if shards is not None:
            absent.extend(_absent_in_shard(name, array, coordinates, shape, present))
        elif not present:
            absent.append(coordinates)
    if expected and len(absent) == expected:
        _check_keys(name, array, dict(_stored_keys(array, False)))
    chunks = (*chunk[:axis], *chunk[axis + 1 :])
    across = math.prod(grid_shape((*array.shape[:axis], *array.shape[axis + 1 :]), chunks))
    height = max(1, chunk[axis])
    return ChunkInventory(expected, tuple(sorted(absent)), total, axis, height, across)


def chunk_keys(array: zarr.Array[Any]) -> Callable[[tuple[int, ...]], str]:
    """Keys of chunks by their coordinates: `encode_chunk_key` asks for the rules anew for each one."""
    encode = array.metadata.encode_chunk_key
    text = re.sub(r"0(?=\D|$)", "%d", encode((0,) * array.ndim).replace("%", "%%"))
    tried = tuple(range(11, 11 + array.ndim))
    if text.count("%d") != array.ndim or text % tried != encode(tried):
        return encode
    return lambda coordinates: text % coordinates


def _check_keys(name: str, array: zarr.Array[Any], stored: Iterable[str]) -> None:
    """Raise DataError where no chunk has the key that it should have, and others are there."""
    origin = array.metadata.encode_chunk_key((0,) * array.ndim)
    odd = sorted(key for key in stored if re.fullmatch(r"(c[/.])?\d+([/.]\d+)*", key) and key != "c")
    known = re.compile(re.sub(r"\d+", r"\\d+", re.escape(origin)))
    odd = [key for key in odd if not known.fullmatch(key)]
    if odd:
        raise DataError(
            f"tensor '{name}': none of its chunks is found where its metadata says ('{origin}'), but "
            f"{len(odd)} such as '{odd[0]}' are there: mend `dimension_separator` or `chunk_key_encoding`"
        )


def _stored_keys(array: zarr.Array[Any], sizes: bool) -> Iterable[tuple[str, int]]:
    store, prefix = array.store_path.store, array.store_path.path
    if isinstance(store, LocalStore):
        # zarr's own listing walks with pathlib, several times slower on stores of many chunks.
        yield from _walk(str(store.root / prefix), sizes)
        return

    async def listed() -> list[tuple[str, int]]:
        head = f"{prefix}/" if prefix else ""
        keys = [key async for key in store.list_prefix(head)]
        return [(key.removeprefix(head), await store.getsize(key) if sizes else 0) for key in keys]

    yield from sync(listed())


def _walk(root: str, sizes: bool) -> Iterable[tuple[str, int]]:
    folders = [("", root)]
    while folders:
        relative, place = folders.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append((f"{relative}{entry.name}/", entry.path))
                else:
                    yield relative + entry.name, entry.stat().st_size if sizes else 0


def _absent_in_shard(
    name: str, array: zarr.Array[Any], shard: tuple[int, ...], shape: Sequence[int], present: bool
) -> Iterable[tuple[int, ...]]:
    """Coordinates (in the grid of inner chunks) of the committed chunks that a shard lacks."""
    layout = IndexLayout.of(array)
    if layout is None:
        return
    limits = grid_shape(shape, array.chunks)
    stored = _stored_chunks(name, array, shard, layout) if present else np.zeros(layout.inner, bool)
    for offset in np.argwhere(~stored).tolist():
        chunk = tuple(s * n + o for s, n, o in zip(shard, layout.inner, offset, strict=True))
        if all(c < limit for c, limit in zip(chunk, limits, strict=True)):
            yield chunk


def _stored_chunks(
    name: str, array: zarr.Array[Any], shard: tuple[int, ...], layout: IndexLayout
) -> NDArray[np.bool_]:
    """Which inner chunks a shard stores."""
    request = SuffixByteRequest(layout.nbytes) if layout.at_end else RangeByteRequest(0, layout.nbytes)
    path = array.store_path
    key = "/".join(part for part in (path.path, array.metadata.encode_chunk_key(shard)) if part)
    try:
        data = sync(path.store.get(key, default_buffer_prototype(), request))
    except Exception as error:
        raise DataError(
            f"tensor '{name}': the index of shard {key} cannot be read: {first_line(error)}"
        ) from error
    raw = b"" if data is None else data.to_bytes()
    if len(raw) != layout.nbytes:
        raise DataError(f"tensor '{name}': shard {key} is cut short: its index is incomplete")
    entries = layout.entries(raw)
    stored: NDArray[np.bool_] = entries[..., 0] != ABSENT
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
