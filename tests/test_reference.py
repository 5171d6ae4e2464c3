"""Analyses against the float64 reference, over shapes, chunk grids, dtypes, memory and threads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sweeps import sweep

from conftest import assert_analysis, write_store
from gradmf import gradlog
from gradmf.gradlog.engine import ranges


@st.composite
def logs(draw: st.DrawFn) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[int, ...]]]:
    rows = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["white", "walk", "low-rank", "constant", "sparse"]))
    tensors, chunks = {}, {}
    for index in range(draw(st.integers(1, 4))):
        shape = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)))
        dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
        width = int(np.prod(shape))
        values = rng.standard_normal((rows, width))
        if kind == "walk":
            values = np.cumsum(values, axis=0) * 0.01 + rng.standard_normal(width)
        elif kind == "low-rank":
            values = rng.standard_normal((rows, 2)) @ rng.standard_normal((2, width))
        elif kind == "constant":
            values = np.repeat(values[:1], rows, axis=0)
        elif kind == "sparse":
            values *= rng.random(values.shape) < 0.1
        name = f"layer{index}.weight"
        tensors[name] = values.reshape(rows, *shape).astype(dtype)
        chunks[name] = tuple(draw(st.integers(1, extent)) for extent in (rows, *shape))
    return tensors, chunks


@settings(max_examples=sweep(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    log=logs(),
    threads=st.integers(1, 4),
    memory=st.sampled_from([1 << 20, 1 << 30]),
    block=st.sampled_from([1 << 9, 1 << 26]),
    tile=st.sampled_from([3, 64, 4096]),
)
def test_reference(
    log: tuple[dict[str, NDArray[Any]], dict[str, tuple[int, ...]]],
    threads: int,
    memory: int,
    block: int,
    tile: int,
) -> None:
    tensors, chunks = log
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK_BYTES", block)
        patch.setattr(ranges, "TILE_WIDTH", tile)
        path = write_store(Path(folder) / "run.zarr", tensors, chunks=chunks)
        analysis = gradlog.analyze(path, threads=threads, memory=memory)
        assert_analysis(analysis, tensors)
        without = gradlog.analyze(path, gradlog.Settings(rank="none"), threads=threads, memory=memory)
        assert_analysis(without, tensors)
