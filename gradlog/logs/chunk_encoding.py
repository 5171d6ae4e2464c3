"""Chunks as they are stored: plain bytes and their checksum right from memory, others by zarr-python."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from .object_file import Bytes

if TYPE_CHECKING:
    import zarr

Encoder: TypeAlias = "Callable[[NDArray[Any]], Sequence[Bytes]]"
"""Gives the bytes of a chunk, an array in C order of the chunk's shape, in pieces that follow each other."""


def encoding(
    compressors: Sequence[Any], ndim: int, dtype: np.dtype[Any]
) -> tuple[list[Any], Callable[[tuple[int, ...]], Encoder]]:
    """What the metadata says of codecs, and what encodes chunks of a shape: compressed, then checked.

    compressors : Zarr's codecs; ndim : axes of an array without the rows'; dtype : of its entries
    """
    if not compressors:
        return [{"name": "bytes", "configuration": {"endian": sys.byteorder}}, {"name": "crc32c"}], _checker
    from zarr.codecs import Crc32cCodec  # deferred: most logs are written without zarr-python
    from zarr.storage import MemoryStore

    from .new_array import new_array

    ones = (1,) * (ndim + 1)
    array = new_array(MemoryStore(), "", ones, ones, dtype, None, (*compressors, Crc32cCodec()))
    metadata: Any = array.metadata
    return list(json.loads(json.dumps(metadata.to_dict()["codecs"]))), encoder_of(array)


def _checker(shape: tuple[int, ...]) -> Encoder:  # noqa: ARG001 - of any
    return _checked


def chunk_encoder(array: zarr.Array[Any]) -> Encoder:
    """What encodes the chunks of an array as its metadata says."""
    return encoder_of(array)(tuple(array.chunks))


def encoder_of(array: zarr.Array[Any]) -> Callable[[tuple[int, ...]], Encoder]:
    """What encodes chunks of a shape as they would be in an array with the codecs of `array`."""
    metadata: Any = array.metadata
    codecs: list[dict[str, Any]] = [codec.to_dict() for codec in metadata.codecs]
    names = [codec["name"] for codec in codecs]
    endian = codecs[0].get("configuration", {}).get("endian", sys.byteorder)
    if names in (["bytes"], ["bytes", "crc32c"]) and (endian == sys.byteorder or array.dtype.itemsize == 1):
        encode = _checked if len(names) == 2 else _plain
        return lambda _: encode
    return lambda shape: _by_zarr(array, shape)


def _plain(chunk: NDArray[Any]) -> Sequence[Bytes]:
    return (chunk.reshape(-1).view(np.uint8),)


def _checked(chunk: NDArray[Any]) -> Sequence[Bytes]:
    data = chunk.reshape(-1).view(np.uint8)
    checksum: int = google_crc32c.value(data)
    return (data, checksum.to_bytes(4, "little"))


def _by_zarr(array: zarr.Array[Any], shape: tuple[int, ...]) -> Encoder:
    """By an array of one chunk in memory."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync
    from zarr.storage import MemoryStore, StorePath

    from .store import plain_array

    store = MemoryStore()
    metadata: Any = array.metadata
    document = metadata.to_dict() | {"shape": shape}
    document["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": shape}}
    metadata = type(metadata).from_dict(document)
    one = plain_array(zarr.Array(zarr.AsyncArray(metadata, StorePath(store, ""))))
    key = metadata.encode_chunk_key((0,) * array.ndim)

    def encode(chunk: NDArray[Any]) -> Sequence[Bytes]:
        one[...] = chunk
        stored = sync(store.get(key, default_buffer_prototype()))
        assert stored is not None
        return (stored.to_bytes(),)

    return encode
