"""Certificates as properties: whatever the rows, and at any epsilon, the bounds hold the float64 truth."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sweeps import part_of, sweep

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog.measures.incremental import incremental_spectrum as incremental
from gradmf.gradlog.measures.incremental.incremental_spectrum import IncrementalSpectrum
from gradmf.gradlog.measures.spectra.certificate import Envelope
from gradmf.gradlog.results.spectral_counts import COUNTS, TIE
from gradmf.kernels.two_sided import Rounding, TwoSided

EPSILONS = (0.5, 0.1, 0.01, 1e-3, 1e-6, 1e-9, 1e-12, 0.0)
SVD = 4e-15
"""What LAPACK's singular values may be off by, as a share of the largest: a few roundings."""
KINDS = (
    "low rank", "power law", "white", "constant", "repeated", "zero", "one row", "range", "decay",
    "returning",
)  # fmt: skip


def gradients(kind: str, rows: int, columns: int, decades: float, rng: np.random.Generator) -> NDArray[Any]:
    """(rows + 1, columns) float64, so that there are `rows` increments."""
    white = rng.standard_normal((rows, columns))
    if kind == "low rank":
        count = int(rng.integers(1, 6))
        weights = 10.0 ** rng.uniform(-decades / 2, 0, count)
        white = (rng.standard_normal((rows, count)) * weights) @ rng.standard_normal((count, columns))
        white += rng.standard_normal((rows, columns)) * 10.0 ** -rng.integers(1, 15)
    elif kind == "power law":
        white *= (1.0 + np.arange(columns)) ** -rng.uniform(0.5, 6)
    elif kind == "constant":
        white = np.repeat(white[:1], rows, axis=0)
    elif kind == "repeated":
        white = np.repeat(white[:, :1], columns, axis=1)
    elif kind == "zero":
        white = np.zeros((rows, columns))
    elif kind == "one row":
        white[np.arange(rows) != rng.integers(rows)] = 0.0
    elif kind == "range":
        white *= 10.0 ** rng.uniform(-decades / 2, decades / 2, (rows, 1))
    elif kind == "decay":
        white *= 10.0 ** -rng.permutation(np.linspace(0, decades, rows))[:, None]
    if kind == "returning":  # gradients themselves, so that what came goes again
        white *= 10.0 ** rng.uniform(-decades / 2, decades / 2, (rows, 1))
        return np.vstack([np.zeros((1, columns)), white])
    return np.cumsum(np.vstack([rng.standard_normal((1, columns)), white]), axis=0)


def truth(squares: NDArray[np.float64], epsilon: float) -> tuple[int, int | None]:
    """(least, greatest) r* that float64 leaves possible; no greatest where it cannot tell.

    squares : sigma_i^2, descending. Residuals are summed from the small end, so that small ones are right.
    """
    left = np.sqrt(np.append(np.cumsum(squares[::-1])[::-1], 0.0))
    if left[0] == 0.0:
        return 0, 0
    least = int(np.argmax(left <= (np.sqrt(epsilon + 0.9 * TIE) + SVD) * left[0]))
    certain = left <= (np.sqrt(epsilon) - SVD) * left[0]
    return least, int(np.argmax(certain)) if certain.any() else None


def check(found: gradlog.SpectrumResult, squares: NDArray[np.float64]) -> None:
    """Hold the bounds of all ranks and counts against the truth."""
    for rank in found.rank:
        least, greatest = truth(squares, rank.epsilon)
        assert rank.lower <= least, (rank, least)
        assert rank.upper >= (least if greatest is None else greatest), (rank, least, greatest)
        assert rank.rank == rank.upper
        assert (rank.residual is None) == (rank.lower < rank.upper)
    if squares.sum() > 0:
        shares = squares / squares.sum()
        shares = shares[shares > 0]
        true = 1 / shares[0], np.exp(-np.sum(shares * np.log(shares))), 1 / np.sum(shares**2)
        for name, value in zip(COUNTS, true, strict=True):
            lower, upper = found.count_bounds[name]
            assert lower * (1 - 1e-9) <= value <= upper * (1 + 1e-9), name
            assert lower <= getattr(found, name) <= upper


