"""Go on with a log that the writer left: cut what is not committed, and take up its unfinished chunks.

Wherever a kill falls, a log is left that reads and that can be resumed: `step` becomes shorter first, the
other arrays after it, and chunks go when no array reaches them.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import DataError, UsageError, first_line
from ..quick_dataclass import dataclass
from .chunk_encoding import chunk_encoder
from .log import FORMAT_VERSION, GRADS, STEP
from .log_folder import LogFolder, naming
from .root_keys import ROOT_KEYS
from .row_ranges import clipped, read_ranges
from .row_values import BFLOAT16
from .store import plain_array
from .stored_array import METADATA, StoredArray, unfinished
from .stored_chunks import chunk_keys

_CHUNK = re.compile(r"c(?:[./](\d+))?(?:[./]\d+)*")
"""Key of a chunk, or the folder of some, and its number along the step axis."""


class _Objects:
    """What is in the folder of a log, and the metadata in it."""

    def __init__(self, folder: LogFolder) -> None:
        self.path = folder.path
        self.keys = folder.keys()
        self._folder = folder
        self._sorted = sorted(self.keys)
        self._names: dict[str, set[str]] = {}
        for key in self.keys:
            while key:
                above, _, name = key.rpartition("/")
                known = self._names.setdefault(above, set())
                if name in known:
                    break
                known.add(name)
                key = above

    def inside(self, path: str) -> list[str]:
        """Names of what lies right inside of a folder, sorted; none of what is no folder."""
        return sorted(self._names.get(path, ()))

    def below(self, path: str) -> Iterator[str]:
        """Keys of all objects below a folder."""
        at = bisect.bisect_left(self._sorted, f"{path}/")
        found = itertools.islice(self._sorted, at, None)
        return itertools.takewhile(lambda key: key.startswith(f"{path}/"), found)

    def document(self, path: str) -> dict[str, Any]:
        """A node's metadata; empty where it has none, or none that is JSON."""
        if f"{path}/{METADATA}" not in self.keys:
            return {}
        try:
            document = json.loads(self._folder.read(f"{path}/{METADATA}"))
        except DataError:
            raise
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def series(self) -> list[str]:
        """Names of the series; other arrays beside them are somebody else's."""
        names = (name for name in self.inside("") if name not in (GRADS, STEP) and self.inside(name))
        return [name for name in names if _is_series(self.document(name))]


@dataclass(frozen=True)
class StoredRows:
    """The committed rows of a log, behind which a writer goes on.

    arrays : tensors and series by their paths, each with the rows of its unfinished chunk; rows : committed
    last_step : of the last row
    """

    arrays: dict[str, StoredArray]
    step: StoredArray
    rows: int
    last_step: int


def resume_log(
    folder: LogFolder,
    attributes: Mapping[str, Any],
    declared: Mapping[str, Any],
    chunk_rows: int | None,
    after_step: int | None,
) -> StoredRows | None:
    """Cut what isn't committed, and rows past training step `after_step`; None where no row is left.

    Then all arrays are removed, for the next row to begin the log anew. `attributes` are put over the stored;
    what is `declared` has to be what the log says.

    Raises UsageError for what this writer didn't write, and DataError for a log that is damaged; both leave
    it as it was.
    """
    path = folder.path
    with naming(path):
        objects = _Objects(folder)
    root = _read_root(folder, objects, declared)
    _check_declared(objects, root["attributes"]["gradlog"], declared)
    with naming(path):
        has_step = f"{STEP}/{METADATA}" in objects.keys
        step = _open_array(folder, STEP) if has_step else None
        if step is None:
            _check_nothing_is_lost(objects)
        rows = None if step is None else _cut_rows(folder, objects, step, chunk_rows, after_step)
        series = objects.series()
        if rows is None:
            _remove_arrays(folder, objects, step, series)
        _write_root(folder, root, attributes)
        folder.tidy((GRADS, STEP, *series))
        folder.settle()
    return rows


