"""Begin to record a training loop: look at its model and optimizers, open the log, set the hooks."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..logs.log import GradientLog
from ..logs.opening import open_log
from ..logs.places.finding import growing_place
from ..logs.row_values import check_names, whole_step
from ..logs.writer import LogWriter, create_log
from .last_row import LastRow
from .libraries import load_torch
from .parameters import Owners, chosen_parameters, model_name, named_parameters
from .recorder import Nonfinite, Recorder, Taking, WhenFull, of_log
from .row_entries import RowEntries
from .row_gathering import Missing, RowGathering
from .row_series import RowSeries
from .row_slot import RowSlot, local_shape
from .row_writer import RowWriter
from .shards import are_distributed, open_share
from .step_hooks import inner_optimizers


def record(
    path: str | os.PathLike[str],
    model: Any,
    optimizer: Any,
    *,
    every: int = 1,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    dtype: Any = "float32",
    project: int | None = None,
    seed: int = 0,
    missing: Missing = "zero",
    when_full: WhenFull = "wait",
    nonfinite: Nonfinite = "keep",
    series: Sequence[str] = (),
    start_step: int = 0,
    resume: bool = False,
    after_step: int | None = None,
    overwrite: bool = False,
    attributes: Mapping[str, Any] | None = None,
    slots: int = 1,
    flush_every: int = 16,
    fsync: bool = False,
) -> Recorder:
    """Record the gradients that the steps of an optimizer of PyTorch use, in a log of format 1 at `path`.

    Called once, before the training loop. A row is taken in a hook before each step, or behind the first
    evaluation of the closure that step() is given: one row an optimizer step, whatever was accumulated,
    reduced, scaled or clipped before it. Steps that a GradScaler leaves out make no row. Parameters have the
    names of `model.named_parameters()`, without what torch.compile and DistributedDataParallel put before
    them; tied ones are recorded once, frozen ones not until they are trained.

    Under DistributedDataParallel, and wherever processes hold replicas, that of rank 0 records, and in the
    others nothing is written. Of sharded parameters (fully_shard, DTensor) every process calls this, and
    writes its part to `path`/rank-000 and so on.

    Parameters
    ----------
    path : folder to create, or with `resume` to go on with; or its URL (s3://, gs://, az://)
    model : a module, or pairs of a name and a parameter
    optimizer : one, or several: a row is complete when all have stepped, with what each used last
    every : training steps 0, k, 2k, ... are recorded
    include, exclude : globs of names; by default all parameters that the optimizers step
    dtype : "float32", "float16" or "bfloat16", that gradients are stored as
    project : M, to store M sums of each larger tensor in place of its gradients, as `sketch_log` does
    seed : of the projection
    missing : what a gradient that is None becomes: "zero", or with "hold" the tensor's last, that of the last
        row of a log that is resumed; both are counted in the series `missing`. "error" raises at the step.
        Tensors that are trained later are zero before
    when_full : "wait" for the disk, or "drop" rows, counted in the series `dropped`
    nonfinite : "keep" rows with NaN or infinity, or "skip" them, counted in the series `skipped`
    series : names that `note` is given first behind the first row
    start_step : training step of the first step, where a log begins
    resume : go on behind the last row of the log at `path`; one begins where there is none
    after_step : with `resume`, training step of the checkpoint that training goes on from: rows of later
        steps are cut, and the next step has the number behind it; by default that of the last row
    overwrite : replace the log at `path`
    attributes : free metadata, beside model, optimizer, every, dtype and the version of PyTorch
    slots : rows that may wait for the disk, each as large in memory as a row
    flush_every : rows are committed whenever so many are not; so many, and those in slots, a kill may lose
    fsync : rows count as committed once they are on the disk

    Raises
    ------
    UsageError : PyTorch is not installed; the model, the optimizer or an option cannot be recorded, or what
        `create_log` refuses
    DataError : the log to resume is damaged; a service refuses to write
    OSError : the system refuses to write

    A row that cannot be written is told by the next step, by `flush` and by `close`: RecordingError.
    """
    torch = load_torch()
    found = growing_place(path)
    place = found if isinstance(found, Path) else str(found)
    with of_log(place):
        optimizers = inner_optimizers(optimizer)
        known = named_parameters(model)
        chosen = chosen_parameters(known, include, exclude)
        owners = Owners(known, chosen)
        stepped = {name: parameter for one in optimizers for name, parameter in owners.of(one)}
        if not any(parameter.requires_grad for parameter in stepped.values()):
            raise UsageError("the optimizer steps no parameter that is recorded and requires a gradient")
        taking = Taking(every, missing, when_full, nonfinite)
        entries = RowEntries.of(dtype, project, seed)
        check_names((), series)
        if slots < 1:
            raise UsageError("slots must be at least 1")
        first = whole_step("start_step", start_step)
        after = None if after_step is None else whole_step("after_step", after_step)
        if after is not None and not resume:
            raise UsageError("after_step says where to resume: it needs resume=True")
        told = {
            "model": model_name(model),
            "optimizer": " + ".join(dict.fromkeys(type(one).__name__ for one in optimizers)),
            "every": every,
            "dtype": entries.dtype,
            "torch": str(torch.__version__),
        }
        create = functools.partial(
            create_log,
            attributes={key: value for key, value in told.items() if value} | dict(attributes or {}),
            missing="fail" if missing == "error" else "zero",
            flush_every=flush_every,
            fsync=fsync,
        )
        writer: LogWriter | None = None
        last: int | None = None
        if are_distributed(chosen):
            _check_shared(entries, taking)
            if not isinstance(place, Path):
                raise UsageError(
                    "processes that each record a part write to a local folder, and not to a URL: gradmf "
                    "rechunk copies the log there"
                )
            share, writer, last = open_share(place, chosen, resume, after, overwrite, create)
            owners = Owners(known, {name: chosen[name] for name in share})
        elif not _is_replica(model):
            shapes = {name: tuple(parameter.shape) for name, parameter in chosen.items()}
            writer = create(
                place, resume=resume, after_step=after, overwrite=overwrite,
                declared=entries.declared(), boxes=entries.boxes(shapes),
            )  # fmt: skip
            last = writer.last_step
        rows: RowWriter | None = None
        stored: GradientLog | None = None
        try:
            if writer is not None and writer.rows:
                stored = _stored(writer, owners.chosen, entries)
            noted = RowSeries(taking.counts, series, None if stored is None else stored.series)
            tensors = () if stored is None else stored.tensors
            gathering = RowGathering(owners, missing, [tensor.name for tensor in tensors])
            if writer is not None:
                pinned = any(parameter.is_cuda for parameter in chosen.values())
                free = [RowSlot(entries.dtype, pinned) for _ in range(slots)]
                before = None if stored is None else LastRow(stored)
                rows = RowWriter(writer, free, entries.projection, nonfinite == "skip", before)
        except BaseException:
            if writer is not None:
                writer.close()
            raise
    step = after + 1 if after is not None else first if last is None else last + 1
    return Recorder(place, optimizers, gathering, rows, taking, noted, step)


def _check_shared(entries: RowEntries, taking: Taking) -> None:
    """Raise UsageError for what processes that each hold a part cannot do."""
    if entries.projection is not None:
        raise UsageError("sharded gradients are not projected while they are recorded: record, then sketch")
    if taking.when_full == "drop" or taking.nonfinite == "skip":
        raise UsageError(
            "processes that each record a part need the same rows: when_full='wait' and nonfinite='keep'"
        )


def _is_replica(model: Any) -> bool:
    """Whether another process records what this one has too."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return False
    inner = getattr(model, "_orig_mod", model)
    group = inner.process_group if type(inner).__name__ == "DistributedDataParallel" else None
    return bool(dist.get_rank(group) > 0)


def _stored(writer: LogWriter, parameters: Mapping[str, Any], entries: RowEntries) -> GradientLog:
    """The log that is resumed. Raises UsageError where its rows are of another kind."""
    log = open_log(writer.path)
    entries.check(log, {name: local_shape(parameter) for name, parameter in parameters.items()})
    return log
