"""Write a gradient log of format 1, synchronously: tensors first, `step` last."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from ..errors import UsageError
from .log import FORMAT_VERSION, GRADS, STEP
from .root_keys import is_zarr_node
from .store import first_line, plain_array

CHUNK_BYTES = 4 << 20
BUFFER_BYTES = 256 << 20
MOST_CHUNK_ROWS = 256
"""A longer chunk would mostly be padding in a short log of small tensors."""


def create_log(
    path: str | os.PathLike[str],
    *,
    attributes: Mapping[str, Any] | None = None,
    chunk_rows: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    compressors: Any = (),
    overwrite: bool = False,
) -> LogWriter:
    """Create a gradient log of format 1 at `path` and return its writer, a context manager.

    Parameters
    ----------
    path : folder to create
    attributes : free metadata (model, optimizer, ...), anything that JSON holds
    chunk_rows : rows in a chunk, and rows kept in memory before they are written; by default as many as
        `chunk_bytes` holds of the largest tensor, between 16 and 256, within 256 MiB for all tensors
    chunk_bytes : size of a chunk aimed at
    compressors : Zarr codecs put before the checksum; none by default, since gradients hardly shrink
    overwrite : replace the Zarr store at `path`; anything else there is left alone

    Raises UsageError when something is at `path` and `overwrite` is False, or it is no Zarr store.
    """
    return LogWriter(Path(path), dict(attributes or {}), chunk_rows, chunk_bytes, compressors, overwrite)


def _is_store(path: Path) -> bool:
    """A folder with Zarr's metadata, or an empty one: nothing else is ever deleted."""
    if not path.is_dir():
        return False
    return is_zarr_node(path) or not any(path.iterdir())