def _cut_rows(
    folder: LogFolder, objects: _Objects, opened: _Opened, chunk_rows: int | None, after_step: int | None
) -> StoredRows | None:
    path, step = folder.path, opened.stored
    if step.length == 0:
        return None
    steps = _read(objects, opened, 0, step.length)
    past = np.flatnonzero(steps > after_step) if after_step is not None else np.empty(0, np.intp)
    keep = int(past[0]) if past.size else step.length
    names = _array_names(objects)
    folder.expect(f"{name}/{METADATA}" for name in names)
    arrays = {name: _open_array(folder, name) for name in names}
    _check_arrays(objects, arrays, steps[:keep])
    if keep == 0:
        return None
    for name, each in arrays.items():
        height = each.stored.height
        if chunk_rows not in (None, height) and name.startswith(f"{GRADS}/"):
            raise UsageError(f"{path}: its chunks hold {height} rows, not {chunk_rows}: leave chunk_rows out")
    cut = (each.stored for each in (*arrays.values(), opened) if keep % each.stored.height)
    folder.expect(key for stored in cut for key in stored.chunk_keys([keep // stored.height]))
    for each in (*arrays.values(), opened):
        stored = each.stored
        first = keep - keep % stored.height
        hint = f"; after_step below {steps[first]} cuts them" if first < keep else ""
        if first < keep:
            stored.rows[: keep - first] = _read(objects, each, first, keep, hint)
    for lot in ((opened,), arrays.values()):
        for each in lot:
            stored = each.stored
            gaps = clipped(stored.gaps, keep)
            if (stored.length, stored.gaps) != (keep, gaps):
                stored.end_at(folder, keep, gaps)
        folder.settle()  # `step` before the others
    for each in (*arrays.values(), opened):
        _remove_chunks(folder, objects, each.stored.name, -(-keep // each.stored.height))
    written = {name: each.stored for name, each in arrays.items()}
    return StoredRows(written, step, keep, int(steps[keep - 1]))


def _read_root(folder: LogFolder, objects: _Objects, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The document of the root group. asked : what it is to declare"""
    path = objects.path
    if not objects.keys & set(ROOT_KEYS):
        raise UsageError(f"{path}: not a Zarr store, so not resumed: choose another path")
    try:
        root = json.loads(folder.read(METADATA)) if METADATA in objects.keys else {}
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: its metadata cannot be read: {first_line(error)}") from error
    document: dict[str, Any] = root if isinstance(root, dict) else {}
    attributes = document.get("attributes")
    declared = attributes.get("gradlog") if isinstance(attributes, dict) else None
    if not isinstance(declared, dict):
        declared = {}
    version = declared.get("version")
    if document.get("node_type") != "group" or version != FORMAT_VERSION or isinstance(version, bool):
        raise UsageError(
            f"{path}: not a gradient log of format {FORMAT_VERSION}: only what create_log wrote is resumed"
        )
    if "projection" in declared and "projection" not in asked:
        raise UsageError(f"{path}: the sketch of a log: only what create_log wrote is resumed")
    return document


def _check_declared(objects: _Objects, stored: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for key, value in declared.items():
        if stored.get(key) != value:
            raise UsageError(
                f"{objects.path}: its `gradlog` says {key} {stored.get(key)!r:.60}, and what goes on with it "
                f"{value!r:.60}: choose another path"
            )


def _write_root(folder: LogFolder, root: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    stored = root["attributes"]
    merged = {**stored, **attributes, "gradlog": stored["gradlog"]}
    # Consolidated metadata would tell Zarr of the lengths that arrays once had.
    if merged != stored or root.get("consolidated_metadata") is not None:
        document = {key: value for key, value in root.items() if key != "consolidated_metadata"}
        folder.put(METADATA, (json.dumps(document | {"attributes": merged}, indent=2).encode(),))


def _array_names(objects: _Objects) -> list[str]:
    """Paths of tensors and series. Raises DataError for what has lost its metadata."""

    def tensors(above: str) -> Iterator[str]:
        for name in (f"{above}/{name}" for name in objects.inside(above)):
            if not objects.inside(name):
                continue
            kind = objects.document(name).get("node_type")
            if kind == "array":
                yield name
            elif kind == "group":
                yield from tensors(name)
            else:
                raise _without_metadata(objects, name)

    for name in objects.inside(""):
        inside = objects.inside(name)
        if inside and METADATA not in inside and any(map(_CHUNK.fullmatch, inside)):
            raise _without_metadata(objects, name)
    return [*tensors(GRADS), *objects.series()]


def _without_metadata(objects: _Objects, name: str) -> DataError:
    return DataError(f"{objects.path}: '{name}' has lost its metadata: restore it, or choose another path")


def _is_series(document: Mapping[str, Any]) -> bool:
    shape = document.get("shape")
    one_a_row = isinstance(shape, list) and len(shape) == 1 and document.get("dimension_names") == [STEP]
    return document.get("node_type") == "array" and document.get("data_type") == "float64" and one_a_row


@dataclass(frozen=True)
class _Opened:
    """An array with an empty chunk in memory, and as zarr-python reads it."""

    stored: StoredArray
    array: zarr.Array[Any]


def _open_array(folder: LogFolder, name: str) -> _Opened:
    path = folder.path
    try:
        document: dict[str, Any] = json.loads(folder.read(f"{name}/{METADATA}"))
        array = plain_array(zarr.open_array(folder.store(), path=name, mode="r", zarr_format=3))
        sharded = array.shards is not None
        gaps, merged = read_ranges(array.attrs)
    except Exception as error:
        raise DataError(f"{path}: the metadata of '{name}' cannot be read: {first_line(error)}") from error
    declared = array.attrs.get("gradlog")
    marked = isinstance(declared, dict) and declared.get("dtype") == BFLOAT16
    dtype = BFLOAT16 if marked and array.dtype == np.uint16 else array.dtype.name
    allowed = ("float16", "float32", "float64", BFLOAT16) if name.startswith(f"{GRADS}/") else ("float64",)
    if dtype not in (("int64",) if name == STEP else allowed) or array.ndim == 0:
        raise _foreign(folder, name, f"is {dtype}{list(array.shape)}")
    known = array.metadata.encode_chunk_key((0, 1)) in ("c/0/1", "c.0.1")
    if sharded or not known or not array.dtype.isnative:
        raise _foreign(folder, name, "is laid out in another way")
    chunks = tuple(array.chunks)
    rows = unfinished(chunks[0], array.shape[1:], array.dtype)
    stored = StoredArray(name, document, dtype, chunks, chunk_keys(array), chunk_encoder(array), rows)
    stored.gaps, stored.merged = gaps, merged
    return _Opened(stored, array)


def _foreign(folder: LogFolder, name: str, what: str) -> UsageError:
    return UsageError(
        f"{folder.path}: '{name}' {what}: only what create_log wrote is resumed; choose another path"
    )


def _check_arrays(objects: _Objects, arrays: Mapping[str, _Opened], steps: NDArray[np.int64]) -> None:
    """steps : training steps of the rows that are kept"""
    path = objects.path
    if not any(name.startswith(f"{GRADS}/") for name in arrays):
        raise DataError(f"{path}: no gradient arrays: the group `{GRADS}` is missing or empty")
    for each in arrays.values():
        length = each.stored.length
        if length < steps.size:
            cure = f"after_step={steps[length - 1]} cuts those it lacks" if length else "choose another path"
            raise DataError(
                f"{path}: '{each.stored.title}' has {length} rows and `step` says {steps.size}: {cure}"
            )


def _read(objects: _Objects, opened: _Opened, first: int, stop: int, hint: str = "") -> NDArray[Any]:
    """(stop - first, *shape) rows, none of them made up for a chunk that is absent."""
    stored = opened.stored
    try:
        bands = range(first // stored.height, -(-stop // stored.height))
        if absent := [key for key in stored.chunk_keys(bands) if key not in objects.keys]:
            raise DataError(f"chunk {absent[0]} is absent")
        return np.asarray(opened.array[first:stop])
    except Exception as error:
        raise DataError(
            f"{objects.path}: rows {first} to {stop - 1} of '{stored.title}' cannot be read, so there is no "
            f"going on behind them: {first_line(error).rstrip('.')}{hint}"
        ) from error


def _check_nothing_is_lost(objects: _Objects) -> None:
    """A log that was killed in its beginning has no `step`, and no rows either."""
    for key in sorted((*objects.below(GRADS), *objects.below(STEP))):
        above, _, name = key.rpartition("/")
        if name != METADATA or any(objects.document(above).get("shape", ())[:1]):
            raise DataError(
                f"{objects.path}: `step` is missing, and '{above}' holds rows: restore it or choose another "
                "path"
            )


def _remove_arrays(folder: LogFolder, objects: _Objects, step: _Opened | None, series: Iterable[str]) -> None:
    """`step`, which says that there are no rows, goes last."""
    if step is not None and step.stored.length:
        step.stored.end_at(folder, 0, ())
        folder.settle()
    for name in (GRADS, *series):
        if objects.inside(name):
            folder.clear(name)
    _remove_chunks(folder, objects, STEP, 0)
    if step is not None:
        folder.clear(STEP)


def _remove_chunks(folder: LogFolder, objects: _Objects, name: str, bands: int) -> None:
    """Of an array, remove the chunks behind the first `bands` along the step axis."""
    found = ((key, _CHUNK.fullmatch(key.removeprefix(f"{name}/"))) for key in objects.below(name))
    folder.remove([key for key, number in found if number and number[1] and int(number[1]) >= bands])
