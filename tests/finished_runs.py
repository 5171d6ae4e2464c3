"""Finished analyses of every kind, for tests of what reads results: by method, shape, length and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from stores import Tensors, add_array, format1_store, walk

from gradmf.gradlog import Analysis, Settings, analyze, sketch_log

NETWORK: Tensors = {
    "a.weight": walk(40, (5, 4), 1),
    "b": walk(40, (3,), 2),
    "scalar": walk(40, (), 3),
    "zero": np.zeros((40, 2), np.float32),
}
"""40 rows of 26 parameters: fewer parameters than rows, and a tensor without any gradient."""
WIDE: Tensors = {"w": walk(50, (20, 30), 7), "v": walk(50, (90,), 8), "s": walk(50, (5,), 9)}
"""50 rows of 695 parameters."""
LONG: Tensors = {
    "noise": np.random.default_rng(1).standard_normal((300, 500)).astype(np.float32),
    "walk": walk(300, (200,), 3),
}
SMALL_MEMORY = 5_000_000
"""A basis that does not hold the directions of LONG: bounds stay open."""


def store(folder: Path, name: str, tensors: Tensors) -> Path:
    """A log with loss, lr and metadata."""
    path = format1_store(folder / f"{name}.zarr", tensors)
    rows = len(next(iter(tensors.values())))
    group = zarr.open_group(path)
    group.attrs["optimizer"] = "adamw"
    add_array(group, "loss", np.linspace(2, 1, rows))
    add_array(group, "lr", np.linspace(0.1, 0.01, rows))
    return path


def stores(folder: Path) -> dict[str, Path]:
    """A log of each shape."""
    tensors: dict[str, Tensors] = {"network": NETWORK, "wide": WIDE, "long": LONG}
    tensors |= {f"rows{n}": {name: values[:n] for name, values in NETWORK.items()} for n in (1, 2, 3)}
    tensors["zeros"] = {"a": np.zeros((30, 4), np.float32), "b": np.zeros((30, 2, 2), np.float32)}
    tensors["constant"] = {"a": np.ones((30, 4), np.float32)}
    tensors["huge"] = {"a": walk(40, (4,), 1, "float64") * 1e150, "b": walk(40, (3, 2), 2, "float64") * 1e140}
    tensors["tiny"] = {"a": walk(40, (4,), 1, "float64") * 1e-135, "b": walk(40, (3,), 2, "float64") * 1e-120}
    return {name: store(folder, name, values) for name, values in tensors.items()}


def finished_runs(folder: Path) -> dict[str, Analysis]:
    """An analysis of each of these logs by each method that it has, with all that it can hold."""
    logs = stores(folder)
    found = {}
    for name, path in logs.items():
        if name == "long":
            settings = Settings(rank="incremental")
            found["long incremental"] = analyze(path, settings, tensor_steps=True, memory=SMALL_MEMORY)
            continue
        found[f"{name} exact"] = analyze(path, Settings(subspace=2), tensor_steps=True, search=True)
        for rank in ("incremental", "sketch", "none"):
            settings = Settings(rank=rank, sketch_dim=64 if rank == "sketch" else None)
            found[f"{name} {rank}"] = analyze(path, settings, tensor_steps=True, search=rank == "none")
    sketch_log(logs["wide"], folder / "sketched.zarr", Settings(sketch_dim=64))
    found["sketched"] = analyze(folder / "sketched.zarr", tensor_steps=True)
    return found
