"""Gradients that lie distributed over processes (DTensor, FSDP2): each process records what it holds.

A process writes a log of its own, `PATH/rank-000` and so on, whose tensors are boxes of the whole ones. Logs
of one set share the id of the run; each says which it is, where its process lies in the mesh, and of each
tensor the global shape, the offset of the box, and the placements. Of replicas the first is recorded, and
processes that hold nothing else write nothing: logs are numbered among those that do.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError, first_line
from ..logs.root_keys import is_zarr_node
from ..logs.writer import LogWriter
from ..quick_dataclass import dataclass

RANK = "rank-{:03}"
BEFORE_ALL = -(2**63)
"""A training step that comes before every row."""


def are_distributed(parameters: Mapping[str, Any]) -> bool:
    """Whether any is a DTensor. Raises UsageError where some are and some are not."""
    module = sys.modules.get("torch.distributed.tensor")
    if module is None:
        return False
    whole = [name for name, parameter in parameters.items() if not isinstance(parameter, module.DTensor)]
    if len(whole) == len(parameters):
        return False
    if whole:
        raise UsageError(
            f"parameter '{whole[0]}' is not distributed, and others are: shard all of the model, or leave it "
            f"out, exclude=['{whole[0]}']"
        )
    return True


@dataclass(frozen=True)
class Share:
    """What this process holds. boxes : by name, the part of each tensor that it records"""

    mesh: Any
    boxes: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Share:
        """Raises UsageError for placements that cannot be recorded, or parameters of several meshes."""
        meshes = [parameter.device_mesh for parameter in parameters.values()]
        if any(mesh != meshes[0] for mesh in meshes):
            raise UsageError("parameters lie on several device meshes: record those of each by themselves")
        boxes = {name: _box(name, parameter) for name, parameter in parameters.items()}
        return cls(meshes[0], {name: box for name, box in boxes.items() if box is not None})

    def place(self) -> dict[str, Any]:
        """Where the process lies in the mesh."""
        return {
            "shape": list(self.mesh.shape),
            "names": list(self.mesh.mesh_dim_names or ()),
            "coordinate": list(self.mesh.get_coordinate()),
        }


def _box(name: str, parameter: Any) -> dict[str, Any] | None:
    """The part of a tensor that this process records; None where another has it, or there is nothing."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = parameter.device_mesh, parameter.placements
    check_placements(name, placements)
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return None
    if any(at and placement.is_replicate() for at, placement in zip(coordinate, placements, strict=True)):
        return None
    shape, offset = compute_local_shape_and_global_offset(parameter.shape, mesh, placements)
    if 0 in shape:
        return None
    return {
        "global_shape": list(parameter.shape),
        "offset": list(offset),
        "placements": [_word(placement) for placement in placements],
    }


def check_placements(name: str, placements: Any) -> None:
    """Raise UsageError for placements of a tensor that are neither shards nor replicas."""
    for placement in placements:
        if placement.is_partial():
            raise UsageError(
                f"tensor '{name}' is {_word(placement)}: each process holds a summand of it: reduce it "
                "first, or leave it out"
            )
        if type(placement).__name__ not in ("Shard", "Replicate"):
            raise UsageError(
                f"tensor '{name}' is placed as {_word(placement)}, which is not recorded: leave it out"
            )


def _word(placement: Any) -> str:
    if type(placement).__name__ == "Shard":
        return f"Shard({placement.dim})"
    return "Replicate()" if placement.is_replicate() else repr(placement)


@dataclass
class _Told:
    """What a process tells the others. fault : why it cannot go on; run : of the log that it goes on with"""

    fault: str = ""
    records: bool = False
    run: str | None = None
    last_step: int | None = None


class _Processes:
    """Those of a mesh, which do the same things at the same time."""

    def __init__(self, mesh: Any) -> None:
        import torch.distributed as dist

        if not dist.is_initialized():
            raise UsageError("parameters are distributed over processes: init_process_group first")
        self._group = _group(mesh)
        self.number = int(dist.get_rank(self._group))

    def do(self, work: Callable[[_Told], None]) -> list[_Told]:
        """What all of them tell of their work. What one of them cannot do is raised by all."""
        import torch.distributed as dist

        mine = _Told()
        failure: Exception | None = None
        try:
            work(mine)
        except Exception as error:
            failure = error
            mine.fault = first_line(error)
        told: list[Any] = [None] * dist.get_world_size(self._group)
        dist.all_gather_object(told, mine, group=self._group)
        if failure is not None:
            raise failure
        for process, other in enumerate(told):
            if other.fault:
                raise UsageError(f"process {process} cannot record: {other.fault}")
        return told


