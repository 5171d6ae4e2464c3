"""Go on with a log that the writer left: cut what is not committed, and take up its unfinished chunks.

Wherever a kill falls, a log is left that reads and that can be resumed: `step` becomes shorter first, the
other arrays after it, and chunks go when no array reaches them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from ..errors import DataError, UsageError, first_line
from ..quick_dataclass import dataclass
from .chunk_encoding import chunk_encoder
from .log import FORMAT_VERSION, GRADS, STEP
from .object_file import PARTIAL, LogFolder, naming
from .root_keys import is_zarr_node
from .row_ranges import clipped, read_ranges
from .row_values import BFLOAT16
from .store import plain_array
from .stored_array import METADATA, StoredArray, unfinished
from .stored_chunks import chunk_keys

_CHUNK = re.compile(r"c(?:[./](\d+))?(?:[./]\d+)*")
"""Key of a chunk, or the folder of some, and its number along the step axis."""


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
    path = folder.root
    root = _read_root(path, declared)
    _check_declared(path, root["attributes"]["gradlog"], declared)
    with naming(path):
        step = _open_array(path, STEP) if (path / STEP / METADATA).exists() else None
        if step is None:
            _check_nothing_is_lost(path)
        rows = None if step is None else _cut_rows(folder, step, chunk_rows, after_step)
        if rows is None:
            _remove_arrays(folder, step)
        _write_root(folder, root, attributes)
        for place in path.glob(f"{METADATA}*{PARTIAL}"):
            _remove(place)
        for below in (path / GRADS, path / STEP, *_series(path)):
            _remove_partial(below)
        folder.settle()
    return rows


def _cut_rows(
    folder: LogFolder, opened: _Opened, chunk_rows: int | None, after_step: int | None
) -> StoredRows | None:
    path, step = folder.root, opened.stored
    if step.length == 0:
        return None
    steps = _read(path, opened, 0, step.length)
    past = np.flatnonzero(steps > after_step) if after_step is not None else np.empty(0, np.intp)
    keep = int(past[0]) if past.size else step.length
    arrays = {name: _open_array(path, name) for name in _array_names(path)}
    _check_arrays(path, arrays, steps[:keep])
    if keep == 0:
        return None
    for name, each in arrays.items():
        height = each.stored.height
        if chunk_rows not in (None, height) and name.startswith(f"{GRADS}/"):
            raise UsageError(f"{path}: its chunks hold {height} rows, not {chunk_rows}: leave chunk_rows out")
    for each in (*arrays.values(), opened):
        stored = each.stored
        first = keep - keep % stored.height
        hint = f"; after_step below {steps[first]} cuts them" if first < keep else ""
        if first < keep:
            stored.rows[: keep - first] = _read(path, each, first, keep, hint)
    for each in (opened, *arrays.values()):
        stored = each.stored
        gaps = clipped(stored.gaps, keep)
        if (stored.length, stored.gaps) != (keep, gaps):
            stored.end_at(folder, keep, gaps)
            folder.settle()  # `step` before the others
    for each in (*arrays.values(), opened):
        _remove_chunks(path / each.stored.name, -(-keep // each.stored.height))
    written = {name: each.stored for name, each in arrays.items()}
    return StoredRows(written, step, keep, int(steps[keep - 1]))


def _read_root(path: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The document of the root group. asked : what it is to declare"""
    if not path.is_dir():
        raise UsageError(
            f"{path}: a file, and logs are resumed as folders: unpack it, or choose another path"
        )
    if not is_zarr_node(path):
        raise UsageError(f"{path}: not a Zarr store, so not resumed: choose another path")
    try:
        root = json.loads((path / METADATA).read_bytes()) if (path / METADATA).exists() else {}
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


