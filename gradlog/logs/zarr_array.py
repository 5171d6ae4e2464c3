"""Zarr arrays of the metadata of nodes: decoded by zarr-python, and by zarrs where that is as strict."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numcodecs
import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.storage import LocalStore, StorePath

from ..errors import DataError, first_line
from .entry_types import stored_type
from .hierarchy import Node
from .places.remote_store import RemoteStore
from .store import ARRAY_CONFIG

_STRICT_V3 = frozenset({"bytes", "transpose", "crc32c", "blosc"})
_STRICT_V2 = frozenset({"blosc"})
"""Codecs that zarrs refuses wherever zarr-python does, given whole chunks. It passes over what follows the
stream of gzip and bz2, and over the end of that of zlib (tests/test_damage.py finds it out), and it ends the
process where a header of zstd claims more than there is memory."""
ZSTD_MOST = 1 << 15
"""Bytes that a byte of Zstandard may stand for: a block of 128 KiB takes four (RFC 8878, 3.1.1.2)."""
_PACKAGES = {
    "zfpy": "zfpy",
    "pcodec": "pcodec",
    "msgpack2": "msgpack",
    "crc32c": "google-crc32c",
    "blosc2": "blosc2",
    "snappy": "python-snappy",
}


def make_array(place: StorePath, node: Node) -> zarr.Array[Any]:
    """The Zarr array of a node, decoded as Zarr's settings say; bits of bfloat16 are uint16.

    Raises DataError, without the store's name, for metadata that Zarr cannot follow.
    """
    try:
        metadata = _metadata(node)
        guard_codecs(metadata)
        array = zarr.Array(zarr.AsyncArray(metadata, place / node.path, ARRAY_CONFIG))
    except Exception as error:
        raise DataError(_why(node, error)) from error
    try:
        chunks, shards = array.chunks, array.shards
    except NotImplementedError as error:
        raise DataError("chunks of uneven sizes are not read: write it anew") from error
    except Exception as error:
        raise DataError(_why(node, error)) from error
    for sizes in (chunks, shards or chunks):
        if any(size < 1 and extent > 0 for size, extent in zip(sizes, array.shape, strict=True)):
            raise DataError(f"its chunks have the shape {tuple(sizes)}: the metadata is damaged")
    if shards is not None and any(s % max(1, c) for s, c in zip(shards, chunks, strict=True)):
        raise DataError(f"its shards {tuple(shards)} hold no whole number of chunks {tuple(chunks)}")
    return array


def padded_array(array: zarr.Array[Any]) -> zarr.Array[Any] | None:
    """The array, as long as its chunks reach, decoded by zarrs; None where that is not to be used.

    A chunk at an edge can so be read whole, and whatever it is checked by is looked at. Zarr's settings have
    to name zarrs.
    """
    place = array.store_path
    if isinstance(place.store, RemoteStore) and array.shards is not None:
        # Of other chunks it asks for the size first, and for two at a time.
        try:
            place = StorePath(place.store.for_zarrs, place.path)
        except Exception:
            return None
    elif not isinstance(place.store, LocalStore):
        return None
    if not np.dtype(array.dtype).isnative:
        return None
    if not _is_strict(array.metadata):
        return None
    try:
        str(getattr(place.store, "root", "")).encode()
        whole = array.shards or array.chunks
        shape = tuple(-(-extent // size) * size for extent, size in zip(array.shape, whole, strict=True))
        metadata: Any = array.metadata.update_shape(shape)
        found = zarr.Array(zarr.AsyncArray(metadata, place, ARRAY_CONFIG))
    except Exception:  # zarr-python reads it, or says what is wrong
        return None
    return found if getattr(found._async_array.codec_pipeline, "impl", None) is not None else None


def guard_codecs(metadata: Any) -> None:
    """Let Blosc and zstd of an array hold the sizes in a chunk's header against what is there.

    Blosc itself believes it, and reads past the end of a chunk that was cut short; zstd asks for that memory.
    """
    if isinstance(metadata, ArrayV2Metadata):
        stages: Iterable[Any] = [*(metadata.filters or ()), metadata.compressor]
        if any(type(stage) in _GUARDS for stage in stages):
            filters = metadata.filters and tuple(map(_guarded, metadata.filters))
            object.__setattr__(metadata, "filters", filters)
            object.__setattr__(metadata, "compressor", _guarded(metadata.compressor))
        return
    for codec in _nested(metadata.codecs):
        # Cached on first use: by zarr, and by zarr's numcodecs.
        for word in ("_blosc_codec", "_zstd_codec", "_codec"):
            if hasattr(type(codec), word) and type(found := getattr(codec, word)) in _GUARDS:
                codec.__dict__[word] = _guarded(found)


class GuardedBlosc(Blosc):  # type: ignore[misc]
    """Blosc that refuses a chunk of fewer bytes than its header says."""

    codec_id = Blosc.codec_id

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decompress. Raises ValueError for a chunk that was cut short."""
        chunk = memoryview(buf).cast("B") if not isinstance(buf, np.ndarray) else buf.reshape(-1).view("u1")
        size = len(chunk)
        told = int.from_bytes(bytes(chunk[12:16]), "little")
        if size < 16 or size < told:
            raise ValueError(f"Blosc chunk of {size} bytes, {max(16, told)} by its header: it was cut short")
        return super().decode(buf, out)


