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


def check_random_log(seed: int, kind: str | None = None, most_rows: int = 60) -> int:
    """One random log, taken in as the pass takes it in: by slices of rows, in cells of columns.

    Returns how often the basis only turned.
    """
    rng = np.random.default_rng(seed)
    kind = kind or str(rng.choice(KINDS))
    rows, columns = int(rng.integers(1, most_rows)), int(rng.choice([1, 3, 30, 100, 900]))
    dtype = np.dtype(rng.choice([np.float32, np.float64]))
    stored = gradients(kind, rows, columns, float(rng.choice([0, 8, 16, 30])), rng).astype(dtype)
    exact = np.diff(stored.astype(np.float64), axis=0)
    most = int(rng.choice([2, 3, 8, 64]))
    edges = np.unique(np.linspace(0, columns, int(rng.integers(2, 5))).astype(int))
    cells = list(itertools.pairwise(edges))
    at_once, single = int(rng.integers(1, 40)), bool(rng.random() < 0.8)
    choices = {
        "BASIS_START": min(most, int(rng.choice([2, 4, 8, 64]))),
        "LEAST_AT_ONCE": int(rng.choice([1, 32])),
        "TRACK_WAIT": int(rng.integers(1, 3)),
        "TRACK_COST": float(rng.choice([1.5, 1e9])),
    }
    turned = 0
    with mock.patch.multiple(incremental, **choices):
        spectrum = IncrementalSpectrum([b - a for a, b in cells], dtype, most, EPSILONS, rows)
        for first in range(0, rows, at_once):
            taken = np.diff(stored[first : first + at_once + 1], axis=0)
            energies = exact[first : first + at_once] ** 2
            inside = [(taken[:, a:b], energies[:, a:b].sum(axis=1)) for a, b in cells]
            turned += take_in(spectrum, inside, single, float(energies.sum()))
    sigma = np.linalg.svd(exact, compute_uv=False)
    check(spectrum.result(float((exact**2).sum())), sigma**2)
    return turned


def take_in(
    spectrum: IncrementalSpectrum, cells: list[tuple[NDArray[Any], NDArray[Any]]], single: bool, energy: float
) -> bool:
    """Take in rows by turning the basis where that goes, else by changing it; returns whether it turned."""

    def summed(each: list[NDArray[Any]]) -> NDArray[np.float64]:
        return np.asarray(np.sum([matrix.astype(np.float64) for matrix in each], axis=0))

    rows = len(cells[0][0])
    if spectrum.may_track(rows):
        found = [
            spectrum.tracking_products(cell, taken, energies, single)
            for cell, (taken, energies) in enumerate(cells)
        ]
        sums = [summed(list(matrices)) for matrices in zip(*found, strict=True)]
        in_single = any(matrix.dtype == np.float32 for matrices in found for matrix in matrices)
        if spectrum.track(sums, energy, rows, in_single):
            spectrum.settle(summed([spectrum.turn(cell, taken) for cell, (taken, _) in enumerate(cells)]))
            return True
    grams = [spectrum.products(cell, taken, energies, single) for cell, (taken, energies) in enumerate(cells)]
    spectrum.absorb(summed(grams), energy, rows, any(gram.dtype == np.float32 for gram in grams))
    for cell, (taken, _) in enumerate(cells):
        spectrum.renew(cell, taken)
    return False


def test_bounds_hold_at_any_epsilon() -> None:
    turned = sum(check_random_log(seed) for seed in part_of(range(2000), 4))
    assert turned > 20


@pytest.mark.parametrize("kind", ["low rank", "power law", "white"])
def test_bounds_hold_where_the_basis_mostly_turns(kind: str) -> None:
    turned = sum(check_random_log(seed, kind, most_rows=400) for seed in part_of(range(3000, 3100), 4))
    assert turned > 25


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_bounds_hold_at_any_epsilon_over_thousands(part: int) -> None:
    for seed in range(1_000_000 + 2000 * part, 1_002_000 + 2000 * part):
        check_random_log(seed)
    for seed in range(3_000_000 + 200 * part, 3_000_200 + 200 * part):
        check_random_log(seed, str(np.random.default_rng(seed).choice(KINDS)), most_rows=400)


def test_a_basis_that_turns_bounds_the_whole_matrix() -> None:
    """In the order of symmetric matrices, which sums of eigenvalues follow from; directions change, too."""
    turned = 0
    for seed in part_of(range(400), 4):
        rng = np.random.default_rng(seed)
        columns, size, noise = int(rng.integers(5, 60)), int(rng.integers(1, 12)), 10.0 ** -rng.integers(0, 8)
        weights = rng.choice([0.5, 0.8, 0.95]) ** np.arange(int(rng.integers(1, columns + 1)))
        rounding = Rounding(np.dtype(np.float64), columns, single=False)
        state, basis, seen = TwoSided.empty(), np.zeros((0, columns)), np.zeros((0, columns))
        directions = rng.standard_normal((weights.size, columns))
        for _ in range(6):
            if rng.random() < 0.2:
                directions = rng.standard_normal((weights.size, columns))
            count, stretch = int(rng.integers(1, 40)), int(rng.integers(1, 20))
            rows = (rng.standard_normal((count, weights.size)) * weights) @ directions
            rows += noise * rng.standard_normal((count, columns))
            parts = [rows[first : first + stretch] for first in range(0, count, stretch)]
            state = state.settled(basis @ basis.T)
            found = state.track(rows @ basis.T, [part @ part.T for part in parts], np.inf, rounding)
            turned += found is not None
            if found is None:
                joined = np.vstack([basis, rows])
                found = state.absorb(
                    joined @ joined.T, lambda values, most=size: min(most, values.size), rounding
                )
            basis, seen = found[0].apply(basis, rows), np.vstack([seen, rows])
            state = found[1]
            whole = seen.T @ seen
            lower = basis.T @ np.linalg.inv(state.inverse) @ basis
            upper = (basis.T * state.upper) @ basis + state.shift * np.eye(columns)
            least = -1e-12 * np.trace(whole)
            assert np.linalg.eigvalsh(whole - lower)[0] >= least
            assert np.linalg.eigvalsh(upper - whole)[0] >= least
    assert turned > 100


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


def test_what_is_cut_off_counts_what_float32_products_hide() -> None:
    """Products in float32 can tell less of what leaves the basis than there is: it counts all the same."""
    hidden = 0
    rounding = Rounding(np.dtype(np.float32), 400, single=True)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        first, *_ = rows = (rng.standard_normal((1, 400)) + 1e-3 * rng.standard_normal((40, 400))).astype(
            np.float32
        )
        double = rows.astype(np.float64)
        renewal, state = TwoSided.empty().absorb(double[:1] @ double[:1].T, lambda _: 1, rounding)
        basis = renewal.apply(np.zeros((0, 400), np.float32), first[None])
        state = state.settled(basis.astype(np.float64) @ basis.astype(np.float64).T)
        cross, within = (rows @ basis.T).astype(np.float64), (rows @ rows.T).astype(np.float64)
        found = state.track(cross, [within], np.inf, rounding)
        assert found is not None
        residual = double - np.outer(double @ basis[0], basis[0].astype(np.float64)) / float(
            basis[0] @ basis[0]
        )
        told = np.linalg.eigvalsh(within - cross @ cross.T / float(state.gram[0, 0]))[-1]
        true = np.linalg.norm(residual, 2) ** 2
        hidden += bool(told < true)
        assert found[1].shift - state.shift >= true
    assert hidden >= 3


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
