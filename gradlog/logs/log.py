"""A gradient log: which arrays of a store are gradients, how many rows are committed, and what they mean."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import DataError
from ..results.projection import Projection
from ..results.result import LogWarning
from .array_listing import check_chunk_grid, list_arrays
from .inventory import take_inventory
from .store import first_line, open_node, plain_array, reader_name

FORMAT_VERSION = 1
GRADS = "grads"
STEP = "step"
BARE_ARRAY = "grads"
"""Name of the only tensor of a store that is a single array."""
SERIES_NAMES = frozenset(
    {
        "acc",
        "accuracy",
        "batch",
        "epoch",
        "epochs",
        "grad_norm",
        "learning_rate",
        "loss",
        "losses",
        "lr",
        "momentum",
        "samples",
        "step",
        "steps",
        "time",
        "timestamp",
        "tokens",
        "train_loss",
        "val_loss",
        "wall_time",
        "weight_decay",
    }
)
"""One value a row under one of these names, in a group without `grads`, is a series and not a gradient."""


@dataclass(frozen=True)
class Tensor:
    """One parameter tensor's gradients: a Zarr array (rows, *shape).

    dtype : "float16", "float32", "float64" or "bfloat16"; rows : length of the array's step axis
    """

    name: str
    array: zarr.Array[Any] = field(repr=False)
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter, without the step axis."""
        return tuple(self.array.shape[1:])

    @property
    def rows(self) -> int:
        """Rows stored, committed or not."""
        return int(self.array.shape[0])

    @functools.cached_property
    def parameters(self) -> int:
        """Number of parameters, the product of `shape`."""
        return math.prod(self.shape)

    @functools.cached_property
    def made_of(self) -> tuple[int, ...] | None:
        """In a sketch: shape of the parameter whose gradients these sums are made of; None for a copy."""
        declared = self.array.attrs.get("gradlog")
        shape = declared.get("shape") if isinstance(declared, dict) else None
        return tuple(int(extent) for extent in shape) if isinstance(shape, list) else None

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is decoded at once: the chunk shape, or the inner chunk shape of shards."""
        return tuple(self.array.chunks)

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard (what is one object in the store), None without sharding."""
        shards = self.array.shards
        return None if shards is None else tuple(shards)

    @functools.cached_property
    def plain(self) -> zarr.Array[Any]:
        """The same array, decoded by zarr-python."""
        return plain_array(self.array)

    @functools.cached_property
    def checked(self) -> bool:
        """Chunks carry a checksum; zarrs looks at it only where it decodes a chunk whole."""
        return "crc32c" in json.dumps(self.array.metadata.to_dict(), default=str)

    @functools.cached_property
    def compressed(self) -> bool:
        """A part of a chunk cannot be read without decoding all of it."""
        return bool(self.array.compressors or self.array.filters)

    @property
    def reader(self) -> str:
        """What decodes the chunks: "zarrs" or "zarr-python"."""
        return reader_name(self.array)

    @property
    def compute_dtype(self) -> np.dtype[np.floating[Any]]:
        """float64 for float64, else float32, which holds the narrower types exactly."""
        return np.dtype(np.float64 if self.dtype == "float64" else np.float32)


@dataclass(frozen=True)
class GradientLog:
    """An opened log.

    path : as given; format_version : 1, or None for a foreign layout
    tensors : in the order of their names; rows : committed rows; step : (rows,) int64 training steps
    series : scalar series by name; attributes : of the root, as stored
    """

    path: str
    format_version: int | None
    zarr_format: int
    tensors: tuple[Tensor, ...]
    rows: int
    step: NDArray[np.int64] = field(repr=False)
    series: Mapping[str, zarr.Array[Any]] = field(repr=False)
    attributes: Mapping[str, Any]
    warnings: tuple[LogWarning, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)


def open_log(path: str | os.PathLike[str], *, truncate: bool = False) -> GradientLog:
    """Open a gradient log without reading gradients.

    Takes format 1 and what others write: groups whose float arrays share a leading step axis, or a
    single array (N, D); Zarr v2 or v3, directory or zip.

    Parameters
    ----------
    path : folder or zip file of a Zarr store
    truncate : where tensors have different numbers of rows, take the rows that all have, and warn

    Raises
    ------
    StoreNotFoundError, DataError : see the messages; each names the path and what was found
    """
    return read_log(os.fspath(path), open_node(path), truncate=truncate)


