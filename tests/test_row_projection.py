"""Rows that are projected one at a time: what a sketch of their log stores, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog.measures.sketch.row_projection import RowProjection
from gradmf.gradlog.results.projection import Projection

ROWS, SHAPES = 5, {"scalar": (), "bias": (256,), "more": (257,), "conv": (30, 3, 3, 70), "long": (9001,)}


def gradients(dtype: str) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(2)
    found = {}
    for name, shape in SHAPES.items():
        values = rng.standard_normal((ROWS, *shape)) * 10.0 ** rng.integers(-9, 9, (ROWS, *shape))
        found[name] = values.astype(dtype)
    return found


@pytest.mark.parametrize(("dtype", "seed"), [("float32", 0), ("float32", 9), ("float64", 0)])
def test_a_row_is_that_of_a_sketch(dtype: str, seed: int, tmp_path: Path) -> None:
    rows = gradients(dtype)
    chunks = {"conv": (2, 7, 3, 3, 70), "long": (3, 1000)}
    store = write_store(tmp_path / "run.zarr", rows, chunks=chunks)
    settings = gradlog.Settings(sketch_dim=256, seed=seed)
    gradlog.sketch_log(store, tmp_path / "sketch.zarr", settings)
    projection = RowProjection(Projection(256, seed))
    for tensor in gradlog.open_log(tmp_path / "sketch.zarr").tensors:
        stored = np.asarray(tensor.array[...])
        assert projection.is_wide(SHAPES[tensor.name]) == (tensor.made_of is not None)
        assert stored.dtype == dtype
        for row, values in enumerate(rows[tensor.name]):
            found = projection.apply(tensor.name, values)
            assert found.dtype == stored.dtype
            assert found.shape == stored[row].shape
            assert found.tobytes() == stored[row].tobytes(), (tensor.name, row)


def test_small_tensors_are_kept_and_sums_may_be_infinite() -> None:
    projection = RowProjection(Projection(64))
    small = np.arange(64, dtype=np.float32)
    assert projection.apply("w", small) is small
    large = np.full(4096, 3e38, np.float32)
    assert not np.isfinite(projection.apply("w", large)).all()