class LogWriter:
    """Appends rows to a log; rows count as committed once `flush` or `close` has written their `step`."""

    def __init__(
        self,
        path: Path,
        attributes: dict[str, Any],
        chunk_rows: int | None,
        chunk_bytes: int,
        compressors: Any,
        overwrite: bool,
    ) -> None:
        if (chunk_rows is not None and chunk_rows < 1) or chunk_bytes < 1:
            raise UsageError("chunk_rows and chunk_bytes must be at least 1")
        stored = _json_attributes(attributes)
        if path.exists():
            if not overwrite:
                raise UsageError(f"{path}: already there; choose another path or overwrite it")
            if not _is_store(path):
                raise UsageError(
                    f"{path}: not a Zarr store, so not overwritten; remove it or choose another path"
                )
            shutil.rmtree(path)
        self.path = path
        self._chunk_rows = chunk_rows
        self._chunk_bytes = chunk_bytes
        if isinstance(compressors, (list, tuple)):
            self._codecs = (*compressors, Crc32cCodec())
        else:
            self._codecs = (compressors, Crc32cCodec())
        self._group = zarr.open_group(LocalStore(path), mode="w", zarr_format=3)
        self._group.attrs.update({**stored, "gradlog": {"version": FORMAT_VERSION}})
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._rows: dict[str, NDArray[Any]] = {}
        self._written = 0
        self._held = 0
        self._open = True

    def append(self, step: int, gradients: Mapping[str, ArrayLike], /, **series: float) -> None:
        """Add one row: the gradients of every tensor at training step `step`, and scalars such as loss.

        The first call fixes the tensors, their shapes and dtypes, and the series; the later ones must match.
        float16, float32, float64 and bfloat16 (of ml_dtypes or PyTorch) are kept as they are; anything else
        that NumPy can turn into float32 is. Tensors of PyTorch may lie on any device. Names may hold dots and
        slashes, as paths of nested groups do; no part between slashes may be empty, `.` or `..`, and no name
        may be the folder of another.

        Raises UsageError when names, shapes or dtypes differ from the first row's.
        """
        if not self._open:
            raise UsageError(f"{self.path}: the log is closed")
        values = {f"{GRADS}/{name}": _gradient(name, value) for name, value in gradients.items()}
        if not values:
            raise UsageError("a row needs the gradient of at least one tensor")
        row = {name: array for name, (array, _) in values.items()}
        row |= {name: _scalar(name, value) for name, value in series.items()}
        row[STEP] = np.asarray(step, np.int64)
        if not self._arrays:
            _check_names(gradients, series)
            self._create(values, series)
        if set(row) != set(self._arrays):
            odd = sorted(set(row) ^ set(self._arrays))
            raise UsageError(
                f"row {self._written + self._held}: names differ from the first row's: {', '.join(odd)}"
            )
        for name, value in row.items():
            buffer = self._rows[name]
            if value.shape != buffer.shape[1:] or value.dtype != buffer.dtype:
                raise UsageError(
                    f"row {self._written + self._held}: '{name.removeprefix(GRADS + '/')}' is {value.dtype}"
                    f"{list(value.shape)}, in the first row it was {buffer.dtype}{list(buffer.shape[1:])}"
                )
        for name, value in row.items():
            self._rows[name][self._held] = value
        self._held += 1
        if self._held == self._rows[STEP].shape[0]:
            self.flush()

    def flush(self) -> None:
        """Write the rows held in memory and commit them."""
        if not self._held:
            return
        stop = self._written + self._held
        for name, array in self._arrays.items():  # `step` stands last
            longer = array.metadata.update_shape((stop, *array.shape[1:]))
            # By zarr-python, whatever pipeline is set: zarrs leaves chunks of zeros out.
            ahead = plain_array(array, longer)
            ahead[self._written : stop] = self._rows[name][: self._held]
            # The array becomes longer only once its chunk is there: a crash leaves no row of zeros.
            array.resize((stop, *array.shape[1:]))
        if self._held == self._rows[STEP].shape[0]:
            self._written, self._held = stop, 0
        # Otherwise the rows stay held, and the unfinished chunk is written whole again with what follows.

    def close(self) -> None:
        """Write and commit what is held, and end the log."""
        if self._open:
            self.flush()
            self._open = False

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create(self, gradients: Mapping[str, tuple[NDArray[Any], str]], series: Mapping[str, float]) -> None:
        row_bytes = sum(value.nbytes for value, _ in gradients.values())
        largest = max(value.nbytes for value, _ in gradients.values())
        rows = self._chunk_rows or max(
            1,
            min(
                max(16, self._chunk_bytes // max(1, largest)),
                BUFFER_BYTES // max(1, row_bytes),
                MOST_CHUNK_ROWS,
            ),
        )
        for name, (value, dtype) in gradients.items():
            names = ["step", *(f"dim_{axis}" for axis in range(value.ndim))]
            chunks = (rows, *_chunk_shape(value.shape, self._chunk_bytes // (rows * value.itemsize)))
            marked = {"gradlog": {"dtype": dtype}} if dtype == "bfloat16" else {}
            self._add(name, value, chunks, names, marked)
        for name in series:
            self._add(name, np.zeros((), np.float64), (rows,), ["step"], {})
        self._add(STEP, np.zeros((), np.int64), (rows,), ["step"], {})

    def _add(
        self,
        name: str,
        value: NDArray[Any],
        chunks: tuple[int, ...],
        names: list[str],
        attributes: dict[str, Any],
    ) -> None:
        self._arrays[name] = self._group.create_array(
            name,
            shape=(0, *value.shape),
            chunks=chunks,
            dtype=value.dtype,
            compressors=self._codecs,
            dimension_names=names,
            attributes=attributes,
            config={"write_empty_chunks": True},
        )
        self._rows[name] = np.zeros((chunks[0], *value.shape), value.dtype)


def _gradient(name: str, value: ArrayLike) -> tuple[NDArray[Any], str]:
    """The array to store, and the name of its dtype."""
    if value is None:
        raise UsageError(f"the gradient of '{name}' is None: leave unused parameters out, or log zeros")
    try:
        bits = _bfloat16_bits(value)
        if bits is not None:
            return bits, "bfloat16"
        array = np.asarray(_off_device(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"the gradient of '{name}' is no array of numbers: {first_line(error)}") from None
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16), "bfloat16"
    if array.dtype.kind == "f" and array.dtype.itemsize in (2, 4, 8):
        return array.astype(array.dtype.newbyteorder("="), copy=False), array.dtype.name
    if array.dtype.kind not in "biuf":
        raise UsageError(f"the gradient of '{name}' is an array of {array.dtype}, not of real numbers")
    return array.astype(np.float32), "float32"


def _off_device(value: Any) -> Any:
    """A tensor of PyTorch as NumPy takes it: out of the graph, in main memory, dense. Others as they are."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().to("cpu")
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _bfloat16_bits(value: Any) -> NDArray[np.uint16] | None:
    """The bits of a tensor of PyTorch in bfloat16, which NumPy lacks; None for anything else."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor) or value.dtype != torch.bfloat16:
        return None
    bits: NDArray[np.int16] = _off_device(value).contiguous().view(torch.int16).numpy()
    return bits.view(np.uint16)


def _scalar(name: str, value: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(float(_off_device(value)), np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"series '{name}' takes a number a row, not {value!r:.60}") from None


_RESERVED = frozenset({"", ".", "..", "zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})


def _json_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes with NumPy's scalars and arrays as plain numbers and lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} is not JSON")

    try:
        stored: dict[str, Any] = json.loads(json.dumps(attributes, default=plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"attributes must be what JSON holds: {error}") from None
    return stored


def _check_names(gradients: Mapping[str, Any], series: Mapping[str, Any]) -> None:
    """Raise UsageError for names that a Zarr hierarchy cannot hold beside each other."""
    for name in gradients:
        parts = name.split("/")
        if any(part in _RESERVED or part.startswith("__") for part in parts):
            raise UsageError(f"'{name}' cannot be the name of a tensor")
        folders = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if taken := folders & set(gradients):
            raise UsageError(f"tensor '{name}' would lie inside tensor '{taken.pop()}': rename one")
    if reserved := {GRADS, STEP} & set(series):
        raise UsageError(f"'{reserved.pop()}' cannot be the name of a series")


def _chunk_shape(shape: tuple[int, ...], entries: int) -> tuple[int, ...]:
    """A chunk of at most about `entries` entries, whole along the last axes."""
    chunk = list(shape)
    for axis in range(len(shape)):
        rest = math.prod(chunk[axis + 1 :])
        if math.prod(chunk) <= max(1, entries):
            break
        chunk[axis] = max(1, entries // max(1, rest))
    return tuple(max(1, size) for size in chunk)
