"""Processes that train together over gloo, against one process with the whole batch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from training_loops import recorded, series_of, steps_of

from gradmf import gradlog

pytestmark = pytest.mark.extras

SCRIPT = Path(__file__).parent / "recording_ranks.py"


def together(scenarios: str, folder: Path, ranks: int) -> None:
    """Run the scenarios in so many processes, one after the other."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", SCRIPT, scenarios, folder, str(rank), str(ranks)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    try:
        told = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * ranks, "\n".join(told)


def put_together(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """(rows, *global shape) of each tensor, from what the stores say of their boxes."""
    whole: dict[str, np.ndarray[Any, Any]] = {}
    held: dict[str, np.ndarray[Any, Any]] = {}
    for store in sorted(path.iterdir()):
        for name, array in zarr.open_group(store / "grads", mode="r").members(max_depth=None):
            box = array.attrs["gradlog"]
            shape = tuple(box["global_shape"])
            corner = tuple(
                slice(at, at + extent) for at, extent in zip(box["offset"], array.shape[1:], strict=True)
            )
            whole.setdefault(name, np.full((array.shape[0], *shape), math.nan))[:, *corner] = array[:]
            held.setdefault(name, np.zeros(shape, int))[corner] += 1
    assert all((count == 1).all() for count in held.values())
    return whole


def assert_set(folder: Path, ranks: int, mesh: dict[str, Any], placements: list[str]) -> None:
    path = folder / "run.zarr"
    expected = np.load(folder / "expected.npz")
    found = put_together(path)
    assert found.keys() == set(expected.files)
    for name in expected.files:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-7)
    stores = sorted(path.iterdir())
    roots = [json.loads((store / "zarr.json").read_text())["attributes"]["gradlog"] for store in stores]
    assert len({root["run"] for root in roots}) == 1
    assert [root["rank"] for root in roots] == list(range(ranks))
    assert {root["ranks"] for root in roots} == {ranks}
    for root in roots:
        assert {key: root["mesh"][key] for key in mesh} == mesh
    assert sorted(root["mesh"]["coordinate"] for root in roots)[0] == [0] * len(mesh["shape"])
    for store in stores:
        for _, array in zarr.open_group(store / "grads", mode="r").members(max_depth=None):
            assert array.attrs["gradlog"]["placements"] == placements
    log = gradlog.open_log(path)
    assert {tensor.name: tensor.shape for tensor in log.tensors} == {
        name: expected[name].shape[1:] for name in expected.files
    }
    energy = sum(float((expected[name].astype(float) ** 2).sum()) for name in expected.files)
    assert gradlog.analyze(path).total.energy == pytest.approx(energy, rel=1e-4)


def test_two_processes(tmp_path: Path) -> None:
    together("replicas,shards,faults", tmp_path, 2)
    expected = np.load(tmp_path / "replicas" / "expected.npz")
    rows = recorded(tmp_path / "replicas" / "run.zarr")
    assert steps_of(tmp_path / "replicas" / "run.zarr") == [0, 1, 2, 3]
    for number, row in enumerate(rows):
        assert row.keys() == set(expected.files)
        for name in row:
            np.testing.assert_allclose(row[name], expected[name][number], rtol=1e-4, atol=1e-7)
    assert_set(tmp_path / "shards", 2, {"shape": [2], "names": ["shard"]}, ["Shard(0)"])
    first = tmp_path / "shards" / "run.zarr" / "rank-000"
    np.testing.assert_array_equal(series_of(first, "loss"), [2.0, math.nan, math.nan, math.nan])
    shapes = [recorded(store)[0]["0.weight"].shape for store in sorted(first.parent.iterdir())]
    assert shapes == [(8, 6), (7, 6)]


def test_four_processes(tmp_path: Path) -> None:
    together("replicas,shards,hybrid,few", tmp_path, 4)
    assert_set(tmp_path / "shards", 4, {"shape": [4], "names": ["shard"]}, ["Shard(0)"])
    stores = sorted((tmp_path / "shards" / "run.zarr").iterdir())
    # 3 rows of the last weight on 4 processes: the last holds none of it.
    assert ["2.weight" in recorded(store)[0] for store in stores] == [True, True, True, False]
    assert_set(
        tmp_path / "hybrid",
        2,
        {"shape": [2, 2], "names": ["replicate", "shard"]},
        ["Replicate()", "Shard(0)"],
    )
    assert_set(tmp_path / "few", 2, {"shape": [4], "names": []}, ["Shard(0)"])


def test_how_pytorch_tells_where_a_shard_lies(tmp_path: Path) -> None:
    """The function is private: this says what is relied on."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        assert compute_local_shape_and_global_offset((15, 8), mesh, [Shard(0)]) == ((15, 8), (0, 0))
    finally:
        dist.destroy_process_group()
