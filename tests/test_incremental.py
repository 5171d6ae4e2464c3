"""Certificates of the incremental spectrum: the interval always holds the float64 truth."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sweeps import sweep

import reference
from conftest import flat, write_store
from gradmf import gradlog
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.measures.incremental import incremental_spectrum as incremental

KINDS = ("low-rank", "power", "white", "constant", "repeated", "zero", "range", "rotating", "spikes")
EPSILONS = (0.5, 0.1, 0.05, 0.01, 0.001)


def matrix(kind: str, rows: int, columns: int, seed: int) -> NDArray[np.float64]:
    """(rows, columns) of increments, one a row."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((rows, columns))
    if kind == "low-rank":
        return rng.standard_normal((rows, 3)) @ rng.standard_normal((3, columns)) + 1e-3 * white
    if kind == "power":
        return white * (1.0 + np.arange(columns)) ** -1.5
    if kind == "constant":
        return np.repeat(white[:1], rows, axis=0)
    if kind == "repeated":
        return np.repeat(white[:, :1], columns, axis=1)
    if kind == "zero":
        return np.zeros((rows, columns))
    if kind == "range":
        return white * 10.0 ** rng.uniform(-8, 8, (rows, 1))
    if kind == "rotating":
        place = np.arange(rows)[:, None] * columns / rows
        return white * (np.abs(np.arange(columns)[None] - place) < 3)
    if kind == "spikes":
        return white * np.where(rng.random((rows, 1)) < 0.05, 1e3, 1.0)
    return white


def holds(
    lower: int, upper: int, shares: NDArray[np.float64], epsilon: float, tolerance: float = 1e-6
) -> bool:
    """Whether [lower, upper] has a rank that is r* up to `tolerance` in the cumulative share."""
    if not shares.size:
        return (lower, upper) == (0, 0)
    cumulative = np.cumsum(shares)
    least = int(np.argmax(cumulative >= 1 - epsilon - tolerance)) + 1
    most = int(np.argmax(cumulative >= min(1 - epsilon + tolerance, cumulative[-1]))) + 1
    return lower <= most and upper >= least


@settings(max_examples=sweep(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 150),
    widths=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    chunk=st.integers(1, 50),
    threads=st.integers(1, 3),
    start=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_log_bounds_hold(
    kind: str, rows: int, widths: list[int], chunk: int, threads: int, start: int, seed: int
) -> None:
    increments = matrix(kind, rows, sum(widths), seed)
    gradients = np.cumsum(increments, axis=0).astype(np.float32)
    stops = np.cumsum(widths)
    tensors = {
        f"t{i}": gradients[:, stop - width : stop]
        for i, (stop, width) in enumerate(zip(stops, widths, strict=True))
    }
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(incremental, "BASIS_START", start)
        patch.setattr(ranges, "BLOCK_BYTES", 1 << 12)
        patch.setattr(ranges, "TILE_WIDTH", 40)
        patch.setattr("gradmf.gradlog.measures.incremental.incremental_spectra.NARROW", 20)
        chunks = {name: (min(chunk, rows), values.shape[1]) for name, values in tensors.items()}
        path = write_store(Path(folder) / "run.zarr", tensors, chunks=chunks)
        wanted = gradlog.Settings(rank="incremental", epsilons=EPSILONS)
        analysis = gradlog.analyze(path, wanted, threads=threads)
    for scope, values in [
        (analysis.total, flat(tensors)),
        *((t, flat({t.name: tensors[t.name]})) for t in analysis.tensors),
    ]:
        truth = reference.spectrum(values)
        assert scope.spectrum is not None
        assert scope.spectrum.energy == pytest.approx(truth.energy, rel=1e-6, abs=0)
        assert scope.spectrum.confidence == 1.0
        for found in scope.spectrum.rank:
            assert found.lower <= found.rank <= found.upper
            assert holds(found.lower, found.upper, truth.shares, found.epsilon), (
                found,
                truth.rank(found.epsilon),
            )


def test_ranks_close_on_low_rank_increments_with_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.standard_normal((600, 40)))[0]
    signal = rng.standard_normal((3000, 40)) * np.sqrt(0.8 ** np.arange(40)) @ directions.T
    noise = rng.standard_normal(signal.shape)
    noise *= np.sqrt(0.002 * (signal**2).sum() / (noise**2).sum())
    gradients = np.cumsum(signal + noise, axis=0).astype(np.float32)
    path = write_store(tmp_path / "run.zarr", {"w": gradients}, chunks={"w": (100, 600)})
    analysis = gradlog.analyze(path, gradlog.Settings(rank="incremental"))
    truth = reference.spectrum(gradients.astype(np.float64))
    assert analysis.total.spectrum is not None
    assert analysis.total.spectrum.method == "incremental"
    for found in analysis.total.spectrum.rank:
        assert found.lower == found.upper == found.rank == truth.rank(found.epsilon)
    count = analysis.total.spectrum.singular_values.size
    shares = analysis.total.spectrum.singular_values**2 / truth.energy
    np.testing.assert_allclose(shares, truth.shares[:count], atol=1e-4)
    growth = analysis.total.spectrum.growth
    assert 2 <= len(growth) <= 201
    assert all(a.rows < b.rows for a, b in itertools.pairwise(growth))
    for point in (growth[0], growth[len(growth) // 2], growth[-1]):
        prefix = reference.spectrum(gradients[: point.rows].astype(np.float64))
        for epsilon, (lower, upper) in zip((0.1, 0.05, 0.01), point.bounds, strict=True):
            assert holds(lower, upper, prefix.shares, epsilon)


def test_threads_never_change_a_bit(tmp_path: Path) -> None:
    gradients = np.cumsum(np.random.default_rng(0).standard_normal((500, 9000)), axis=0).astype(np.float32)
    path = write_store(
        tmp_path / "run.zarr", {"a": gradients, "b": gradients[:, :700]}, chunks={"a": (50, 4500)}
    )
    documents = [
        gradlog.analysis_document(
            gradlog.analyze(path, gradlog.Settings(rank="incremental"), threads=threads)
        )
        for threads in (1, 2, 5)
    ]
    assert documents[0] == documents[1] == documents[2]
