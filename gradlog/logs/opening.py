"""Open the log of a Zarr store: which arrays are gradients, how many rows are committed, what they mean."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypedDict, Unpack

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import StorePath

from ..errors import DataError, first_line
from ..naming import shown
from ..results.result import LogWarning, Settings
from ..results.row_kind import RowKind, row_kind
from .entry_types import stored_type
from .gradient_arrays import Choice, bare_array, choose_arrays
from .hierarchy import Hierarchy, Node, read_hierarchy
from .log import FORMAT_VERSION, GradientLog, Tensor, chosen_names, first_fault
from .packed_chunks import PackedChunks
from .places.finding import Source, open_source
from .rank_folders import rank_folders, root_attributes
from .rank_set import RankStore, join_ranks, lone_rank_warnings
from .remote_chunks import RemoteChunks
from .repeated_steps import step_fault
from .shards import FileShards
from .store import ZARR_PIPELINE, ZARRS_PIPELINE, decoding_with, zarrs_is_installed
from .stored_chunks import take_inventory
from .uncompressed_chunks import UncompressedChunks
from .update_log import update_warnings
from .zarr_array import make_array, padded_array
from .zarr_tensor import ZarrTensor

Run: TypeAlias = "Source | GradientLog"
"""What stands for a run wherever one is analyzed: where its log lies, or a log that was opened."""
SHOWN = 6
"""Names that a warning shows."""


def open_log(
    path: Run,
    *,
    truncate: bool = False,
    gradients: Sequence[str] = (),
    tensors: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> GradientLog:
    """Open a gradient log without reading gradients.

    Takes format 1 and what others write: groups whose arrays share a step axis, or a single array (N, D);
    Zarr v2 or v3, directory or zip; and a folder that holds the logs of the ranks of one distributed run.

    Parameters
    ----------
    path : folder or zip file of a Zarr store, or its URL (file://, s3://, gs://, az://); a group, an array or
        a store that was opened with zarr; an opened log stays as it is
    truncate : where tensors have different numbers of rows, take the rows that all have, and warn
    gradients : globs on the paths of arrays that are gradients, in a store that does not say so itself; none
        to tell by axes, shapes and names
    tensors, exclude : globs on names of tensors: only those chosen count for rows and faults

    Raises
    ------
    StoreNotFoundError, DataError : see the messages; each names the path and what was found
    UsageError : `gradients` matches no array
    """
    if isinstance(path, GradientLog):
        return path
    name, place = open_source(path)
    log = read_log(
        name, place, truncate=truncate, gradients=gradients, tensors=tensors,
        exclude=exclude,
    )  # fmt: skip
    return replace(log, source=name if isinstance(path, str | os.PathLike) else None)


def open_log_as(name: str, path: str, **opening: Unpack[Opening]) -> GradientLog:
    """The log at a path or URL, called `name` in messages and results. Otherwise as `open_log`."""
    return read_log(name, open_source(path)[1], **opening)


def read_log(
    name: str,
    place: StorePath,
    *,
    truncate: bool = False,
    gradients: Sequence[str] = (),
    tensors: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> GradientLog:
    """The log at a place in a store, called `name`. Otherwise as `open_log`."""
    words: Opening = {
        "truncate": truncate, "gradients": gradients, "tensors": tensors, "exclude": exclude,
    }  # fmt: skip
    folders = rank_folders(name, place)
    if folders:
        stores = [
            RankStore(
                folder,
                _read_store(f"{name.rstrip('/')}/{folder.name}", place / folder.name, of_set=True, **words),
            )
            for folder in folders
        ]
        log = join_ranks(name, stores, root_attributes(place))
        if not log.tensors:
            why = first_fault(log.faults) if log.faults else "no rank has a tensor"
            raise DataError(f"{name}: {why}")
    else:
        log = _read_store(name, place, of_set=False, **words)
    told = [
        *filter(None, [step_fault(log.step)]),
        *update_warnings(log.attributes),
        *lone_rank_warnings(log.attributes),
    ]
    return replace(log, warnings=(*log.warnings, *told))


class Opening(TypedDict):
    """What `open_log` is asked for beside the log."""

    truncate: bool
    gradients: Sequence[str]
    tensors: Sequence[str]
    exclude: Sequence[str]


def opening_of(settings: Settings) -> Opening:
    """What settings say of which arrays and tensors count."""
    return Opening(
        truncate=settings.truncate, gradients=settings.gradients, tensors=settings.tensors,
        exclude=settings.exclude,
    )  # fmt: skip


def _read_store(
    name: str,
    place: StorePath,
    *,
    of_set: bool,
    truncate: bool,
    gradients: Sequence[str],
    tensors: Sequence[str],
    exclude: Sequence[str],
) -> GradientLog:
    """The log of one store, without what steps and attributes warn of. of_set : it may have no tensors"""
    hierarchy = read_hierarchy(name, place)
    attributes = dict(hierarchy.root.attributes)
    kind = _kind_of_rows(name, attributes)
    warnings: list[LogWarning] = []
    if hierarchy.root.is_array and of_set:
        raise DataError(f"{name}: a single array, and a rank's store is a log of format {FORMAT_VERSION}")
    if hierarchy.root.is_array:
        version, choice = None, bare_array(name, hierarchy.root)
    else:
        version = _format_version(name, attributes)
        choice = choose_arrays(
            name, hierarchy, gradients, None if version is None else kind, may_be_empty=of_set
        )
        if version is not None and choice.step is None:
            nothing = "with no row: nothing was logged yet"
            what = "without its `step` array (N,)" if hierarchy.arrays else nothing
            raise DataError(f"{name}: a log of format {version} {what}")
    if gradients and (version is not None or hierarchy.root.is_array):
        told = f"the log says itself which arrays are {kind.name}, and --gradients serves nothing"
        warnings.append(LogWarning("gradients-unused", told))
    opened, series = _open_arrays(place, choice)
    steps = None if choice.step is None else _read_steps(name, place, choice.step, version, warnings)
    warnings += _hierarchy_warnings(hierarchy, choice, version)
    warnings += [LogWarning(code, told) for code, told in choice.doubts]
    names = chosen_names([*(tensor.name for tensor in opened), *choice.faults], tensors, exclude)
    counted = [tensor for tensor in opened if tensor.name in names] or ([] if of_set else opened)
    if not opened and not of_set:
        raise DataError(f"{name}: {first_fault(choice.faults)}")
    rows = _committed_rows(name, counted, steps, truncate, choice.told, warnings)
    step = np.arange(rows, dtype=np.int64) if steps is None else steps[:rows]
    return GradientLog(
        path=name,
        format_version=version,
        zarr_format=hierarchy.root.zarr_format,
        tensors=tuple(opened),
        rows=rows,
        step=step,
        series=series,
        attributes=attributes,
        warnings=tuple(warnings),
        left_out=choice.left_out,
        faults=choice.faults,
        step_axis=choice.step_axis,
    )


def _open_arrays(place: StorePath, choice: Choice) -> tuple[list[ZarrTensor], dict[str, zarr.Array[Any]]]:
    """The tensors and series as Zarr arrays; what Zarr cannot follow becomes a fault of the choice."""
    tensors: list[ZarrTensor] = []
    series: dict[str, zarr.Array[Any]] = {}
    with decoding_with(ZARR_PIPELINE):
        for found in choice.found:
            try:
                array = make_array(place, found.node)
            except DataError as error:
                choice.faults[found.name] = str(error)
            else:
                tensors.append(ZarrTensor(found.name, array, found.entries, found.axis))
        for path, node in choice.series.items():
            try:
                series[path] = make_array(place, node)
            except DataError as error:
                choice.left_out[path] = str(error)
    others = []
    for tensor in tensors:
        array, fetched = tensor.array, tensor.fetched
        near = UncompressedChunks.of(array) or PackedChunks.of(array) or FileShards.of(array)
        chunks = near or RemoteChunks.fetched_as(array, fetched)
        if chunks is not None:
            tensor.trust(chunks)
        else:
            others.append(tensor)
    if others and zarrs_is_installed():  # loading it takes longer than some logs
        with decoding_with(ZARRS_PIPELINE):
            for tensor in others:
                padded = padded_array(tensor.array)
                if padded is not None:
                    tensor.trust(padded)
    return sorted(tensors, key=lambda tensor: tensor.name), series


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


def _kind_of_rows(name: str, attributes: Mapping[str, Any]) -> RowKind:
    try:
        return row_kind(attributes)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _hierarchy_warnings(hierarchy: Hierarchy, choice: Choice, version: int | None) -> list[LogWarning]:
    """What was not where it should be, and what was left out though nothing said so."""
    warnings = []
    if hierarchy.implicit:
        told = f"folders without metadata, taken for groups: {shown(hierarchy.implicit, SHOWN)}"
        warnings.append(LogWarning("groups-implicit", f"{told}; was a file lost?"))
    lost = [] if version is not None else hierarchy.orphans
    lost = [*lost, *(path for path in hierarchy.faults if path in choice.left_out)]
    if lost:
        warnings.append(LogWarning("objects-left-out", f"no Zarr metadata, left out: {shown(lost, SHOWN)}"))
    if choice.told or not choice.left_out:
        return warnings
    reasons: dict[str, list[str]] = {}
    for path, why in choice.left_out.items():
        if path not in lost:
            reasons.setdefault(why, []).append(path)
    if reasons:
        left = "; ".join(f"{shown(paths, SHOWN)} ({why})" for why, paths in reasons.items())
        taken = shown([found.name for found in choice.found], 3)
        warnings.append(
            LogWarning(
                "arrays-left-out",
                f"left out as no gradients: {left}; taken: {taken}; --gradients GLOB says which are",
            )
        )
    return warnings


def _read_steps(
    name: str, place: StorePath, node: Node, version: int | None, warnings: list[LogWarning]
) -> NDArray[np.int64] | None:
    """(N,) training steps; None where what is there is none, which a warning tells."""
    kind = stored_type(node)
    whole, real = kind.startswith(("int", "uint")), kind.startswith("float")
    if len(node.shape) != 1 or not (whole or real):
        if version is None:
            return None
        shown = f", shape {node.shape}" if len(node.shape) != 1 else ""
        raise DataError(f"{name}: `step` is an array of {kind}{shown}; training steps are int64 (N,)")
    try:
        with decoding_with(ZARR_PIPELINE):
            array = make_array(place, node)
        absent = take_inventory(node.path, array, array.shape[0]).absent if array.shape[0] else ()
        if absent and version is not None:
            # Zarr writers skip chunks of zeros: a lone first step may be 0, a run of steps may not.
            if absent != ((0,),) or min(array.chunks[0], array.shape[0]) > 1:
                raise DataError("a chunk of it is absent")
            warnings.append(
                LogWarning("chunks-absent", "the first chunk of `step` is absent: read as step 0")
            )
        values = np.asarray(array[...])
    except Exception as error:
        raise DataError(f"{name}: `{node.path}` cannot be read: {first_line(error)}") from error
    steps = _whole_numbers(values)
    if steps is not None:
        return steps
    at = int(np.argmax([_whole_numbers(values[i : i + 1]) is None for i in range(values.size)]))
    told = f"`{node.path}` holds {values[at]} at row {at}, which is no training step (a whole number)"
    if version is not None:
        raise DataError(f"{name}: {told}")
    warnings.append(LogWarning("steps-not-whole", f"{told}: rows are counted instead"))
    return None


def _whole_numbers(values: NDArray[Any]) -> NDArray[np.int64] | None:
    """The values as int64, None where one is no whole number that fits."""
    if values.dtype.kind == "f":
        inside = np.abs(values) < 2.0**63
        if not bool(np.all(inside)) or bool(np.any(values != np.floor(values))):
            return None
    elif values.size and int(values.max()) >= 2**63:
        return None
    return values.astype(np.int64)


def _committed_rows(
    name: str,
    tensors: Sequence[Tensor],
    steps: NDArray[np.int64] | None,
    truncate: bool,
    declared: bool,
    warnings: list[LogWarning],
) -> int:
    lengths = {tensor.name: tensor.rows for tensor in tensors}
    if not lengths and steps is not None:  # of a rank that no tensor has a part for
        lengths = {"": int(steps.size)}
    shortest = min(lengths, key=lambda key: lengths[key])
    longest = max(lengths, key=lambda key: lengths[key])
    rows = lengths[longest] if steps is None else int(steps.size)
    if lengths[shortest] < rows:
        against = f"'{longest}' has {rows}" if steps is None else f"`step` says {rows}"
        told = f"tensor '{shortest}' has {lengths[shortest]} rows and {against}"
        if not truncate:
            cure = f"--truncate analyzes the first {lengths[shortest]} rows"
            if not declared:
                cure += f"; if '{shortest}' is no gradient, --gradients GLOB says which arrays are"
            raise DataError(f"{name}: {told}; {cure}")
        rows = lengths[shortest]
        warnings.append(LogWarning("truncated", f"{told}: only the first {rows} rows are analyzed"))
    if rows == 0:
        raise DataError(f"{name}: no committed rows: nothing was logged yet")
    return rows
