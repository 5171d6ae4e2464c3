"""What is in a store, without reading gradients: the data behind `gradmf info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ..errors import DataError
from ..quick_dataclass import dataclass
from ..results.result import LogWarning
from ..results.row_kind import RowKind, row_kind
from .listing_ahead import list_together
from .log import GradientLog, Tensor
from .opening import Run, open_log
from .rank_tensor import RankTensor
from .row_ranges import Ranges, between
from .store import codec_pipeline


@dataclass(frozen=True)
class TensorDescription:
    """One tensor as stored.

    shape : of the parameter; rows : stored rows, committed or not; chunks, shards : with the step axis first
    codecs : names in the order of encoding; expected_chunks, absent_chunks : of the committed rows
    stored_bytes : encoded size, raw_bytes : size in memory of the committed rows
    boxes : in how many it is stored, each in the store of another rank; chunks is then what plans cut along
    absent_rows : (first, last) of the committed rows that came without a gradient and are stored as zeros
    absent_rows_merged : these ranges hold other rows too
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
    boxes: int = 1
    absent_rows: Ranges = ()
    absent_rows_merged: bool = False


@dataclass(frozen=True)
class LogDescription:
    """One log as stored.

    format_version : None for a foreign layout; zarr_format : None where no Zarr store holds it
    steps : first and last training step
    step_axis : what the rows lie along, in words; left_out : why other arrays are no gradients, by path
    ranks : stores of a set that is read as one log, None for a single store
    """

    path: str
    format_version: int | None
    zarr_format: int | None
    rows: int
    steps: tuple[int, int]
    parameters: int
    tensors: tuple[TensorDescription, ...]
    series: tuple[str, ...]
    attributes: Mapping[str, Any]
    stored_bytes: int
    raw_bytes: int
    warnings: tuple[LogWarning, ...]
    step_axis: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    ranks: int | None = None

    @property
    def kind(self) -> RowKind:
        """What the rows are."""
        return row_kind(self.attributes)


def describe(path: Run, *, truncate: bool = False, gradients: Sequence[str] = ()) -> LogDescription:
    """Describe the log at `path` from its metadata and the names and sizes of its chunks.

    path, truncate, gradients : as of `open_log`. Tensors that cannot be read are told in `warnings`.

    Raises what `open_log` raises.
    """
    with codec_pipeline(threads=1):
        log = open_log(path, truncate=truncate, gradients=gradients)
    list_together(log, log.tensors, log.rows)
    warnings = [
        *log.warnings,
        *(LogWarning("tensor-unreadable", f"tensor '{name}': {why}") for name, why in log.faults.items()),
    ]
    tensors = tuple(_describe_tensor(log, tensor, warnings) for tensor in log.tensors)
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
        warnings=tuple(warnings),
        step_axis=log.step_axis,
        left_out={path: why for path, why in log.left_out.items() if path not in log.series},
        ranks=log.ranks,
    )


def _absent_rows(tensor: Tensor, warnings: list[LogWarning]) -> tuple[Ranges, bool]:
    """As of `Tensor`; none where what the store says is none, which a warning tells."""
    try:
        return tensor.absent_rows
    except DataError as error:
        warnings.append(LogWarning("absent-rows-unreadable", str(error)))
        return (), False


def _describe_tensor(log: GradientLog, tensor: Tensor, warnings: list[LogWarning]) -> TensorDescription:
    try:
        inventory = tensor.inventory(log.rows, sizes=True)
    except DataError as error:
        raise DataError(f"{log.path}: {error}") from error
    absent_rows, merged = _absent_rows(tensor, warnings)
    return TensorDescription(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        rows=tensor.rows,
        parameters=tensor.parameters,
        chunks=tensor.stored_chunks,
        shards=tensor.shards,
        codecs=tensor.codecs,
        reader=tensor.reader,
        expected_chunks=inventory.expected,
        absent_chunks=len(inventory.absent),
        stored_bytes=inventory.stored_bytes or 0,
        raw_bytes=log.rows * tensor.parameters * tensor.entry_bytes,
        boxes=len(tensor.boxes) if isinstance(tensor, RankTensor) else 1,
        absent_rows=between(absent_rows, 0, log.rows),
        absent_rows_merged=merged,
    )
