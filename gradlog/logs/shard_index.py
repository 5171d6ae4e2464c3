"""Where the chunks of a shard lie in it: the index, and the checksums of the chunks that it points to."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from ..quick_dataclass import dataclass

ABSENT = np.uint64(0xFFFFFFFFFFFFFFFF)

Checksum = Callable[[Any], int]


@dataclass(frozen=True)
class IndexLayout:
    """How the index of an array's shards is stored.

    inner : chunks of a shard along each axis; at_end : behind the chunks, else before them
    checked : four bytes of crc32c follow; order : of the bytes of its numbers, "<" or ">"
    """

    inner: tuple[int, ...]
    at_end: bool
    checked: bool
    order: str

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> IndexLayout | None:
        """Of a sharded array; None where the index is encoded in a way that isn't known here."""
        assert array.shards is not None
        codec = next(c for c in getattr(array.metadata, "codecs", ()) if isinstance(c, ShardingCodec))
        coding, *rest = codec.index_codecs
        known = isinstance(coding, BytesCodec) and all(isinstance(c, Crc32cCodec) for c in rest)
        if not known or len(rest) > 1:
            return None
        endian = getattr(getattr(coding, "endian", None), "value", getattr(coding, "endian", "little"))
        location = str(getattr(codec.index_location, "value", codec.index_location))
        inner = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
        return cls(inner, location == "end", bool(rest), ">" if endian == "big" else "<")

    @property
    def nbytes(self) -> int:
        """Size of the index."""
        return 16 * math.prod(self.inner) + 4 * self.checked

    def entries(self, raw: bytes) -> NDArray[np.uint64]:
        """(*inner, 2) offset and size of each chunk; ABSENT twice for those that are not stored."""
        count = self.nbytes - 4 * self.checked
        return np.frombuffer(raw[:count], dtype=f"{self.order}u8").astype(np.uint64).reshape(*self.inner, 2)


def crc32c() -> Checksum:
    """The function that zarr-python itself takes: of bytes, the checksum."""
    try:
        import google_crc32c

        value: Checksum = google_crc32c.value
    except ImportError:  # zarr before 3.1.4
        from crc32c import crc32c as value  # type: ignore[import-not-found, no-redef]
    return value


def check_chunks(array: zarr.Array[Any], layout: IndexLayout, where: tuple[slice, ...]) -> None:
    """Raise ValueError where a chunk in a box does not match the crc32c that ends it.

    array : sharded, in a folder on disk, of chunks whose last codec is crc32c; where : slices of its axes
    """
    checksum = crc32c()
    store: Any = array.store_path.store
    root = os.path.join(store.root, array.store_path.path)  # noqa: PTH118 (fast)
    spans = [range(w.start // c, -(-w.stop // c)) for w, c in zip(where, array.chunks, strict=True)]
    shards = [
        range(span.start // n, (span.stop - 1) // n + 1) for span, n in zip(spans, layout.inner, strict=True)
    ]
    for shard in itertools.product(*shards):
        try:
            place = f"{root}/{array.metadata.encode_chunk_key(shard)}"
            file = open(place, "rb")  # noqa: PTH123, SIM115 (fast)
        except FileNotFoundError:
            continue
        with file:
            size = os.fstat(file.fileno()).st_size
            raw = os.pread(file.fileno(), layout.nbytes, max(0, size - layout.nbytes) if layout.at_end else 0)
            if len(raw) < layout.nbytes:
                raise ValueError("a shard without its whole index")
            inside = tuple(
                slice(max(0, span.start - s * n), span.stop - s * n)
                for span, s, n in zip(spans, shard, layout.inner, strict=True)
            )
            for offset, length in layout.entries(raw)[inside].reshape(-1, 2).tolist():
                if offset == int(ABSENT):
                    continue
                chunk = os.pread(file.fileno(), length, offset) if length <= size else b""
                if len(chunk) != length or length < 4:
                    raise ValueError("a chunk past the end of its shard")
                # Of views of bytes it takes NumPy's alone.
                if checksum(np.frombuffer(chunk, np.uint8)[:-4]) != int.from_bytes(chunk[-4:], "little"):
                    raise ValueError("a chunk that does not match its checksum")