def check_random_log(seed: int) -> None:
    """One random log, taken in as the pass takes it in: by slices of rows, in cells of columns."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(KINDS))
    rows, columns = int(rng.integers(1, 60)), int(rng.choice([1, 3, 30, 100, 900]))
    dtype = np.dtype(rng.choice([np.float32, np.float64]))
    stored = gradients(kind, rows, columns, float(rng.choice([0, 8, 16, 30])), rng).astype(dtype)
    exact = np.diff(stored.astype(np.float64), axis=0)
    most = int(rng.choice([2, 3, 8, 64]))
    edges = np.unique(np.linspace(0, columns, int(rng.integers(2, 5))).astype(int))
    cells = list(itertools.pairwise(edges))
    with mock.patch.object(incremental, "BASIS_START", min(most, int(rng.choice([2, 4, 8, 64])))):
        spectrum = IncrementalSpectrum([b - a for a, b in cells], dtype, most, EPSILONS, rows)
    at_once, single = int(rng.integers(1, 40)), bool(rng.random() < 0.8)
    for first in range(0, rows, at_once):
        taken = np.diff(stored[first : first + at_once + 1], axis=0)
        energies = exact[first : first + at_once] ** 2
        grams = [
            spectrum.products(cell, taken[:, a:b], energies[:, a:b].sum(axis=1), single)
            for cell, (a, b) in enumerate(cells)
        ]
        total = np.sum([gram.astype(np.float64) for gram in grams], axis=0)
        in_single = any(gram.dtype == np.float32 for gram in grams)
        spectrum.absorb(total, float(energies.sum()), len(taken), in_single)
        for cell, (a, b) in enumerate(cells):
            spectrum.renew(cell, taken[:, a:b])
    sigma = np.linalg.svd(exact, compute_uv=False)
    check(spectrum.result(float((exact**2).sum())), sigma**2)


def test_bounds_hold_at_any_epsilon() -> None:
    for seed in part_of(range(2000), 4):
        check_random_log(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_bounds_hold_at_any_epsilon_over_thousands(part: int) -> None:
    for seed in range(1_000_000 + 2000 * part, 1_002_000 + 2000 * part):
        check_random_log(seed)


@settings(max_examples=sweep(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 60),
    columns=st.integers(1, 50),
    size=st.integers(1, 30),
    slices=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    single=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_leading_sum_lies_in_its_bounds(
    kind: str, rows: int, columns: int, size: int, slices: list[int], single: bool, seed: int
) -> None:
    dtype = np.dtype(np.float32 if single else np.float64)
    rng = np.random.default_rng(seed)
    increments = np.diff(gradients(kind, rows, columns, 8, rng), axis=0).astype(dtype)
    rounding = Rounding(dtype, columns, single=False)
    state, basis = TwoSided.empty(), np.zeros((0, columns), dtype)
    start = turn = 0
    while start < rows:
        stop = min(rows, start + slices[turn % len(slices)])
        joined = np.concatenate([basis, increments[start:stop]]).astype(np.float64)
        renewal, state = state.absorb(joined @ joined.T, lambda values: min(size, values.size), rounding)
        basis = renewal.apply(basis, increments[start:stop])
        start, turn = stop, turn + 1
    squares = np.linalg.svd(increments.astype(np.float64), compute_uv=False) ** 2
    cumulative = np.cumsum(squares)
    energy = float(cumulative[-1])
    envelope = Envelope.of(state, energy, min(rows, columns))
    count = envelope.lower.size
    rounded = 1e-14 * energy
    assert count <= min(size, rows, columns)
    assert (envelope.lower <= cumulative[:count] + rounded).all()
    assert (envelope.upper >= cumulative[:count] - rounded).all()
    assert (squares[count:] <= envelope.further + rounded).all()
    if size >= min(rows, columns):
        for epsilon in (0.5, 0.1, 0.01):
            lower, upper = envelope.bounds(epsilon)
            assert upper - lower <= 1


def test_an_allowance_counts_what_rounding_did_to_the_rows() -> None:
    """Rows that float32 cannot hold apart: without allowances the bounds would often exclude the truth."""
    missed = 0
    rounding = Rounding(np.dtype(np.float32), 40, single=True)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = (rng.standard_normal((1, 40)) + 1e-7 * rng.standard_normal((200, 40))).astype(np.float32)
        state, basis = TwoSided.empty(), np.zeros((0, 40), np.float32)
        for first in range(0, 200, 10):
            joined = np.concatenate([basis, rows[first : first + 10]])
            renewal, state = state.absorb((joined @ joined.T).astype(np.float64), lambda _: 4, rounding)
            basis = renewal.apply(basis, rows[first : first + 10])
        cumulative = np.cumsum(np.linalg.svd(rows.astype(np.float64), compute_uv=False) ** 2)
        sums, allowance = state.lower_sums()
        assert (sums - allowance <= cumulative[: sums.size]).all()
        assert allowance < 1e-3 * cumulative[-1]
        missed += bool((sums > cumulative[: sums.size] * (1 + 1e-9)).any())
    assert missed >= 3


def test_the_exact_rank_is_right_at_small_epsilons_too(tmp_path: Path) -> None:
    """Large enough for float32 products, which would drown the directions asked for."""
    rng = np.random.default_rng(3)
    directions = np.linalg.qr(rng.standard_normal((1 << 15, 6)))[0].T
    weights = np.array([1.0, 1e-2, 1e-3, 1e-4, 3e-5, 1e-5])
    increments = np.linalg.qr(rng.standard_normal((139, 6)))[0] * weights @ directions
    stored = np.cumsum(np.vstack([np.zeros((1, 1 << 15)), increments]), axis=0)
    path = write_store(tmp_path / "run.zarr", {"w": stored.astype(np.float32)})
    squares = (
        np.linalg.svd(np.diff(stored.astype(np.float32).astype(np.float64), axis=0), compute_uv=False) ** 2
    )
    wanted = (0.1, 1e-5, 1e-7, 1e-8, 2e-9, 3e-10, 0.0)
    analysis = gradlog.analyze(path, gradlog.Settings(rank="exact", epsilons=wanted))
    assert analysis.total.spectrum is not None
    for rank in analysis.total.spectrum.rank:
        least, greatest = truth(squares, rank.epsilon)
        assert rank.lower == rank.upper == rank.rank
        assert least <= rank.rank <= (139 if greatest is None else greatest), (rank, least, greatest)
