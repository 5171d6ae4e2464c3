"""What is in a store, without reading gradients: the data behind `gradmf info`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..results.result import LogWarning
from .inventory import take_inventory
from .log import GradientLog, Tensor, open_log
from .store import codec_pipeline


@dataclass(frozen=True)
class TensorDescription:
    """One tensor as stored.

    shape : of the parameter; rows : stored rows, committed or not; chunks, shards : with the step axis first
    codecs : names in the order of encoding; expected_chunks, absent_chunks : of the committed rows
    stored_bytes : encoded size, raw_bytes : size in memory of the committed rows
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    rows: int
    parameters: int
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codecs: tuple[str, ...]
    reader: str
    expected_chunks: int
    absent_chunks: int
    stored_bytes: int
    raw_bytes: int


@dataclass(frozen=True)
class LogDescription:
    """One log as stored. format_version : None for a foreign layout; steps : first and last training step."""

    path: str
    format_version: int | None
    zarr_format: int
    rows: int
    steps: tuple[int, int]
    parameters: int
    tensors: tuple[TensorDescription, ...]
    series: tuple[str, ...]
    attributes: Mapping[str, Any]
    stored_bytes: int
    raw_bytes: int
    warnings: tuple[LogWarning, ...]


def describe(path: str | os.PathLike[str], *, truncate: bool = False) -> LogDescription:
    """Describe the log at `path` from its metadata and the names and sizes of its chunks.

    Raises what `open_log` raises.
    """
    with codec_pipeline(threads=1):
        log = open_log(path, truncate=truncate)
    tensors = tuple(_describe_tensor(log, tensor) for tensor in log.tensors)
    return LogDescription(
        path=log.path,
        format_version=log.format_version,
        zarr_format=log.zarr_format,
        rows=log.rows,
        steps=(int(log.step[0]), int(log.step[-1])),
        parameters=log.parameters,
        tensors=tensors,
        series=tuple(log.series),
        attributes=log.attributes,
        stored_bytes=sum(tensor.stored_bytes for tensor in tensors),
        raw_bytes=sum(tensor.raw_bytes for tensor in tensors),
        warnings=log.warnings,
    )


def _describe_tensor(log: GradientLog, tensor: Tensor) -> TensorDescription:
    inventory = take_inventory(tensor.name, tensor.array, log.rows, sizes=True)
    return TensorDescription(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        rows=tensor.rows,
        parameters=tensor.parameters,
        chunks=tensor.chunks,
        shards=tensor.shards,
        codecs=_codec_names(tensor),
        reader=tensor.reader,
        expected_chunks=inventory.expected,
        absent_chunks=len(inventory.absent),
        stored_bytes=inventory.stored_bytes or 0,
        raw_bytes=log.rows * tensor.parameters * tensor.array.dtype.itemsize,
    )


def _codec_names(tensor: Tensor) -> tuple[str, ...]:
    """Codec names in the order of encoding; for shards, those of the inner chunks behind `sharding`."""
    metadata: dict[str, Any] = dict(tensor.array.metadata.to_dict())
    if "codecs" in metadata:
        return tuple(_short(name) for name in _nested_names(metadata["codecs"]))
    stages = [*(metadata.get("filters") or ()), metadata.get("compressor")]
    return tuple(stage["id"] for stage in stages if stage)


def _nested_names(codecs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for codec in codecs:
        yield codec["name"]
        yield from _nested_names(codec.get("configuration", {}).get("codecs", ()))


def _short(name: str) -> str:
    return {"sharding_indexed": "sharding"}.get(name, name.removeprefix("numcodecs."))