class GuardedZstd(Zstd):  # type: ignore[misc]
    """Zstandard that refuses a chunk whose header says that it holds more than it can."""

    codec_id = Zstd.codec_id

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decompress. Raises ValueError for a chunk that cannot hold what its header says."""
        chunk = np.frombuffer(buf, np.uint8)
        told = zstd_size(chunk)
        if told is not None and told > ZSTD_MOST * max(1, chunk.size):
            raise ValueError(f"zstd chunk of {chunk.size} bytes that says it holds {told}: it is damaged")
        return super().decode(buf, out)


def zstd_size(packed: NDArray[np.uint8]) -> int | None:
    """Bytes that a frame of Zstandard holds, by its header (RFC 8878, 3.1.1.1); None where it doesn't say."""
    head = packed[:18].tobytes()
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return None
    told, alone = head[4] >> 6, head[4] >> 5 & 1
    width = (1 << told) if told or alone else 0
    at = 5 + (1 - alone) + (0, 1, 2, 4)[head[4] & 3]
    if not width or len(head) < at + width:
        return None
    return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)


_GUARDS: dict[type, type] = {Blosc: GuardedBlosc, Zstd: GuardedZstd}


def _guarded(codec: Any) -> Any:
    guard = _GUARDS.get(type(codec))
    if guard is None:
        return codec
    return guard(**{key: value for key, value in codec.get_config().items() if key != "id"})


def _nested(codecs: Iterable[Any]) -> Iterable[Any]:
    for codec in codecs:
        yield codec
        yield from _nested(getattr(codec, "codecs", ()))


def codec_names(metadata: Any) -> tuple[str, ...]:
    """Names of an array's codecs in the order of encoding; of shards, those inside follow `sharding`."""
    if isinstance(metadata, ArrayV2Metadata):
        stages = [*(metadata.filters or ()), metadata.compressor]
        return tuple(stage.codec_id for stage in stages if stage is not None)
    names = tuple(_names(dict(metadata.to_dict())["codecs"]))
    return tuple("sharding" if n == "sharding_indexed" else n.removeprefix("numcodecs.") for n in names)


def inner_codec_names(metadata: Any) -> tuple[str, ...]:
    """Names of the codecs of the chunks inside an array's shards, in the order of encoding."""
    (sharding,) = dict(metadata.to_dict())["codecs"]
    return tuple(_names(sharding["configuration"]["codecs"]))


