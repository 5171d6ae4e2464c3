"""Make a log of what people already have: gradients in files, or weights in checkpoints."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, GradmfError
from ..logs.places.finding import place_of
from ..logs.places.place import Place
from ..logs.root_attributes import declare
from ..logs.row_values import BFLOAT16
from ..logs.update_log import LARGEST_ROUNDING, update_warnings
from ..logs.writer import LogWriter, create_log
from ..progress import Progress
from ..quick_dataclass import dataclass
from ..results.result import LogWarning
from ..sizes import DEFAULT_MEMORY
from .import_plan import FilePath, ImportPlan, ImportSettings, Ready, bfloat16, prepare
from .row_buffer import RowBuffer
from .snapshot import Kind
from .updates import Rounding, subtract, update_dtype

THREADS = 2
"""One reads a tensor, or checks what it has read, while the other writes one."""


@dataclass(frozen=True)
class ImportSummary:
    """What was imported, and where it is.

    rounding : energy of the rounding of 16-bit weights over that of the updates, None without such weights
    tensor_rounding : the same of each tensor that moved
    """

    out: str
    plan: ImportPlan
    warnings: tuple[LogWarning, ...]
    rounding: float | None = None
    tensor_rounding: Mapping[str, float] = field(default_factory=dict)


def import_log(
    sources: FilePath | Sequence[FilePath],
    out: FilePath,
    settings: ImportSettings | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
) -> ImportSummary:
    """Write a log of format 1 to the folder `out`, which appears whole or not at all.

    Sources of gradients, bit for bit as they are: .npz, .safetensors, PyTorch's .pt and .pth, and .npy, a
    file a step; one .npy whose first axis is the step; HDF5, whose datasets have a leading step axis, or
    with a group a step, or a file a step; Zarr stores, of one log or of one step each. With
    `settings.updates`, checkpoints: files of weights, folders of Hugging Face, .ckpt of Lightning; a row is
    the difference of a checkpoint to the one before, in float32 (float64 of float64 weights), at the step of
    the later one. A folder stands for what is in it.

    Parameters
    ----------
    memory : bytes to stay within, beside what the writer gathers; a row of updates that is larger goes by way
        of a file

    Raises
    ------
    UsageError : `out` exists; steps are repeated, or not to be found; sources are of several kinds; a
        library is missing
    DataError : a source is damaged, is none, or holds other tensors than the first; rounding of 16-bit
        weights is more than half of the updates' energy
    OSError : there is no room for the log
    """
    place = place_of(out)
    place.check_free()
    settings = settings or ImportSettings()
    ready = prepare(sources, settings, memory)
    _check_space(place, ready.plan.bytes_written)
    with place.whole_folder() as folder, _called(place.name, folder):
        writer = create_log(folder, resume=True, attributes=ready.attributes, declared=ready.declared)
        rounding = None
        if settings.updates:
            rounding = _write_updates(writer, ready, memory, progress)
        else:
            _write_gradients(writer, ready, memory, progress)
        writer.close()
        shares = rounding and _checked(place.name, rounding, settings)
        declared = dict(ready.declared)
        if shares:
            declared["rounding"] = {"total": shares[0], "tensors": shares[1]}
            declare(folder, declared)
    return ImportSummary(
        out=os.fspath(out),
        plan=ready.plan,
        warnings=(*ready.plan.warnings, *update_warnings({"gradlog": declared})),
        rounding=shares[0] if shares else None,
        tensor_rounding=shares[1] if shares else {},
    )


def _check_space(place: Place, size: int) -> None:
    """Raise OSError where there is less room than the log takes, as far as the system knows."""
    try:
        free = shutil.disk_usage(place.folder_filled()).free
    except OSError:
        return
    if free < size:
        told = f"no room: {size / 1e9:.3g} GB to write, {free / 1e9:.3g} GB free"
        raise OSError(errno.ENOSPC, told, place.name)


@contextlib.contextmanager
def _called(name: str, folder: Path) -> Iterator[None]:
    """Let errors that name the hidden folder name the log. folder : where it is written meanwhile"""
    try:
        yield
    except GradmfError as error:
        if str(folder) in str(error):
            raise type(error)(str(error).replace(str(folder), name)) from error
        raise


def _write_gradients(writer: LogWriter, ready: Ready, memory: int, progress: Progress | None) -> None:
    kinds = ready.chosen.tensors
    like = {name: _like(kind) for name, kind in kinds.items()}
    threads = max(1, min(THREADS, memory // max(1, *(kind.nbytes for kind in kinds.values()))))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="gradmf-import")
    try:
        for row, (snapshot, planned) in enumerate(zip(ready.snapshots, ready.plan.steps, strict=True)):
            with snapshot.opened() as values:
                writer.append_read(planned.step, like, values, pool, **ready.series_of(row))
            if progress is not None:
                progress((row + 1) * ready.chosen.nbytes, ready.plan.bytes_read)
    finally:
        pool.shutdown(cancel_futures=True)


def _like(kind: Kind) -> NDArray[Any]:
    """An array of that dtype and shape that takes no memory."""
    dtype = bfloat16() if kind.dtype == BFLOAT16 else np.dtype(kind.dtype)
    return np.broadcast_to(np.zeros((), dtype), kind.shape)


def _write_updates(writer: LogWriter, ready: Ready, memory: int, progress: Progress | None) -> Rounding:
    kinds = ready.chosen.tensors
    types = {name: (kind.shape, update_dtype(kind)) for name, kind in kinds.items()}
    row = RowBuffer(types, memory, writer.path)
    rounding = Rounding(kinds)
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(contextlib.ExitStack())
        before = held.enter_context(ready.snapshots[0].opened())
        for name in kinds:
            rounding.start(name, before(name))
        for at, snapshot in enumerate(ready.snapshots[1:]):
            following = stack.enter_context(contextlib.ExitStack())
            after = following.enter_context(snapshot.opened())
            for name, kind in kinds.items():
                old, new = before(name), after(name)  # of a stack, in this order no row is read twice
                rounding.add(name, new, subtract(kind, old, new, row[name]))
            writer.append(
                ready.plan.steps[at + 1].step, {name: row[name] for name in kinds}, **ready.series_of(at)
            )
            held.close()
            held, before = following, after
            if progress is not None:
                progress((at + 2) * ready.chosen.nbytes, ready.plan.bytes_read)
    return rounding


def _checked(
    name: str, rounding: Rounding, settings: ImportSettings
) -> tuple[float, dict[str, float]] | None:
    """Shares of rounding, as of `Rounding`. Raises DataError where they are too large, or nothing moved."""
    if rounding.nothing_moved:
        raise DataError(f"{name}: the checkpoints all hold the same weights: there are no updates")
    shares = rounding.shares()
    if shares and shares[0] > LARGEST_ROUNDING and not settings.allow_rounding:
        total, tensors = shares
        worst = max(tensors, key=tensors.__getitem__)
        raise DataError(
            f"{name}: rounding of the 16-bit weights is about {total:.2g} of the updates' energy ("
            f"'{worst}': {tensors[worst]:.2g}), more than {LARGEST_ROUNDING}: such updates are mostly noise; "
            "save weights in float32, take checkpoints further apart, or allow it: --allow-rounding"
        )
    return shares