def _check_declared(path: Path, stored: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for key, value in declared.items():
        if stored.get(key) != value:
            raise UsageError(
                f"{path}: its `gradlog` says {key} {stored.get(key)!r:.60}, and what goes on with it "
                f"{value!r:.60}: choose another path"
            )


def _write_root(folder: LogFolder, root: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    stored = root["attributes"]
    merged = {**stored, **attributes, "gradlog": stored["gradlog"]}
    # Consolidated metadata would tell Zarr of the lengths that arrays once had.
    if merged != stored or root.get("consolidated_metadata") is not None:
        document = {key: value for key, value in root.items() if key != "consolidated_metadata"}
        folder.put(METADATA, (json.dumps(document | {"attributes": merged}, indent=2).encode(),))


def _array_names(path: Path) -> list[str]:
    """Paths of tensors and series. Raises DataError for what has lost its metadata."""

    def tensors(folder: Path) -> Iterator[str]:
        for place in sorted(folder.iterdir()):
            if not place.is_dir() or place.name.endswith(PARTIAL):
                continue
            name = place.relative_to(path).as_posix()
            document = _document(place)
            if document.get("node_type") == "array":
                yield name
            elif document.get("node_type") == "group":
                yield from tensors(place)
            elif any(not entry.name.endswith(PARTIAL) for entry in place.iterdir()):
                raise _without_metadata(path, name)

    for place in path.iterdir():
        if place.is_dir() and not (place / METADATA).exists() and any(map(_is_chunk, place.iterdir())):
            raise _without_metadata(path, place.name)
    found = list(tensors(path / GRADS)) if (path / GRADS).is_dir() else []
    return found + [place.name for place in _series(path)]


def _without_metadata(path: Path, name: str) -> DataError:
    return DataError(f"{path}: '{name}' has lost its metadata: restore it, or choose another path")


def _series(path: Path) -> list[Path]:
    """Folders of the series; other arrays beside them are somebody else's."""
    return [
        place
        for place in sorted(path.iterdir())
        if place.name not in (GRADS, STEP) and place.is_dir() and _is_series(_document(place))
    ]


def _is_series(document: Mapping[str, Any]) -> bool:
    shape = document.get("shape")
    one_a_row = isinstance(shape, list) and len(shape) == 1 and document.get("dimension_names") == [STEP]
    return document.get("node_type") == "array" and document.get("data_type") == "float64" and one_a_row


def _document(folder: Path) -> dict[str, Any]:
    """A node's metadata; empty where it has none, or none that is JSON."""
    try:
        document = json.loads((folder / METADATA).read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


@dataclass(frozen=True)
class _Opened:
    """An array with an empty chunk in memory, and as zarr-python reads it."""

    stored: StoredArray
    array: zarr.Array[Any]


def _open_array(path: Path, name: str) -> _Opened:
    try:
        document: dict[str, Any] = json.loads((path / name / METADATA).read_bytes())
        store = LocalStore(path, read_only=True)
        array = plain_array(zarr.open_array(store, path=name, mode="r", zarr_format=3))
        sharded = array.shards is not None
        gaps, merged = read_ranges(array.attrs)
    except Exception as error:
        raise DataError(f"{path}: the metadata of '{name}' cannot be read: {first_line(error)}") from error
    declared = array.attrs.get("gradlog")
    marked = isinstance(declared, dict) and declared.get("dtype") == BFLOAT16
    dtype = BFLOAT16 if marked and array.dtype == np.uint16 else array.dtype.name
    allowed = ("float16", "float32", "float64", BFLOAT16) if name.startswith(f"{GRADS}/") else ("float64",)
    if dtype not in (("int64",) if name == STEP else allowed) or array.ndim == 0:
        raise _foreign(path, name, f"is {dtype}{list(array.shape)}")
    known = array.metadata.encode_chunk_key((0, 1)) in ("c/0/1", "c.0.1")
    if sharded or not known or not array.dtype.isnative:
        raise _foreign(path, name, "is laid out in another way")
    chunks = tuple(array.chunks)
    rows = unfinished(chunks[0], array.shape[1:], array.dtype)
    stored = StoredArray(name, document, dtype, chunks, chunk_keys(array), chunk_encoder(array), rows)
    stored.gaps, stored.merged = gaps, merged
    return _Opened(stored, array)


def _foreign(path: Path, name: str, what: str) -> UsageError:
    return UsageError(f"{path}: '{name}' {what}: only what create_log wrote is resumed; choose another path")


def _check_arrays(path: Path, arrays: Mapping[str, _Opened], steps: NDArray[np.int64]) -> None:
    """steps : training steps of the rows that are kept"""
    if not any(name.startswith(f"{GRADS}/") for name in arrays):
        raise DataError(f"{path}: no gradient arrays: the group `{GRADS}` is missing or empty")
    for each in arrays.values():
        length = each.stored.length
        if length < steps.size:
            cure = f"after_step={steps[length - 1]} cuts those it lacks" if length else "choose another path"
            raise DataError(
                f"{path}: '{each.stored.title}' has {length} rows and `step` says {steps.size}: {cure}"
            )


def _read(path: Path, opened: _Opened, first: int, stop: int, hint: str = "") -> NDArray[Any]:
    """(stop - first, *shape) rows, none of them made up for a chunk that is absent."""
    stored = opened.stored
    try:
        bands = range(first // stored.height, -(-stop // stored.height))
        if absent := [key for key in stored.chunk_keys(bands) if not (path / key).exists()]:
            raise DataError(f"chunk {absent[0]} is absent")
        return np.asarray(opened.array[first:stop])
    except Exception as error:
        raise DataError(
            f"{path}: rows {first} to {stop - 1} of '{stored.title}' cannot be read, so there is no going on "
            f"behind them: {first_line(error).rstrip('.')}{hint}"
        ) from error


def _check_nothing_is_lost(path: Path) -> None:
    """A log that was killed in its beginning has no `step`, and no rows either."""
    for place in (*(path / GRADS).rglob("*"), *(path / STEP).rglob("*")):
        if any(part.endswith(PARTIAL) for part in place.relative_to(path).parts):
            continue
        if any(_document(place.parent).get("shape", ())[:1]) if place.name == METADATA else place.is_file():
            raise DataError(
                f"{path}: `step` is missing, and {place.parent} holds rows: restore it or choose another path"
            )


def _remove_arrays(folder: LogFolder, step: _Opened | None) -> None:
    """`step`, which says that there are no rows, goes last."""
    path = folder.root
    if step is not None and step.stored.length:
        step.stored.end_at(folder, 0, ())
        folder.settle()
    removed = path / STEP / f"removed{PARTIAL}"  # where no reader looks for arrays
    shutil.rmtree(removed, ignore_errors=True)
    removed.mkdir(parents=True)
    for below in (path / GRADS, *_series(path)):
        if below.exists():
            below.rename(removed / below.name)
    shutil.rmtree(removed)
    _remove_chunks(path / STEP, 0)
    (path / STEP / METADATA).unlink(missing_ok=True)
    shutil.rmtree(path / STEP)


def _remove_chunks(folder: Path, bands: int) -> None:
    """Of the array in a folder, remove the chunks behind the first `bands` along the step axis."""
    for place in [*folder.glob("c.*"), *folder.glob("c/*")]:
        number = _CHUNK.fullmatch(place.relative_to(folder).as_posix())
        if place.name.endswith(PARTIAL) or (number and number[1] and int(number[1]) >= bands):
            _remove(place)
        elif place.is_dir() and place.name == str(bands - 1):
            for partial in place.rglob(f"*{PARTIAL}"):
                _remove(partial)


def _is_chunk(place: Path) -> bool:
    """Whether what lies in the folder of an array is a chunk, or the folder of all."""
    return _CHUNK.fullmatch(place.name) is not None


def _remove_partial(folder: Path) -> None:
    """Remove what a kill left unfinished below a folder, but for folders of chunks."""
    is_array = _document(folder).get("node_type") == "array"
    for place in folder.iterdir() if folder.is_dir() else ():
        if place.name.endswith(PARTIAL):
            _remove(place)
        elif place.is_dir() and not is_array:
            _remove_partial(place)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
