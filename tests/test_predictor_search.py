"""The search for the best predictors against brute force over the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import sweep

from gradmf.gradlog.measures.search.decay_search import refined
from gradmf.gradlog.measures.search.history_gram import HistoryGram, StepProducts
from gradmf.gradlog.measures.search.history_lags import LONGEST_MEAN
from gradmf.gradlog.measures.search.predictor_search import DECAYS, GramScope, search_gram, search_grams
from gradmf.gradlog.predictors import HistoryBank, parse_predictors
from reference import Array, path_length


def steps_of(g: Array) -> StepProducts:
    lag, increment = np.zeros(len(g)), np.zeros(len(g))
    lag[1:] = (g[1:] * g[:-1]).sum(axis=1)
    increment[1:] = (np.diff(g, axis=0) ** 2).sum(axis=1)
    return StepProducts((g * g).sum(axis=1), lag, increment)


def rows_of(g: Array) -> Array:
    return np.concatenate([g[:1], np.diff(g, axis=0)])


def gram_of(g: Array) -> Array:
    rows = rows_of(g)
    return rows @ rows.T


def predicted(g: Array, spec: str) -> Array:
    """m_t by the weights that the fused pass takes."""
    bank = HistoryBank.of(parse_predictors([spec])[1:], len(g))
    weights = bank.weights(0, len(g))[0]
    averages = np.zeros((len(bank.decays), g.shape[1]))
    m = np.zeros_like(g)
    for t in range(1, len(g)):
        averages = np.array(bank.decays)[:, None] * averages + (1 - np.array(bank.decays))[:, None] * g[t - 1]
        lagged = [g[t - k] if t >= k else np.zeros(g.shape[1]) for k in range(1, bank.lags + 1)]
        m[t] = weights[t] @ np.concatenate([np.array(lagged), averages])
    return m


KINDS = ("noise", "walk", "smooth", "ar", "constant", "alternating")


def gradients(kind: str, rows: int, columns: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((rows, columns))
    if kind == "walk":
        return noise.cumsum(axis=0)
    if kind == "smooth":
        return 5 + np.sin(np.arange(rows)[:, None] / 40 + rng.uniform(0, 6, columns)) + 1e-4 * noise
    if kind == "ar":
        for t in range(1, rows):
            noise[t] += 0.8 * noise[t - 1]
        return noise
    if kind == "constant":
        return np.tile(noise[:1], (rows, 1))
    if kind == "alternating":
        return noise[:1] * (-1.0) ** np.arange(rows)[:, None]
    return noise


@settings(max_examples=sweep(60), deadline=None)
@given(
    kind=st.sampled_from(KINDS), rows=st.integers(2, 300), columns=st.integers(1, 8), seed=st.integers(0, 99)
)
def test_per_step_residuals_are_those_of_the_definitions(
    kind: str, rows: int, columns: int, seed: int
) -> None:
    g = gradients(kind, rows, columns, seed)
    table = HistoryGram(gram_of(g), steps_of(g))
    decays = np.array([0.0, 0.3, 0.9, 0.999])
    crossings = table.crossings(decays)
    residuals = table.average_residuals(decays, crossings)
    products = table.average_products(decays, crossings)
    joint = table.pair_residuals(decays[:3], decays[1:], crossings[:, :3], crossings[:, 1:])
    errors = [g - predicted(g, f"ema:{decay}") for decay in decays]
    scale = (g * g).sum()
    for q, error in enumerate(errors):
        np.testing.assert_allclose(residuals[:, q], (error**2).sum(axis=1), rtol=1e-9, atol=1e-13 * scale)
        np.testing.assert_allclose(products[:, q], (g * error).sum(axis=1), rtol=1e-9, atol=1e-11 * scale)
        if q:
            both = (error * errors[q - 1]).sum(axis=1)
            np.testing.assert_allclose(joint[:, q - 1], both, rtol=1e-9, atol=1e-13 * scale)
    longest = min(rows - 1, LONGEST_MEAN)
    means, apart_by = table.lags(longest).mean_residuals(longest)
    products = table.lags(longest).mean_products(apart_by)
    for length in {1, min(7, rows - 1), min(LONGEST_MEAN, rows - 1)}:
        error = g - predicted(g, f"mean:{length}")
        np.testing.assert_allclose(
            means[:, length - 1], (error**2).sum(axis=1), rtol=1e-8, atol=1e-12 * scale
        )
        np.testing.assert_allclose(
            products[:, length - 1], (g * error).sum(axis=1), rtol=1e-8, atol=1e-11 * scale
        )


@settings(max_examples=sweep(40), deadline=None)
@given(
    kind=st.sampled_from(KINDS), rows=st.integers(2, 700), columns=st.integers(1, 8), seed=st.integers(0, 99)
)
def test_what_is_found_has_the_figures_of_its_spec(kind: str, rows: int, columns: int, seed: int) -> None:
    g = gradients(kind, rows, columns, seed)
    search = search_gram("x", gram_of(g), steps_of(g), keep_steps=True)
    energy = (g * g).sum()
    assert search.found
    for found in search.found:
        error = g - predicted(g, found.predictor)
        residuals = (error**2).sum(axis=1)
        np.testing.assert_allclose(found.path_length, residuals.sum(), rtol=1e-6, atol=1e-12 * energy)
        np.testing.assert_allclose(search.steps[found.predictor], residuals, rtol=1e-6, atol=1e-11 * energy)
        m = g - error
        if (m * m).sum() > 1e-6 * energy:
            scaled = 1 - (g * m).sum() ** 2 / (m * m).sum() / energy
            assert found.scaled_kappa == pytest.approx(scaled, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_search_equals_brute_force(kind: str) -> None:
    g = gradients(kind, 160, 3, 5)
    search = search_gram(None, gram_of(g), steps_of(g))
    table = HistoryGram(gram_of(g), steps_of(g))
    decays = np.arange(1000) / 1000
    averages = table.average_residuals(decays, table.crossings(decays)).sum(axis=0)
    ema = search.of("ema")
    assert ema is not None
    assert ema.path_length == pytest.approx(averages.min(), rel=1e-9)
    means = [path_length(g, f"mean:{k}").path_length for k in range(1, 160)]
    mean = search.of("mean")
    assert mean is not None
    assert mean.path_length == pytest.approx(min(means), rel=1e-9)
    # Mixtures: a grid of pairs, with the best share of each.
    crossings = table.crossings(DECAYS)
    own = table.average_residuals(DECAYS, crossings).sum(axis=0)
    least = np.inf
    for i, decay in enumerate(DECAYS):
        held = np.full(DECAYS.size, decay)
        mine = np.repeat(crossings[:, i : i + 1], DECAYS.size, 1)
        joint = table.pair_residuals(held, DECAYS, mine, crossings).sum(axis=0)
        for share in np.linspace(0, 1, 101):
            values = share**2 * own[i] + 2 * share * (1 - share) * joint + (1 - share) ** 2 * own
            least = min(least, values.min())
    found = search.of("mixture") or ema
    assert found.path_length <= least * (1 + 1e-3) + 1e-9


def test_best_lags_are_least_squares_and_ar1_leaves_one_minus_phi_squared() -> None:
    rng = np.random.default_rng(1)
    phi, rows = 0.8, 1200
    g = rng.standard_normal((rows, 20))
    for t in range(1, rows):
        g[t] = phi * g[t - 1] + np.sqrt(1 - phi**2) * g[t]
    search = search_gram(None, gram_of(g), steps_of(g))
    lags = search.of("lags")
    assert lags is not None
    assert lags.kappa == pytest.approx(1 - phi**2, rel=0.03)
    weights = [float(word) for word in lags.predictor.removeprefix("lags:").split(",")]
    assert len(weights) == 1, "noise adds no lags"
    direct = (g[1:] * g[:-1]).sum() / (g[:-1] ** 2).sum()
    assert weights[0] == pytest.approx(direct, rel=1e-7)
    # The best average's decay solves d kappa / d B = 0 of kappa = 2 (1 - phi) / ((1 + B) (1 - B phi)).
    decays = np.arange(1000) / 1000
    theory = 2 * (1 - phi) / (1 + decays) / (1 - decays * phi)
    ema = search.of("ema")
    assert ema is not None
    assert float(ema.predictor[4:]) == pytest.approx(decays[theory.argmin()], abs=0.05)
    assert ema.kappa == pytest.approx(theory.min(), rel=0.04)
    assert search.best is not None
    assert search.best.kappa == pytest.approx(lags.kappa, rel=0.02)
    assert lags.lower is not None
    assert lags.upper is not None
    assert lags.lower < 1 - phi**2 < lags.upper


def test_nothing_predicts_noise() -> None:
    claims = 0
    for seed in range(40):
        g = np.random.default_rng(seed).standard_normal((200, 2))
        search = search_gram(None, gram_of(g), steps_of(g))
        assert search.decided
        claims += search.best is not None
    assert claims <= 5


def test_signal_under_noise_is_found() -> None:
    rng = np.random.default_rng(3)
    g = 0.7 + rng.standard_normal((400, 30))
    best = search_gram(None, gram_of(g), steps_of(g)).best
    assert best is not None
    assert best.kappa < 0.8


def test_what_cannot_be_searched_says_why() -> None:
    one = np.ones((1, 3))
    assert "one row" in search_gram(None, gram_of(one), steps_of(one)).why
    zero = np.zeros((50, 3))
    assert "zero" in search_gram(None, gram_of(zero), steps_of(zero)).why
    few = np.random.default_rng(0).standard_normal((10, 3))
    search = search_gram(None, gram_of(few), steps_of(few))
    assert search.found
    assert not search.decided
    assert search.best is None


def test_scopes_that_are_searched_together_come_out_as_alone() -> None:
    scopes = [gradients(kind, 90, 4, seed) for kind in KINDS for seed in (0, 1)]
    scopes.insert(3, np.zeros((90, 2)))
    lot = [GramScope(str(at), gram_of(g), steps_of(g)) for at, g in enumerate(scopes)]
    together = search_grams(lot, keep_steps=True)
    for scope, found in zip(lot, together, strict=True):
        alone = search_gram(*scope, keep_steps=True)
        assert (alone.name, alone.why, alone.found) == (found.name, found.why, found.found)
        for spec, values in alone.steps.items():
            np.testing.assert_array_equal(values, found.steps[spec])
    assert "zero" in together[3].why


def test_decays_are_refined_from_every_minimum() -> None:
    grid = np.array([[0.0, 0.2, 0.4, 0.6, 0.8], [0.1, 0.3, 0.5, 0.5, 0.5]])

    def wavy(decays: Array) -> Array:
        """Least at 0.612 and 0.301, each beside another minimum that is the least on the grid."""
        first = np.minimum((decays - 0.17) ** 2, (decays - 0.612) ** 2 - 1e-3)
        return np.stack([first[0], ((decays - 0.301) ** 2)[1]])

    values = wavy(grid)
    values[1, 3:] = np.inf
    np.testing.assert_array_equal(refined(grid, values, wavy), [0.612, 0.301])