def _names(codecs: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for codec in codecs:
        yield codec["name"]
        yield from _names(codec.get("configuration", {}).get("codecs", ()))


def _is_strict(metadata: Any) -> bool:
    """Whether zarrs refuses whatever zarr-python refuses, given whole chunks."""
    if isinstance(metadata, ArrayV2Metadata):
        known = metadata.compressor is None or metadata.compressor.codec_id in _STRICT_V2
        return known and not metadata.filters and metadata.order == "C"
    codecs = [codec.to_dict() for codec in metadata.codecs]
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        inside: Any = codecs[0]["configuration"]
        index = [codec["name"] for codec in inside["index_codecs"]]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            return False
        codecs = inside["codecs"]
    return all(codec["name"] in _STRICT_V3 for codec in codecs)


def _metadata(node: Node) -> Any:
    if node.zarr_format == 2:
        document = {**node.document, "attributes": dict(node.attributes)}
        if stored_type(node) in ("bfloat16", "void16"):
            document |= {"dtype": "<u2", "fill_value": _bits(node.document.get("fill_value"))}
        chunks = document.get("chunks")
        if not isinstance(chunks, list) or not all(isinstance(size, int) for size in chunks):
            raise ValueError(f"its chunks are {chunks!r:.60}")
        return ArrayV2Metadata.from_dict(document)
    document = dict(node.document)
    if stored_type(node) in ("bfloat16", "r16"):
        document |= {"data_type": "uint16", "fill_value": _bits(node.document.get("fill_value"))}
    _check_codecs(document.get("codecs"))
    return ArrayV3Metadata.from_dict(document)


def _check_codecs(codecs: Any) -> None:
    """Raise ValueError for lists of codecs that Zarr would stumble over."""
    if not isinstance(codecs, list) or not codecs:
        raise ValueError("it names no codecs")
    for codec in codecs:
        inside = codec.get("configuration") if isinstance(codec, dict) else None
        if isinstance(inside, dict) and codec.get("name") == "sharding_indexed":
            if not isinstance(inside.get("index_codecs", [{}]), list) or not inside.get("index_codecs", [{}]):
                raise ValueError("the index of its shards has no codecs")
            sizes = inside.get("chunk_shape")
            if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
                raise ValueError(f"the chunks in its shards have the shape {sizes!r:.60}")
            _check_codecs(inside.get("codecs"))


def _bits(fill: Any) -> int:
    """The bits of a fill value of bfloat16: a number, its bits in hexadecimal, bytes of v3, or text of v2."""
    if fill is None:
        return 0
    if isinstance(fill, list):
        return int.from_bytes(bytes(fill), "little")
    if isinstance(fill, str) and fill.startswith("0x"):
        return int(fill, 16)
    if isinstance(fill, str) and fill not in ("NaN", "Infinity", "-Infinity"):
        return int.from_bytes(base64.standard_b64decode(fill), "little")
    if math.isnan(float(fill)):
        return 0x7FC0
    bits = int(np.float32(fill).view(np.uint32))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def _why(node: Node, error: Exception) -> str:
    """What is wrong, and what to install where that is all."""
    unknown = [name for name in _declared_codecs(node) if not _is_known(node, name)]
    if unknown:
        package = _PACKAGES.get(unknown[0].removeprefix("numcodecs."))
        if unknown[0].startswith("imagecodecs"):
            package = "imagecodecs"
        cure = f"pip install {package}" if package else "install the package that brings it"
        return f"its codec '{unknown[0]}' is not there: {cure}"
    kind = stored_type(node)
    told = first_line(error)
    if "data type" in told.lower() or "dtype" in told.lower():
        return f"arrays of {kind} are not read: {told}"
    return f"the metadata cannot be read: {told}"


def _declared_codecs(node: Node) -> list[str]:
    def named(codecs: Any) -> Iterable[str]:
        for codec in codecs if isinstance(codecs, list) else ():
            if isinstance(codec, dict) and isinstance(codec.get("name"), str):
                yield codec["name"]
                inside = codec.get("configuration")
                if isinstance(inside, dict):
                    yield from named(inside.get("codecs"))
            elif isinstance(codec, str):
                yield codec

    if node.zarr_format == 3:
        return list(named(node.document.get("codecs")))
    filters = node.document.get("filters")
    stages = itertools.chain(filters if isinstance(filters, list) else (), [node.document.get("compressor")])
    return [str(stage["id"]) for stage in stages if isinstance(stage, dict) and "id" in stage]


def _is_known(node: Node, name: str) -> bool:
    try:
        if node.zarr_format == 2:
            numcodecs.get_codec({"id": name})
        else:
            from zarr.registry import get_codec_class

            get_codec_class(name)
    except (KeyError, ValueError, ImportError) as error:
        return not ("not available" in str(error) or isinstance(error, KeyError | ImportError))
    except Exception:
        return True  # of a known codec without its settings
    return True
