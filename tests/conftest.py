"""Shared helpers: stores written by plain zarr-python, and comparison with the reference."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from stores import add_array
from threadpoolctl import threadpool_info

import reference
from gradmf import gradlog
from gradmf.gradlog.engine import plan, ranges
from gradmf.gradlog.logs import packed_chunks

# What a shell runs in the background ignores Ctrl-C, and under nohup that its terminal is closed: so would
# the processes that tests interrupt.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# They take the width of tiles once, and are loaded late: not while a test has narrow ones.
for module in ("search.history_band", "sketch.sketched_rank", "sketch.stored_sketch", "subspaces.subspace"):
    import_module(f"gradmf.gradlog.measures.{module}")

# Processes that tests start multiply matrices as this one does, to the bit: what suits a processor best is
# chosen before NumPy loads, which here it has.
for library in threadpool_info():
    if library["internal_api"] == "openblas":
        os.environ.setdefault("OPENBLAS_CORETYPE", library["architecture"])

READ_EITHER_WAY = {"test_layouts", "test_damage", "test_bad_data", "test_foreign_stores", "test_live_reading"}


@pytest.fixture(autouse=True)
def packed_chunks_are_read_either_way(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the tests of how chunks are read, a third leaves them to zarrs, a third takes small for large."""
    if request.node.module.__name__ in READ_EITHER_WAY:
        limit = (None, "LARGEST", "SMALL")[zlib.crc32(request.node.name.encode()) % 3]
        if limit is not None:
            monkeypatch.setattr(packed_chunks, limit, 0)


PREDICTORS = ("one-step", "ema:0.5", "ema:0.9", "ema:0.99", "mean:5", "linear")


def write_store(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    *,
    chunks: Mapping[str, tuple[int, ...]] | None = None,
    marked: bool = True,
    step: Sequence[int] | None = None,
    zarr_format: int = 3,
    **options: Any,
) -> Path:
    """A store written by plain zarr-python; `marked` as format 1, with its `step`."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in tensors.items():
        array = group.create_array(
            f"grads/{name}" if marked else name,
            shape=values.shape,
            chunks=(chunks or {}).get(name, tuple(max(1, extent) for extent in values.shape)),
            dtype=values.dtype,
            config={"write_empty_chunks": marked},
            **options,
        )
        array[...] = values
    rows = len(next(iter(tensors.values())))
    if marked:
        group.attrs["gradlog"] = {"version": 1}
    if marked or step is not None:
        steps = np.arange(rows) if step is None else np.asarray(step)
        add_array(group, "step", steps.astype(np.int64))
    return path


def read_in_blocks_of_rows(patch: pytest.MonkeyPatch, rows: int) -> None:
    """Let plans take blocks of so many rows, though whole columns would be cheaper."""
    patch.setattr(ranges, "BLOCK_ROWS", rows)
    patch.setattr(plan, "WORTH_IT", 0.0)


def flat(tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """(N, D) float64, the tensors in the order of their names."""
    rows = len(next(iter(tensors.values())))
    return np.concatenate(
        [tensors[name].astype(np.float64).reshape(rows, -1) for name in sorted(tensors)], axis=1
    )


def assert_scope(
    scope: gradlog.ScopeResult, gradients: NDArray[np.float64], epsilons: Sequence[float] = (0.1, 0.05, 0.01)
) -> None:
    """A scope's figures against the reference, within the tolerances that the documentation promises."""
    assert scope.energy == pytest.approx((gradients**2).sum(), rel=1e-9, abs=0)
    for found in scope.predictors:
        expected = reference.path_length(gradients, found.predictor)
        assert found.path_length == pytest.approx(expected.path_length, rel=1e-6, abs=0), found
        if expected.kappa is None:
            assert found.kappa is found.scaled_kappa is found.scale is None
            continue
        assert found.kappa == pytest.approx(expected.kappa, rel=1e-6, abs=0), found
        assert found.scaled_kappa == pytest.approx(expected.scaled_kappa, rel=1e-6, abs=1e-12), found
        if expected.scale is None:
            assert found.scale is None
        else:
            assert found.scale == pytest.approx(expected.scale, rel=1e-6, abs=1e-9), found
    if scope.spectrum is None:
        return
    expected_spectrum = reference.spectrum(gradients)
    assert scope.spectrum.energy == pytest.approx(expected_spectrum.energy, rel=1e-6, abs=0)
    if expected_spectrum.energy == 0:
        assert all(r.rank == r.lower == r.upper == 0 for r in scope.spectrum.rank)
        assert scope.spectrum.stable_rank is None
        return
    shares = scope.spectrum.singular_values**2 / scope.spectrum.energy
    assert shares.size == expected_spectrum.shares.size
    np.testing.assert_allclose(shares, expected_spectrum.shares, rtol=0, atol=1e-6)
    assert [r.epsilon for r in scope.spectrum.rank] == list(epsilons)
    for found_rank in scope.spectrum.rank:
        assert found_rank.lower == found_rank.rank == found_rank.upper
        if not expected_spectrum.near_threshold(found_rank.epsilon):
            assert found_rank.rank == expected_spectrum.rank(found_rank.epsilon)


def assert_analysis(analysis: gradlog.Analysis, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Every scope and the steps of an analysis against the reference."""
    gradients = flat(tensors)
    assert_scope(analysis.total, gradients)
    assert [t.name for t in analysis.tensors] == sorted(tensors)
    for tensor in analysis.tensors:
        values = tensors[tensor.name]
        assert tensor.shape == values.shape[1:]
        assert_scope(tensor, flat({tensor.name: values}))
    norms = np.sqrt((gradients**2).sum(axis=1))
    np.testing.assert_allclose(analysis.steps.grad_norm, norms, rtol=1e-9)
    for spec, kappa in analysis.steps.kappa.items():
        expected = reference.path_length(gradients, spec).per_step
        np.testing.assert_allclose(kappa, expected, rtol=1e-6, atol=1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = (gradients[1:] * gradients[:-1]).sum(axis=1)
        cosine = np.where((norms[1:] > 0) & (norms[:-1] > 0), inner / (norms[1:] * norms[:-1]), np.nan)
    np.testing.assert_allclose(analysis.steps.cosine[1:], cosine, rtol=1e-6, atol=1e-9)
    assert np.isnan(analysis.steps.cosine[0])
