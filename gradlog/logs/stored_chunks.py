"""The chunks that a Zarr array has in its store, from names and the indexes of shards; nothing is decoded."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import StorePath

from ..errors import DataError, first_line
from .inventory import ChunkInventory, grid_shape
from .places.objects_of import objects_of
from .places.store_objects import Piece, StoreObjects
from .shard_index import ABSENT, IndexLayout


def list_ahead(arrays: Sequence[tuple[zarr.Array[Any], int, int]]) -> None:
    """Let stores that are far away list the chunks of arrays together, before `take_inventory` takes each.

    arrays : with the committed rows and the number of the axis that they lie along

    Raises DataError where a store cannot be listed.
    """
    by_store: dict[int, list[tuple[zarr.Array[Any], int, int]]] = {}
    for each in arrays:
        by_store.setdefault(id(each[0].store_path.store), []).append(each)
    for together in by_store.values():
        objects = objects_of(StorePath(together[0][0].store_path.store))
        if not objects.lists_ahead:
            continue
        expected = {}
        for array, rows, axis in together:
            shape = (*array.shape[:axis], rows, *array.shape[axis + 1 :])
            grid = itertools.product(*map(range, grid_shape(shape, array.shards or array.chunks)))
            expected[array.store_path.path] = list(map(chunk_keys(array), grid))
        try:
            objects.list_ahead(expected)
        except Exception as error:
            raise DataError(f"its chunks cannot be listed: {first_line(error)}") from error


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
    grid = list(itertools.product(*map(range, grid_shape(shape, shards or chunk))))
    encode = chunk_keys(array)
    keys = [encode(coordinates) for coordinates in grid]
    objects, path = objects_of(StorePath(array.store_path.store)), array.store_path.path
    try:
        total, there = _found(objects, path, keys, sizes=sizes)
        if not all(there) and objects.renew(path):
            total, there = _found(objects, path, keys, sizes=sizes)
    except Exception as error:
        raise DataError(f"tensor '{name}': its chunks cannot be listed: {first_line(error)}") from error
    if shards is not None:
        absent = list(_absent_in_shards(name, array, objects, grid, shape, there))
    else:
        absent = [coordinates for coordinates, present in zip(grid, there, strict=True) if not present]
    if expected and len(absent) == expected:
        _check_keys(name, array, objects.sizes(path, wanted=False))
    chunks = (*chunk[:axis], *chunk[axis + 1 :])
    across = math.prod(grid_shape((*array.shape[:axis], *array.shape[axis + 1 :]), chunks))
    height = max(1, chunk[axis])
    return ChunkInventory(expected, tuple(sorted(absent)), total, axis, height, across)


def _found(
    objects: StoreObjects, path: str, keys: Sequence[str], *, sizes: bool
) -> tuple[int | None, list[bool]]:
    """Bytes of all objects below a folder, None where `sizes` are not asked for, and which keys are there."""
    if not sizes:
        return None, objects.present(path, keys)
    stored = objects.sizes(path)
    return sum(stored.values()), [key in stored for key in keys]


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


def _absent_in_shards(
    name: str,
    array: zarr.Array[Any],
    objects: StoreObjects,
    grid: Sequence[tuple[int, ...]],
    shape: Sequence[int],
    there: Sequence[bool],
) -> Iterable[tuple[int, ...]]:
    """Coordinates (in the grid of inner chunks) of the committed chunks that shards lack.

    grid : coordinates of the shards; there : whether each is in the store
    """
    layout = IndexLayout.of(array)
    if layout is None:
        return
    limits = grid_shape(shape, array.chunks)
    encode, path = chunk_keys(array), array.store_path.path
    keys = ["/".join(part for part in (path, encode(shard)) if part) for shard in grid]
    present = [key for key, here in zip(keys, there, strict=True) if here]
    indexes = dict(zip(present, objects.pieces(present, layout.nbytes, at_end=layout.at_end), strict=True))
    for shard, key, here in zip(grid, keys, there, strict=True):
        stored = _stored_chunks(name, key, indexes[key], layout) if here else np.zeros(layout.inner, bool)
        for offset in np.argwhere(~stored).tolist():
            chunk = tuple(s * n + o for s, n, o in zip(shard, layout.inner, offset, strict=True))
            if all(c < limit for c, limit in zip(chunk, limits, strict=True)):
                yield chunk


def _stored_chunks(name: str, key: str, index: Piece | Exception, layout: IndexLayout) -> NDArray[np.bool_]:
    """Which inner chunks a shard stores."""
    if isinstance(index, Exception):
        raise DataError(
            f"tensor '{name}': the index of shard {key} cannot be read: {first_line(index)}"
        ) from index
    if len(index.data) != layout.nbytes:
        raise DataError(f"tensor '{name}': shard {key} is cut short: its index is incomplete")
    entries = layout.entries(index.data)
    stored: NDArray[np.bool_] = entries[..., 0] != ABSENT
    # An index without a checksum may say anything, and codecs would believe it.
    whole = index.whole
    starts, lengths = entries[..., 0][stored], entries[..., 1][stored]
    if bool(np.any((starts > whole) | (lengths > whole) | (lengths == 0))) or bool(
        np.any(starts + lengths > whole)
    ):
        raise DataError(
            f"tensor '{name}': the index of shard {key} is damaged: it points outside of the shard"
        )
    return stored
