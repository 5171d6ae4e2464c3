"""Lagged products and what is made of them, against brute force, however rows are cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import sweep
from test_predictor_search import KINDS, gradients, predicted, rows_of
from test_predictor_search import steps_of as products_of

from gradmf.gradlog.measures.search.band_search import search_band, steps_of
from gradmf.gradlog.measures.search.history_band import MODEL_BINS, WIDTH, BandLayout, BinnedBand, row_tables
from gradmf.kernels.lagged_products import LaggedProducts
from reference import Array


def lagged(g: Array, layout: BandLayout, cuts: list[int]) -> Array:
    """What the pass gathers of rows that come in blocks which end at `cuts`."""
    increments, found, start = rows_of(g), [], 0
    kernel = LaggedProducts(layout.width, np.array(layout.followed))
    for stop in [*sorted(cut for cut in set(cuts) if cut < len(g)), len(g)]:
        rows = increments[start:stop].copy()
        first = None
        if start == 0:
            first, rows[0] = g[:1], 0.0
        found.append(kernel.take(rows, first, (rows**2).sum(axis=1), False))
        start = stop
    return np.concatenate(found)


def gathered(g: Array, layout: BandLayout, cuts: list[int]) -> Array:
    steps = products_of(g)
    columns = [steps.energy, steps.lag_product, steps.increment]
    return np.column_stack([*columns, lagged(g, layout, cuts)])


def brute_force(g: Array, layout: BandLayout) -> Array:
    h, found = rows_of(g), np.zeros((len(g), layout.columns))
    averages = np.repeat(h[:1], len(layout.followed), axis=0)
    for t in range(1, len(g)):
        near = h[max(0, t - layout.width + 1) : t + 1][::-1]
        found[t, : len(near)] = near @ h[t]
        found[t, layout.width :] = averages @ h[t]
        averages = np.array(layout.followed)[:, None] * averages + h[t]
    return found


cut_lists = st.lists(st.integers(1, 290), max_size=6)


@settings(max_examples=sweep(60), deadline=None)
@given(
    kind=st.sampled_from(KINDS), rows=st.integers(1, 300), width=st.sampled_from([1, 2, 5, 64, 65, 200]),
    cuts=cut_lists, seed=st.integers(0, 99),
)  # fmt: skip
def test_lagged_products_are_brute_force(
    kind: str, rows: int, width: int, cuts: list[int], seed: int
) -> None:
    g = gradients(kind, rows, 5, seed)
    layout = BandLayout(rows, width, (), (0.0, 0.5, 0.999))
    expected = brute_force(g, layout)
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(lagged(g, layout, cuts), expected, rtol=1e-10, atol=1e-12 * scale)


def test_single_precision_is_good_enough_or_given_up() -> None:
    rng = np.random.default_rng(1)
    smooth = 3 + np.sin(np.linspace(0, 3, 200))[:, None] + 1e-3 * rng.standard_normal((200, 3000))
    values = smooth.astype("f4")
    layout = BandLayout(200, WIDTH, (), (0.0, 0.9, 0.998))
    rows = np.diff(values, axis=0, prepend=np.float32(0))
    rows[0] = 0
    kernel = LaggedProducts(layout.width, np.array(layout.followed))
    found = kernel.take(rows, values[:1], (rows.astype(float) ** 2).sum(axis=1), True)
    expected = brute_force(values.astype(float), layout)
    increments = np.sqrt((rows.astype(float) ** 2).sum(axis=1).max())
    errors = np.abs(found - expected)[1:] / increments / np.linalg.norm(values[0].astype(float))
    assert 0 < errors.max() < 1e-6
    huge = np.full((70, 8), 1e19, "f4")
    huge[1::2] *= -1
    kernel = LaggedProducts(2, np.array([0.998]))
    found = kernel.take(huge, huge[:1], (huge.astype(float) ** 2).sum(axis=1), True)
    assert found[5, 0] == pytest.approx(8e38, rel=1e-6)
    with pytest.raises(OverflowError):
        kernel.take(np.full((3, 8), np.inf, "f4"), None, np.ones(3), False)


@settings(max_examples=sweep(40), deadline=None)
@given(
    kind=st.sampled_from(KINDS), rows=st.integers(2, 700), cuts=cut_lists, seed=st.integers(0, 99),
    width=st.sampled_from([1, 2, 8, 64, 100, 256]),
)  # fmt: skip
def test_what_is_found_has_the_figures_of_its_spec(
    kind: str, rows: int, cuts: list[int], seed: int, width: int
) -> None:
    g = gradients(kind, rows, 3, seed)
    layout = BandLayout.of(rows, width, (0.5, 0.9))
    table = gathered(g, layout, cuts)
    binned = BinnedBand(layout, 100)
    for at in range(0, rows, 37):
        binned.take(table[at : at + 37])
    binned.end()
    search = search_band(None, layout, binned.sums)
    steps = steps_of(layout, table, search)
    energy = (g * g).sum()
    assert search.found
    assert (search.of("mean") is None) == (width == 1)
    for found in search.found:
        error = g - predicted(g, found.predictor)
        residuals = (error**2).sum(axis=1)
        np.testing.assert_allclose(found.path_length, residuals.sum(), rtol=1e-6, atol=1e-12 * energy)
        np.testing.assert_allclose(steps[found.predictor], residuals, rtol=1e-6, atol=1e-11 * energy)
        m = g - error
        if (m * m).sum() > 1e-6 * energy:
            scaled = 1 - (g * m).sum() ** 2 / (m * m).sum() / energy
            assert found.scaled_kappa == pytest.approx(scaled, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "rows", "width"),
    [
        *((kind, 200, WIDTH) for kind in KINDS),
        *(pytest.param(kind, 900, WIDTH, marks=pytest.mark.slow) for kind in KINDS),
        ("walk", 30, 64),
        ("noise", 300, 3),
        pytest.param("noise", 300, 150, marks=pytest.mark.slow),
    ],
)
def test_the_best_of_each_family_is_found(kind: str, rows: int, width: int) -> None:
    g = gradients(kind, rows, 3, 5)
    layout = BandLayout.of(rows, width, (0.5,))
    binned = BinnedBand(layout, MODEL_BINS)
    binned.take(gathered(g, layout, [200, 333]))
    binned.end()
    search = search_band(None, layout, binned.sums)

    def left(spec: str) -> float:
        return float(((g - predicted(g, spec)) ** 2).sum())

    averages = [left(f"ema:{decay}") for decay in layout.decays]
    means = [left(f"mean:{k}") for k in range(1, width + 1)]
    for family, held in (("ema", averages), ("mean", means)):
        found = search.of(family)
        assert found is not None
        assert found.path_length == pytest.approx(min(held), rel=1e-9)
    least = min(
        left(f"mixture:{layout.decays[a]},{layout.decays[b]},{share}")
        for a, b in layout.pairs[::7]
        for share in (0.1, 0.5, 0.9)
    )
    mixed = search.of("mixture") or search.of("ema")
    assert mixed is not None
    assert mixed.path_length <= least * (1 + 1e-4) + 1e-9


def test_averages_that_a_band_holds_are_not_followed() -> None:
    grid = BandLayout.of(900, 64, ()).decays
    for width in (1, 2, 16, 64, 256):
        layout = BandLayout.of(900, width, ())
        assert layout.decays == grid
        assert all(decay ** (width - 1) <= 2e-10 for decay in layout.near if decay)
        assert len(layout.followed) + width == layout.columns
    assert max(BandLayout.of(900, 64, ()).near) == 0.7


def test_tables_of_disjoint_parameters_add_and_bins_are_sums_of_rows() -> None:
    g = gradients("walk", 700, 6, 3)
    layout = BandLayout.of(700, WIDTH, ())
    whole, parts = BinnedBand(layout, 64), BinnedBand(layout, 64)
    whole.take(gathered(g, layout, []))
    whole.end()
    for columns in (g[:, :2], g[:, 2:]):
        table = gathered(columns, layout, [9])
        parts.take(table[:400])
        parts.take(table[400:])
        parts.end()
    rows = list(row_tables(layout, gathered(g, layout, [])))
    for word in ("energy", "averages", "joint", "means", "lags", "average_products", "mean_products"):
        a, b = getattr(whole.sums, word), getattr(parts.sums, word)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(a).max())
        of_rows = np.concatenate([getattr(table, word) for table in rows])
        assert len(of_rows) == 700
        np.testing.assert_allclose(a.sum(axis=0), of_rows.sum(axis=0), rtol=1e-9, atol=1e-9)
