"""One process of several that train together over gloo.

    python recording_ranks.py SCENARIO,... FOLDER RANK RANKS

The first saves what the whole batch gives on one process, as FOLDER/expected.npz, rows by name of tensor.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from gradmf import gradlog

LR, STEPS = 0.25, 4


def net() -> Any:
    """Extents that two and four processes don't divide, and one that is less than either."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 15), torch.nn.Tanh(), torch.nn.Linear(15, 3))


def batches(count: int) -> Iterator[Any]:
    """Inputs (16, 6), the same in all processes."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(16, 6, generator=generator)


def train(model: Any, optimizer: Any, rank: int, ranks: int, count: int = STEPS) -> None:
    """Each process on its part of every batch."""
    for batch in batches(count):
        optimizer.zero_grad()
        part = batch.chunk(ranks)[rank]
        model(part).pow(2).mean().backward()
        optimizer.step()


def expect(folder: Path, count: int = STEPS) -> None:
    """Save what one process gets of the whole batches."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    rows: dict[str, list[Any]] = {name: [] for name, _ in model.named_parameters()}
    for batch in batches(count):
        optimizer.zero_grad()
        model(batch).pow(2).mean().backward()
        for name, parameter in model.named_parameters():
            rows[name].append(parameter.grad.clone().numpy())
        optimizer.step()
    np.savez(folder / "expected.npz", **{name: np.stack(values) for name, values in rows.items()})


def refused(match: str) -> Any:
    """Every process gets the error."""
    return pytest.raises(gradlog.UsageError, match=re.escape(match))


def sgd(model: Any) -> Any:
    return torch.optim.SGD(model.parameters(), lr=LR)


def sharded(ranks: int) -> tuple[Any, Any]:
    model = net()
    mesh = init_device_mesh("cpu", (ranks,), mesh_dim_names=("shard",))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, sgd(model)


def replicas(folder: Path, rank: int, ranks: int) -> None:
    """DistributedDataParallel: the first process records."""
    model = DistributedDataParallel(net())
    optimizer = sgd(model)
    with gradlog.record(folder / "run.zarr", model, optimizer) as recorder:
        recorder.note(loss=1.0)
        train(model, optimizer, rank, ranks)
        recorder.flush()
        assert recorder.step == STEPS
        assert recorder.rows == (0 if rank else STEPS)
    dist.barrier()
    assert [path.name for path in folder.glob("*.zarr")] == ["run.zarr"]


def shards(folder: Path, rank: int, ranks: int) -> None:
    """fully_shard: every process records its part; a set that ends unevenly goes on where all have rows."""
    path = folder / "run.zarr"
    model, optimizer = sharded(ranks)
    with gradlog.record(path, model, optimizer, attributes={"batch_size": 16}) as recorder:
        train(model, optimizer, rank, ranks, 3)
    dist.barrier()
    own = path / f"rank-{rank:03}"
    told = json.loads((own / "zarr.json").read_text())["attributes"]["gradlog"]
    if rank == ranks - 1:  # as if a kill had lost its last row
        declared = {key: value for key, value in told.items() if key != "version"}
        gradlog.create_log(own, resume=True, after_step=1, declared=declared).close()
    dist.barrier()
    model, optimizer = sharded(ranks)
    with refused("already there"):
        gradlog.record(path, model, optimizer)
    with gradlog.record(path, model, optimizer, resume=True, after_step=-1) as recorder:
        assert recorder.step == 0
        train(model, optimizer, rank, ranks, 1)
    if rank == 0:
        gradlog.create_log(own, resume=True, after_step=-1, declared={}).close()
    dist.barrier()
    model, optimizer = sharded(ranks)
    with gradlog.record(path, model, optimizer, resume=True) as recorder:
        assert (recorder.step, recorder.rows) == (0, 0)
        train(model, optimizer, rank, ranks, 2)
    dist.barrier()
    with gradlog.record(path, model, optimizer, resume=True) as recorder:
        assert (recorder.step, recorder.rows) == (2, 2)
    model, optimizer = sharded(ranks)
    with gradlog.record(path, model, optimizer, overwrite=True) as recorder:
        recorder.note(loss=2.0)
        train(model, optimizer, rank, ranks)
    dist.barrier()
    again = json.loads((own / "zarr.json").read_text())["attributes"]["gradlog"]
    assert again["run"] != told["run"]