def read_log(name: str, node: zarr.Group | zarr.Array[Any], *, truncate: bool = False) -> GradientLog:
    """The log that a node of Zarr holds, called `name`. Otherwise as `open_log`."""
    attributes = dict(node.attrs)
    warnings: list[LogWarning] = []
    if isinstance(node, zarr.Array):
        dtype = _gradient_dtype(node)
        if dtype is None or node.ndim == 0:
            raise DataError(f"{name}: one array of {node.dtype}, shape {node.shape}: not gradients (N, D)")
        check_chunk_grid(name, "", node)
        tensors = [Tensor(BARE_ARRAY, node, dtype)]
        version, series, steps = None, {}, None
    else:
        version = _format_version(name, attributes)
        arrays, unknown = list_arrays(name, node)
        for path, array in arrays.items():
            check_chunk_grid(name, f" '{path.removeprefix(GRADS + '/')}'", array)
        if unknown and version is not None:
            raise DataError(
                f"{name}: '{unknown[0]}' has no metadata that Zarr can read: the log lost a part, or holds "
                "something that is none of it; restore it or move it away"
            )
        if unknown:
            shown = ", ".join(unknown[:4]) + (", ..." if len(unknown) > 4 else "")
            warnings.append(LogWarning("objects-left-out", f"no Zarr metadata, left out: {shown}"))
        series = {k: a for k, a in arrays.items() if "/" not in k and a.ndim == 1}
        steps = _read_steps(name, series.pop(STEP), version, warnings) if STEP in series else None
        inside = {k.removeprefix(GRADS + "/"): a for k, a in arrays.items() if k.startswith(GRADS + "/")}
        if version is not None:
            if steps is None:
                what = "without its `step` array (N,)" if arrays else "with no row: nothing was logged yet"
                raise DataError(f"{name}: a log of format {version} {what}")
            tensors = _format_tensors(name, inside)
        else:
            tensors, skipped = _foreign_tensors(name, inside or arrays, bool(inside))
            series = {k: a for k, a in series.items() if inside or k in skipped}
            _warn_skipped(skipped, series, warnings)
    rows = _committed_rows(name, tensors, steps, truncate, warnings)
    step = np.arange(rows, dtype=np.int64) if steps is None else steps[:rows]
    if rows > 1 and bool(np.any(np.diff(step) <= 0)):
        at = int(np.argmax(np.diff(step) <= 0)) + 1
        warnings.append(
            LogWarning(
                "steps-not-increasing",
                f"row {at} has training step {step[at]} after {step[at - 1]}: a resumed run may have logged "
                "steps twice; rows are taken in their order",
            )
        )
    return GradientLog(
        name,
        version,
        node.metadata.zarr_format,
        tuple(tensors),
        rows,
        step,
        series,
        attributes,
        tuple(warnings),
    )


def sketch_of(log: GradientLog) -> Projection | None:
    """The projection that a log's tensors were made by; None for a log of gradients.

    Raises DataError for one that this gradmf does not know.
    """
    declared = log.attributes.get("gradlog")
    if not isinstance(declared, dict) or "projection" not in declared:
        return None
    return Projection.of(declared["projection"], log.path)