def open_share(
    path: Path,
    parameters: Mapping[str, Any],
    resume: bool,
    after_step: int | None,
    overwrite: bool,
    create: Callable[..., LogWriter],
) -> tuple[list[str], LogWriter | None, int | None]:
    """Names of tensors that this process records, the writer of its log, and the last step of all logs.

    The writer is None where the process records nothing. All processes of the mesh call this.

    create : makes a log, of a path and keywords as of `create_log`

    Raises UsageError in all of them for what one of them cannot do.
    """
    processes = _Processes(next(iter(parameters.values())).device_mesh)
    number = processes.number
    found: list[Share] = []

    def look(mine: _Told) -> None:
        found.append(Share.of(parameters))
        mine.records = bool(found[0].boxes)
        if number == 0:
            _check_place(path, resume, overwrite)

    records = [told.records for told in processes.do(look)]
    share = found[0]
    rank, ranks = sum(records[:number]), sum(records)
    place = path / RANK.format(rank)

    def name(mine: _Told) -> None:
        mine.run = _run_of(place) if resume and records[number] else None
        mine.run = mine.run or (uuid.uuid4().hex if number == 0 else None)

    first, *others = (told.run for told in processes.do(name))
    run = next((known for known in others if known), first)
    declared = {"run": run, "rank": rank, "ranks": ranks, "mesh": share.place()}
    opened = functools.partial(create, place, declared=declared, boxes=share.boxes)
    writers: list[LogWriter] = []

    def begin(mine: _Told) -> None:
        if records[number]:
            writers.append(opened(resume=resume, after_step=after_step, overwrite=overwrite))
            mine.last_step = writers[0].last_step

    try:
        begun = processes.do(begin)
        last = {told.last_step for told, is_there in zip(begun, records, strict=True) if is_there}
        least = None if None in last else min(step for step in last if step is not None)
        if len(last) > 1:  # after a kill, some have rows that others lack

            def cut(_: _Told) -> None:
                if writers and writers[0].last_step != least:
                    writers.pop().close()
                    writers.append(opened(resume=True, after_step=BEFORE_ALL if least is None else least))

            processes.do(cut)
        if number == 0 and overwrite:
            _remove_others(path, ranks)
    except BaseException:
        for writer in writers:
            writer.close()
        raise
    return list(share.boxes), (writers[0] if writers else None), least


def _group(mesh: Any) -> Any:
    """The process group of a mesh; None for that of all processes."""
    import torch.distributed as dist

    if mesh.size() == dist.get_world_size():
        return None
    if mesh.ndim == 1:
        return mesh.get_group()
    raise UsageError("the device mesh has several axes and not all processes: record on a mesh of all")


def _check_place(path: Path, resume: bool, overwrite: bool) -> None:
    """Raise UsageError where a set of logs cannot be written."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path}: a file; choose another path")
    if is_zarr_node(path):
        raise UsageError(f"{path}: not a set of logs, but one: choose another path, or remove it")
    names = [entry.name for entry in path.iterdir()]
    if not all(name.startswith("rank-") for name in names):
        raise UsageError(f"{path}: not a set of logs: choose another path")
    if names and not (resume or overwrite):
        raise UsageError(f"{path}: already there; choose another path, resume or overwrite it")


def _run_of(place: Path) -> str | None:
    """The id of the run that a log is of, None where there is none."""
    try:
        run = json.loads((place / "zarr.json").read_bytes())["attributes"]["gradlog"]["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if isinstance(run, str) else None


def _remove_others(path: Path, ranks: int) -> None:
    """Remove logs of processes that there are no more."""
    own = {RANK.format(rank) for rank in range(ranks)}
    for place in path.iterdir():
        if place.name.startswith("rank-") and place.name not in own and is_zarr_node(place):
            shutil.rmtree(place)