def faults(folder: Path, rank: int, ranks: int) -> None:
    """What one process cannot do is told by all, and what cannot be put together is refused."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor

    model, optimizer = sharded(ranks)
    path = folder / "run.zarr"
    for options, match in (
        ({"project": 64}, "sharded gradients are not projected"),
        ({"when_full": "drop"}, "need the same rows"),
        ({"nonfinite": "skip"}, "need the same rows"),
    ):
        with refused(match):
            gradlog.record(path, model, optimizer, **options)
    (folder / "file").write_text("mine")
    (folder / "other").mkdir(exist_ok=True)
    (folder / "other" / "notes").write_text("mine")
    gradlog.create_log(folder / f"one{rank}.zarr").close()
    dist.barrier()
    with refused("a file; choose another path"):
        gradlog.record(folder / "file", model, optimizer, overwrite=True)
    with refused("not a set of logs: choose"):
        gradlog.record(folder / "other", model, optimizer, overwrite=True)
    with refused("not a set of logs, but one"):
        gradlog.record(folder / "one0.zarr", model, optimizer, overwrite=True)
    holder = None
    if rank == 1:
        holder = gradlog.create_log(path / "rank-001")
    dist.barrier()
    with refused("somebody else is writing" if rank == 1 else "process 1 cannot record"):
        gradlog.record(path, model, optimizer, overwrite=True)
    dist.barrier()
    if holder is not None:
        holder.close()

    mesh = init_device_mesh("cpu", (ranks,))
    summands = torch.nn.Parameter(DTensor.from_local(torch.ones(3), mesh, [Partial()]))
    with refused("tensor 'p' is Partial(sum): each process holds a summand"):
        gradlog.record(folder / "partial", [("p", summands)], torch.optim.SGD([summands], lr=LR))
    mixed = [("p", torch.nn.Parameter(torch.ones(2))), ("q", next(model.parameters()))]
    with refused("parameter 'p' is not distributed"):
        gradlog.record(folder / "mixed", mixed, torch.optim.SGD([p for _, p in mixed], lr=LR))

    # A gradient that turns out to hold summands.
    whole = torch.nn.Parameter(distribute_tensor(torch.ones(3), mesh, [Replicate()]))
    step = torch.optim.SGD([whole], lr=LR)
    recorder = gradlog.record(folder / "late", [("p", whole)], step)
    whole.grad = DTensor.from_local(torch.ones(3), mesh, [Partial()])
    if rank == 0:
        with refused("training step 0: tensor 'p' is Partial(sum)"):
            step.step()
    recorder.close()
    dist.barrier()
    dist.destroy_process_group()
    with refused("init_process_group first"):
        gradlog.record(folder / "gone", model, optimizer)


def hybrid(folder: Path, rank: int, ranks: int) -> None:
    """fully_shard over a mesh of replicas and shards: the first replica records."""
    model = net()
    mesh = init_device_mesh("cpu", (2, ranks // 2), mesh_dim_names=("replicate", "shard"))
    fully_shard(model, mesh=mesh)
    optimizer = sgd(model)
    with gradlog.record(folder / "run.zarr", model, optimizer) as recorder:
        train(model, optimizer, rank, ranks)
        assert recorder.step == STEPS
    assert recorder.rows == (STEPS if rank < ranks // 2 else 0)
    dist.barrier()
    stores = sorted(path.name for path in (folder / "run.zarr").iterdir())
    assert stores == [f"rank-{number:03}" for number in range(ranks // 2)]


def few(folder: Path, rank: int, ranks: int) -> None:
    """Tensors of fewer entries than processes: those that hold none write nothing."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 2)
    mesh = init_device_mesh("cpu", (ranks,))
    fully_shard(model, mesh=mesh)
    optimizer = sgd(model)
    with gradlog.record(folder / "run.zarr", model, optimizer):
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.full((1, 1), 3.0)).sum().backward()
            optimizer.step()
    dist.barrier()
    assert sorted(path.name for path in (folder / "run.zarr").iterdir()) == ["rank-000", "rank-001"]
    if rank == 0:
        np.savez(folder / "expected.npz", weight=np.full((2, 2, 1), 3.0), bias=np.ones((2, 2)))


if __name__ == "__main__":
    scenarios, place, number, count = sys.argv[1:]
    torch.set_num_threads(1)
    rank, ranks = int(number), int(count)
    dist.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=rank, world_size=ranks)
    for name in scenarios.split(","):
        folder = Path(place) / name
        folder.mkdir(exist_ok=True)
        dist.barrier()
        if rank == 0:
            expect(folder)
        globals()[name](folder, rank, ranks)
    if dist.is_initialized():
        dist.destroy_process_group()