def _format_version(name: str, attributes: Mapping[str, Any]) -> int | None:
    if "gradlog" not in attributes:
        return None
    declared = attributes["gradlog"]
    version = declared.get("version") if isinstance(declared, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise DataError(
            f"{name}: gradient log of format {version!r}; this gradmf reads format {FORMAT_VERSION}: "
            "update gradmf, or mend the `gradlog` attribute"
        )
    return FORMAT_VERSION


def _gradient_dtype(array: zarr.Array[Any]) -> str | None:
    """Name of the gradient type, None for what can't be gradients."""
    declared = array.attrs.get("gradlog")
    if isinstance(declared, dict) and declared.get("dtype") == "bfloat16" and array.dtype == np.uint16:
        return "bfloat16"
    if array.dtype.kind == "f" and array.dtype.itemsize in (2, 4, 8):
        return f"float{8 * array.dtype.itemsize}"
    return None


def _format_tensors(name: str, arrays: Mapping[str, zarr.Array[Any]]) -> list[Tensor]:
    if not arrays:
        raise DataError(f"{name}: no gradient arrays: the group `{GRADS}` is missing or empty")
    tensors = []
    for key, array in arrays.items():
        dtype = _gradient_dtype(array)
        if dtype is None or array.ndim == 0:
            raise DataError(
                f"{name}: tensor '{key}' is an array of {array.dtype}, shape {array.shape}; gradients are "
                "float16, float32, float64 or marked bfloat16, with a step axis first"
            )
        tensors.append(Tensor(key, array, dtype))
    return tensors


def _foreign_tensors(
    name: str, arrays: Mapping[str, zarr.Array[Any]], all_gradients: bool
) -> tuple[list[Tensor], list[str]]:
    """Tensors of a store without a declared format, and the arrays that are none."""
    tensors, skipped = [], []
    for key, array in arrays.items():
        dtype = _gradient_dtype(array)
        named_series = array.ndim == 1 and PurePath(key).name.lower() in SERIES_NAMES and not all_gradients
        if dtype is None or array.ndim == 0 or named_series:
            skipped.append(key)
        else:
            tensors.append(Tensor(key, array, dtype))
    if not tensors:
        found = ", ".join(
            f"{key} {array.dtype}{list(array.shape)}" for key, array in list(arrays.items())[:4]
        )
        raise DataError(
            f"{name}: no gradient arrays (float, step axis first); found {found or 'an empty group'}"
        )
    return tensors, skipped


def _warn_skipped(
    skipped: list[str], series: Mapping[str, zarr.Array[Any]], warnings: list[LogWarning]
) -> None:
    others = [key for key in skipped if key != STEP]
    if others:
        shown = ", ".join(others[:6]) + (", ..." if len(others) > 6 else "")
        kind = "scalar series" if all(key in series for key in others) else "no gradients"
        warnings.append(LogWarning("arrays-left-out", f"taken as {kind} and left out: {shown}"))


def _read_steps(
    name: str, array: zarr.Array[Any], version: int | None, warnings: list[LogWarning]
) -> NDArray[np.int64] | None:
    if array.dtype.kind not in "iu":
        if version is None:
            return None
        raise DataError(f"{name}: `step` is an array of {array.dtype}; training steps are int64 (N,)")
    try:
        absent = take_inventory(STEP, array, array.shape[0]).absent if array.shape[0] else ()
        if absent and version is not None:
            # Zarr writers skip chunks of zeros: a lone first step may be 0, a run of steps may not.
            if absent != ((0,),) or min(array.chunks[0], array.shape[0]) > 1:
                raise DataError("a chunk of it is absent")
            warnings.append(
                LogWarning("chunks-absent", "the first chunk of `step` is absent: read as step 0")
            )
        return np.asarray(plain_array(array)[...]).astype(np.int64)
    except Exception as error:
        raise DataError(f"{name}: `step` cannot be read: {first_line(error)}") from error


def _committed_rows(
    name: str,
    tensors: list[Tensor],
    steps: NDArray[np.int64] | None,
    truncate: bool,
    warnings: list[LogWarning],
) -> int:
    lengths = {tensor.name: tensor.rows for tensor in tensors}
    shortest = min(lengths, key=lambda key: lengths[key])
    longest = max(lengths, key=lambda key: lengths[key])
    rows = lengths[longest] if steps is None else int(steps.size)
    if lengths[shortest] < rows:
        against = f"'{longest}' has {rows}" if steps is None else f"`step` says {rows}"
        told = f"tensor '{shortest}' has {lengths[shortest]} rows and {against}"
        if not truncate:
            raise DataError(f"{name}: {told}; --truncate analyzes the first {lengths[shortest]} rows")
        rows = lengths[shortest]
        warnings.append(LogWarning("truncated", f"{told}: only the first {rows} rows are analyzed"))
    if rows == 0:
        raise DataError(f"{name}: no committed rows: nothing was logged yet")
    return rows
