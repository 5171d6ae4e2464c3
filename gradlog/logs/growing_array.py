"""An array of a log that nobody sees yet: chunk files that grow by rows, never read back or written again."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from .chunk_encoding import Encoder
from .local_folder import LocalFolder
from .stored_array import GROUP_DOCUMENT, METADATA, Layout, flat_key


class GrowingArray:
    """Rows of a chunk come in order, in pieces of any height, chunks in any order; threads may share it.

    Entries stand in the files as they are, with a checksum behind them. Where they are compressed, each piece
    is a whole chunk.
    """

    def __init__(
        self,
        folder: LocalFolder,
        name: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any],
        axes: Sequence[str | None],
        attributes: Mapping[str, Any],
        layout: Layout,
        *,
        compress: bool,
    ) -> None:
        """Write the metadata. name : path below the root; shape, axes : with the rows first"""
        template, encoder = layout.template(len(shape) - 1, dtype)
        document = template | {
            "shape": list(shape),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "dimension_names": list(axes),
            "attributes": dict(attributes),
        }
        for key in layout.groups_above(name):
            if not (folder.root / key).exists():
                folder.put(key, (GROUP_DOCUMENT,))
        folder.put(f"{name}/{METADATA}", (json.dumps(document, indent=2).encode(),))
        self.shape, self.chunks, self.dtype = shape, chunks, dtype
        self._root: Path = folder.root / name
        self._encoder = encoder if compress else None
        self._checksums: dict[tuple[int, ...], int] = {}
        self._of_thread = threading.local()

    def append(self, chunk: tuple[int, ...], rows: tuple[int, int], batches: Iterable[NDArray[Any]]) -> int:
        """Put rows behind those that a chunk has; returns the bytes written.

        chunk : coordinates; rows : (first, last + 1) of the array; batches : the rows in order, each
        (some of them, *chunk) in C order, zeros beyond the array; a single one where chunks are compressed
        """
        bottom = (chunk[0] + 1) * self.chunks[0]
        ends = rows[1] == min(bottom, self.shape[0])
        padding = bottom - rows[1] if ends else 0
        with (self._root / flat_key(chunk)).open("ab", buffering=0) as file:
            if self._encoder is not None:
                (values,) = batches
                return sum(_write(file, piece) for piece in self._encode(_padded(values, padding)))
            written, checksum = 0, self._checksums.pop(chunk, 0)
            for values in itertools.chain(batches, self._zeros(padding)):
                data = values.reshape(-1).view(np.uint8)
                checksum = google_crc32c.extend(checksum, data)
                written += _write(file, data)
            if ends:
                return written + _write(file, checksum.to_bytes(4, "little"))
            self._checksums[chunk] = checksum
            return written

    def _zeros(self, rows: int) -> Iterator[NDArray[Any]]:
        """What fills up the last chunk along the rows."""
        if rows:
            yield np.zeros((rows, *self.chunks[1:]), self.dtype)

    def _encode(self, values: NDArray[Any]) -> Sequence[Any]:
        """A whole chunk, by what this thread alone uses."""
        assert self._encoder is not None
        encode: Encoder | None = getattr(self._of_thread, "encode", None)
        if encode is None:
            encode = self._of_thread.encode = self._encoder(self.chunks)
        return encode(values)


def _padded(values: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.concatenate([values, np.zeros((rows, *values.shape[1:]), values.dtype)]) if rows else values


def _write(file: Any, data: Any) -> int:
    left = memoryview(data).cast("B")
    size = left.nbytes
    while left.nbytes:
        left = left[file.write(left) :]
    return size
