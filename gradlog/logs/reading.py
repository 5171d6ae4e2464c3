"""Read boxes of a tensor's gradients, decoded so that whatever is stored to check them is looked at.

zarr-python decides what can be read. Chunks stored as their entries are come straight from their files. Of
others zarrs is faster, and as strict where it decodes chunks whole (or inner chunks, where shards hold no
checksums): so chunks that are wanted in part, or reach past the array, are read whole and cut. What either
refuses is read by zarr-python, or refused by it.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype

from ...kernels.bfloat16 import widen_into
from ..errors import DataError, first_line
from ..sizes import extents
from .kept_memory import kept_memory
from .places.remote_errors import RemoteError
from .places.remote_store import RemoteStore
from .shard_index import check_chunks
from .stored_chunks import chunk_keys
from .uncompressed_chunks import UncompressedChunks

if TYPE_CHECKING:
    from .entry_types import EntryType
    from .shard_index import IndexLayout

Box = tuple[slice, ...]

LEAST_ROOM = 16 << 20
"""Bytes of chunks that are decoded at once, whatever memory there is: one chunk at least."""
CONVERTED_BYTES = 1 << 18
"""Bytes of rows, read in part, that are converted at once: they stay in the second cache."""


class Stored(Protocol):
    """What is known of an array that is read: see `zarr_tensor.ZarrTensor`."""

    @property
    def name(self) -> str: ...
    @property
    def array(self) -> zarr.Array[Any]: ...
    @property
    def entries(self) -> EntryType: ...
    @property
    def step_axis(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def compute_dtype(self) -> np.dtype[np.floating[Any]]: ...
    @property
    def entry_bytes(self) -> int: ...
    @property
    def in_place(self) -> bool: ...
    @property
    def read_in_part(self) -> bool: ...
    @property
    def compressed(self) -> bool: ...
    @property
    def unit(self) -> tuple[int, ...]: ...
    @property
    def checked_index(self) -> IndexLayout | None: ...
    @property
    def fast(self) -> UncompressedChunks | zarr.Array[Any] | None: ...
    @property
    def remote(self) -> RemoteStore | None: ...
    def distrust(self) -> None: ...


def read_box(tensor: Stored, rows: tuple[int, int], box: Box, out: NDArray[Any], room: int) -> None:
    """Gradients of a box, converted to the dtype of `out`.

    Parameters
    ----------
    rows : (first, last + 1) stored rows
    box : slices of the tensor's axes
    out : (rows, entries of the box) float32 or float64, filled
    room : bytes to stay within while chunks are decoded, as far as single chunks allow

    Raises DataError, without the store's name, that names the first chunk that cannot be decoded.
    """
    inside = box[:-1] if tensor.entries.reals > 1 else box
    at = tensor.step_axis
    few = max(1, CONVERTED_BYTES * (rows[1] - rows[0]) // max(1, out.size * tensor.entry_bytes))
    if not tensor.in_place and tensor.read_in_part and few < rows[1] - rows[0]:
        for first in range(*rows, few):
            last = min(first + few, rows[1])
            read_box(tensor, (first, last), box, out[first - rows[0] : last - rows[0]], room)
        return
    where = (*inside[:at], slice(*rows), *inside[at:])
    shape = tuple(part.stop - part.start for part in where)
    if tensor.in_place and out.flags.c_contiguous and out.dtype == tensor.array.dtype:
        read_stored(tensor, where, out.reshape(shape), room)
        return
    stored = kept_memory("stored", shape, tensor.array.dtype.newbyteorder("="))
    read_stored(tensor, where, stored, room)
    values = np.moveaxis(stored, at, 0)
    if tensor.dtype == "bfloat16":
        widen_into(values.reshape(out.shape), out)
        return
    if tensor.entries.packing is not None:
        values = tensor.entries.packing.unpack(values, out.dtype)
    elif tensor.entries.reals > 1:
        parts = np.ascontiguousarray(values).view(tensor.compute_dtype).reshape(*values.shape, 2)
        values = parts[..., box[-1]]
    out[...] = values.reshape(out.shape)


def read_stored(tensor: Stored, where: Box, out: NDArray[Any], room: int) -> None:
    """Fill `out` with entries as stored. Otherwise as `read_box`.

    where : slices of the array's axes; out : of their shape, C order, its dtype in the processor's byte order
    """
    room = max(room, LEAST_ROOM)
    if tensor.fast is not None:
        try:
            if isinstance(tensor.fast, UncompressedChunks):
                tensor.fast.read(where, out, room)
            else:
                _by_zarrs(tensor, tensor.fast, where, out, room)
            return
        except MemoryError:
            raise
        except RemoteError as error:
            raise DataError(f"tensor '{tensor.name}': {error}") from None
        except BaseException as error:
            # A panic of Rust is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            _by_zarr_python(tensor, where, out, room)
            tensor.distrust()
            return
    _by_zarr_python(tensor, where, out, room)


def _by_zarrs(tensor: Stored, padded: zarr.Array[Any], where: Box, out: NDArray[Any], room: int) -> None:
    unit = tensor.unit
    if tensor.checked_index is not None:
        check_chunks(tensor.array, tensor.checked_index, where)
    first, last = where[0].start, where[0].stop
    size = unit[0]
    aligned = all(w.start % u == 0 and w.stop % u == 0 for w, u in zip(where[1:], unit[1:], strict=True))
    start, stop = -(-first // size) * size, last // size * size
    if not aligned or start >= stop:
        start = stop = last
    for span in ((first, start), (stop, last)):
        if span[0] < span[1]:
            part = (slice(*span), *where[1:])
            _whole_and_cut(tensor, padded, part, out[span[0] - first : span[1] - first], room)
    if start < stop:
        _select(padded, (slice(start, stop), *where[1:]), out[start - first : stop - first])


def _whole_and_cut(tensor: Stored, padded: zarr.Array[Any], where: Box, out: NDArray[Any], room: int) -> None:
    """Decode whole units, as many at once as there is room for, and copy what is wanted of them."""
    entry = 3 * tensor.array.dtype.itemsize  # as stored, decoded, and to be cut
    for batch in _batches(where, tensor.unit, entry, room):
        whole = kept_memory("whole", [part.stop - part.start for part in batch], tensor.array.dtype)
        _select(padded, batch, whole)
        both = _common(where, batch)
        out[_within(both, where)] = whole[_within(both, batch)]


def _by_zarr_python(tensor: Stored, where: Box, out: NDArray[Any], room: int) -> None:
    try:
        entry = tensor.array.dtype.itemsize * (2 if tensor.compressed else 1)  # as stored, and decoded
        unit = tuple(tensor.array.chunks) if tensor.remote is None else tensor.unit
        if tensor.remote is None or tensor.array.shards is not None:
            batches: Iterable[Box] = _batches(where, unit, entry, room)
        else:
            batches = _fetched(tensor.array, tensor.remote, _batches(where, unit, entry, room // 2))
        for batch in batches:
            both = _common(where, batch)
            _select(tensor.array, both, out[_within(both, where)])
    except MemoryError:
        raise
    except RemoteError as error:
        raise DataError(f"tensor '{tensor.name}': {error}") from None
    except Exception as error:
        raise _fault(tensor, where, error) from error


def _fetched(array: zarr.Array[Any], store: RemoteStore, batches: Iterable[Box]) -> Iterator[Box]:
    """The batches, each once all of its chunks have been asked for, and those of the next."""
    encode, path = chunk_keys(array), array.store_path.path
    asked: collections.deque[tuple[Box, list[str]]] = collections.deque()
    try:
        for batch in batches:
            spans = [range(b.start // c, -(-b.stop // c)) for b, c in zip(batch, array.chunks, strict=True)]
            keys = [f"{path}/{encode(chunk)}".lstrip("/") for chunk in itertools.product(*spans)]
            store.ask(keys)
            asked.append((batch, keys))
            if len(asked) > 1:
                yield asked[0][0]
                store.drop(asked.popleft()[1])
        if asked:
            yield asked[0][0]
    finally:
        for _, keys in asked:
            store.drop(keys)


def _select(array: zarr.Array[Any], where: Box, out: NDArray[Any]) -> None:
    """Let Zarr put a selection in place."""
    if array.dtype != out.dtype or not out.flags.c_contiguous:
        out[...] = np.asarray(array.get_basic_selection(where)).reshape(out.shape)
        return
    target = default_buffer_prototype().nd_buffer.from_numpy_array(out)
    array.get_basic_selection(where, out=target)


def _batches(where: Box, unit: Sequence[int], entry: int, room: int) -> Iterator[Box]:
    """Boxes of whole units that cover `where`, each of about `room` bytes at most, or of one unit."""
    grid = [(w.start // u, -(-w.stop // u)) for w, u in zip(where, unit, strict=True)]
    steps = [1] * len(grid)
    left = max(1, room // max(1, entry * math.prod(unit)))
    for axis in reversed(range(len(grid))):
        steps[axis] = min(grid[axis][1] - grid[axis][0], left)
        left //= steps[axis]
        if left <= 1:
            break
    spans = [
        [(at, min(at + step, last)) for at in range(first, last, step)]
        for (first, last), step in zip(grid, steps, strict=True)
    ]
    for chosen in itertools.product(*spans):
        yield tuple(slice(a * u, b * u) for (a, b), u in zip(chosen, unit, strict=True))


def _common(one: Box, other: Box) -> Box:
    """What two boxes share."""
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def _within(inner: Box, outer: Box) -> Box:
    """A box, counted from where another begins."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))


def _fault(tensor: Stored, where: Box, error: Exception) -> DataError:
    """Name the first chunk of a box that cannot be decoded, by decoding them one at a time."""
    array, at = tensor.array, tensor.step_axis
    for batch in _batches(where, tuple(array.chunks), 1, 1):
        try:
            array.get_basic_selection(
                tuple(slice(b.start, min(b.stop, e)) for b, e in zip(batch, array.shape, strict=True))
            )
        except Exception as found:
            chunk = [b.start // c for b, c in zip(batch, array.chunks, strict=True)]
            last = min(batch[at].stop, array.shape[at]) - 1
            grid = extents([-(-e // c) for e, c in zip(array.shape, array.chunks, strict=True)])
            return DataError(
                f"tensor '{tensor.name}': chunk {'/'.join(map(str, chunk))} of grid {grid} "
                f"(rows {batch[at].start}-{last}) cannot be decoded: {first_line(found)}; "
                "restore it, or leave the tensor or the rows out with --exclude or --rows"
            )
    return DataError(f"tensor '{tensor.name}': reading failed: {first_line(error)}")
