"""Advice: every formula against plain NumPy, what is planted is found, and clean runs get none."""

from __future__ import annotations

import dataclasses
import re
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import add_array
from sweeps import sweep

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog.advice import schedule as lr
from gradmf.gradlog.advice import spikes
from gradmf.gradlog.advice.decision import CERTAIN, CLEAR, KEEP, Figure
from gradmf.gradlog.advice.edge import noise_squares, open_spans, spectral_gaps
from gradmf.gradlog.advice.growth import level_ratios
from gradmf.gradlog.advice.intervals import Asked, RunBootstrap
from gradmf.gradlog.measures.gradient_matrices import TOO_LARGE, TOO_MUCH_WORK, sample_sizes, sampled_rows
from gradmf.kernels.matrix_spectrum import spectra_of_rows

Array = NDArray[Any]
SAMPLES = Path(__file__).parent.parent / "sample_logs"


def white(rows: int, *shape: int, seed: int = 0) -> Array:
    """Independent noise, float32."""
    return np.random.default_rng(seed).standard_normal((rows, *shape)).astype(np.float32)


def told(advice: gradlog.Advice, quantity: str, scope: str | None = None) -> gradlog.Decision:
    """The one decision on a quantity in a scope."""
    (found,) = (d for d in advice.decisions if d.quantity == quantity and d.scope == scope)
    return found


def figure(decision: gradlog.Decision, name: str) -> float:
    """The value of one of its figures."""
    (found,) = (f.value for f in decision.figures if f.name == name)
    assert found is not None
    return found


def advise(
    path: Path, tensors: Mapping[str, Array], lr: Array | None = None, **options: Any
) -> gradlog.Advice:
    """The advice on a store with these gradients, and this learning rate."""
    import zarr

    write_store(path, tensors)
    if lr is not None:
        add_array(zarr.open_group(path, mode="a"), "lr", lr)
    return gradlog.advise(path, **options)


# Schedules


def refined_plainly(norms: Array) -> Array:
    """Word for word: w_t = ||g_t||^-2, eta_t = w_t sum_{p>t} w_p, divided by the largest."""
    weights = [1 / g**2 for g in norms]
    rates = np.array([weights[t] * sum(weights[t + 1 :]) for t in range(len(weights))])
    return rates / rates.max()


def bound_plainly(rates: Array, norms: Array, gamma: float, distance: float) -> float:
    """Theorem 1 of Schaipp et al., term by term."""
    total = 0.0
    last = len(rates)
    energy = [(gamma * r) ** 2 * g**2 for r, g in zip(rates, norms, strict=True)]
    steps = [gamma * r for r in rates]
    total = (distance**2 + sum(energy)) / (2 * sum(steps))
    for k in range(last - 1):
        total += steps[k] / sum(steps[k + 1 :]) / sum(steps[k:]) * sum(energy[k:]) / 2
    return total


@settings(max_examples=sweep(50), deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30))
def test_refined_schedule_is_the_formula(norms: list[float]) -> None:
    values = np.array(norms)
    np.testing.assert_allclose(lr.refined_schedule(values), refined_plainly(values), rtol=1e-9, atol=1e-12)


def test_refined_schedule_of_even_norms_is_linear_decay() -> None:
    np.testing.assert_allclose(lr.refined_schedule(np.full(5, 3.0)), [1, 0.75, 0.5, 0.25, 0])


def test_running_median_is_the_median_of_each_window() -> None:
    values = np.random.default_rng(1).exponential(size=57)
    padded = np.concatenate([values[:2][::-1], values, values[-2:][::-1]])
    expected = [np.median(padded[t : t + 5]) for t in range(57)]
    np.testing.assert_array_equal(lr.running_median(values, 0.1), expected)


@settings(max_examples=sweep(50), deadline=None)
@given(st.lists(st.tuples(st.floats(1e-3, 10), st.floats(1e-3, 10)), min_size=1, max_size=25))
def test_bound_is_the_theorem_at_its_best_base_rate(pairs: list[tuple[float, float]]) -> None:
    rates, norms = np.array(pairs).T
    value, base = lr.bound(rates, norms)
    assert value == pytest.approx(bound_plainly(rates, norms, base, 1.0), rel=1e-9)
    for other in (0.9 * base, 1.1 * base):
        assert value <= bound_plainly(rates, norms, other, 1.0) * (1 + 1e-12)


def test_bound_leaves_out_steps_of_rate_zero_at_the_end() -> None:
    norms = np.array([1.0, 2.0, 3.0, 5.0])
    assert lr.bound(np.array([1.0, 0.5, 0.0, 0.0]), norms) == lr.bound(np.array([1.0, 0.5]), norms[:2])


@pytest.mark.parametrize("seed", range(20))
def test_a_real_descent_stays_below_the_bound(seed: int) -> None:
    """Subgradient descent on max_i |a_i x - b_i|-like sums: the last iterate, with the norms that it saw."""
    rng = np.random.default_rng(seed)
    planes, target = rng.standard_normal((12, 4)), rng.standard_normal(4)
    rates = rng.uniform(0.2, 1.0, 30) if seed % 2 else np.linspace(1, 0.05, 30)
    start = target + rng.standard_normal(4)
    gamma = float(rng.uniform(0.005, 0.3))
    x, norms = start.copy(), []
    for rate in rates:
        last = x.copy()
        g = (planes * np.sign(planes @ (x - target))[:, None]).mean(axis=0)
        norms.append(float(np.linalg.norm(g)))
        x = x - gamma * rate * g
    loss = np.abs(planes @ (last - target)).mean()
    distance = float(np.linalg.norm(start - target))
    assert loss <= bound_plainly(rates, np.array(norms), gamma, distance) * (1 + 1e-12)


def test_schedule_is_held_against_the_logged_one(tmp_path: Path) -> None:
    noise = white(60, 40)
    constant = advise(tmp_path / "a.zarr", {"w": noise}, lr=np.full(60, 0.1), only=("schedule",))
    decision = told(constant, "schedule")
    norms = np.linalg.norm(noise.astype(np.float64), axis=1)
    refined = refined_plainly(lr.running_median(norms, 0.1))
    assert constant.schedule is not None
    np.testing.assert_allclose(constant.schedule.refined, refined, atol=1e-12)
    expected = lr.bound(refined, norms)[0] / lr.bound(np.full(60, 0.1), norms)[0]
    assert figure(decision, "bound_ratio") == pytest.approx(expected)
    # Any decay is worth as much to a constant rate: these norms have no course.
    assert expected < 0.9
    assert (decision.verdict, decision.confidence) == ("keep", "weak")
    growing = white(200, 40) * np.linspace(1, 10, 200, dtype=np.float32)[:, None]
    other = advise(tmp_path / "d.zarr", {"w": growing}, lr=np.full(200, 0.1), only=("schedule",))
    assert (told(other, "schedule").verdict, told(other, "schedule").confidence) == ("change", "weak")
    decayed = advise(tmp_path / "b.zarr", {"w": noise}, lr=np.linspace(0.1, 0, 60), only=("schedule",))
    assert told(decayed, "schedule").verdict == "keep"
    without = advise(tmp_path / "c.zarr", {"w": noise}, only=("schedule",))
    assert told(without, "schedule").verdict == "unknown"
    assert without.schedule is not None
    assert without.schedule.logged is None


# What is planted


def planted(rows: int = 200) -> dict[str, Array]:
    """Noise, one tensor for each fault."""
    tensors = {name: white(rows, 12, 20, seed=seed) for seed, name in enumerate(("clean", "dead", "faint"))}
    tensors["dead"][150:] = 0
    tensors["faint"][120:] *= 1e-6
    tensors["spiky"] = white(rows, 30, seed=3)
    tensors["spiky"][[50, 90]] *= 12
    tensors["settled"] = white(rows, 30, seed=4)
    tensors["settled"][140:] *= 2e-3
    tensors["grown"] = white(rows, 30, seed=5)
    tensors["grown"][100:] *= 8
    left, right = white(rows, 32, 2, seed=6), white(rows, 2, 40, seed=7)
    tensors["flat"] = left[:1] @ right
    tensors["moving"] = left @ right
    tensors["never"] = np.zeros((rows, 9, 4), np.float32)
    return tensors


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> gradlog.Advice:
    return advise(tmp_path_factory.mktemp("advice") / "run.zarr", planted())


def test_dead_tensors_are_found(faults: gradlog.Advice) -> None:
    assert told(faults, "dead", "dead").text == "dead from step 150 on"
    assert told(faults, "dead", "faint").text == "next to dead from step 120 on"
    assert told(faults, "dead", "never").text == "dead: zero at every step"
    assert {d.scope for d in faults.of("change") if d.quantity == "dead"} == {"dead", "faint", "never"}
    assert faults.decisions[0].quantity == "dead"


def test_settled_tensors_could_be_frozen(faults: gradlog.Advice) -> None:
    assert told(faults, "frozen", "settled").text == "freeze from step 141 on"
    assert {d.scope for d in faults.of("change") if d.quantity == "frozen"} == {"settled"}


def test_spikes_are_found_and_parted_by_a_clipping_level(faults: gradlog.Advice) -> None:
    decision = told(faults, "spikes", "spiky")
    norms = np.linalg.norm(planted()["spiky"].astype(np.float64), axis=1)
    assert decision.text.startswith("2 spikes, first at step 50; clip at ")
    clip = figure(decision, "clip")
    assert np.delete(norms, [50, 90]).max() < clip < norms[[50, 90]].min()
    assert {d.scope for d in faults.of("change") if d.quantity == "spikes"} == {"spiky"}


def test_sudden_growth_is_no_spike(faults: gradlog.Advice) -> None:
    decision = told(faults, "growth", "grown")
    assert abs(figure(decision, "at_row") - 100) <= 8
    assert figure(decision, "growth") == pytest.approx(8, rel=0.2)
    norms = np.linalg.norm(planted()["grown"].astype(np.float64), axis=1)
    clip = figure(decision, "clip")
    assert norms[:100].max() < clip < norms[100:].min()
    assert decision.text.endswith(f"; clip at {clip:.3g}")
    assert told(faults, "spikes", "grown").verdict == "keep"


def test_low_ranks_of_gradient_matrices_are_found(faults: gradlog.Advice) -> None:
    decision = told(faults, "rank", "flat")
    assert (decision.text, decision.confidence) == ("track rank 2 of 32", "clear")
    assert told(faults, "rank", "clean").verdict == "keep"
    assert told(faults, "rank", "never").verdict == "unknown"
    assert figure(decision, "held_next") == pytest.approx(1)
    moving = told(faults, "rank", "moving")
    assert (moving.verdict, moving.confidence) == ("keep", "clear")
    assert "its subspace moves within 12 steps" in moving.text
    assert figure(moving, "held_next") < 0.3
    assert figure(moving, "held_by_chance") == 2 / 32
    matrices = planted()["flat"][sampled_rows(200, faults.samples)].astype(np.float64)
    values = np.linalg.svd(matrices, compute_uv=False)
    shares = values**2 / (values**2).sum(axis=1, keepdims=True)
    counts = [int(np.searchsorted(np.cumsum(share), 0.9)) + 1 for share in shares]
    assert figure(decision, "rank90") == np.median(counts)
    assert figure(decision, "stable_rank") == pytest.approx(np.median(1 / shares[:, 0]))
    nuclear = values.sum(axis=1) ** 2 / (values**2).sum(axis=1)
    # Rounding of the Gram matrix: singular values below 1e-8 of the first are not seen.
    assert figure(decision, "nuclear_rank") == pytest.approx(np.median(nuclear), rel=1e-5)
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    entropy = -(shares * logs).sum(axis=1)
    assert figure(decision, "effective_rank") == pytest.approx(np.median(np.exp(entropy)))


def test_an_open_gap_is_found(tmp_path: Path) -> None:
    values = white(300, 600)
    direction = np.ones(600, np.float32)
    values[100:200] += np.random.default_rng(1).standard_normal((100, 1)).astype(np.float32) * direction * 2
    decision = told(advise(tmp_path / "run.zarr", {"w": values}, only=("edge",)), "edge")
    assert decision.verdict == "note"
    first, last = map(int, decision.text.removeprefix("gap open ").split(" ")[0].split("-"))
    assert abs(first - 100) <= 15
    assert abs(last - 200) <= 15
    assert "(k=1)" in decision.text


# Clean runs


@pytest.mark.parametrize("seed", range(3))
def test_white_noise_gets_no_advice(tmp_path: Path, seed: int) -> None:
    tensors = {
        "w": white(300, 16, 24, seed=seed),
        "b": white(300, 16, seed=seed + 50),
        "s": white(300, 1, seed=9),
    }
    advice = advise(tmp_path / "run.zarr", tensors, lr=np.linspace(1, 0, 300))
    assert [d for d in advice.decisions if d.verdict != "keep"] == []
    assert {d.quantity for d in advice.decisions} == set(gradlog.QUANTITIES)


def test_weakly_correlated_noise_gets_no_advice(tmp_path: Path) -> None:
    values = white(300, 16, 24)
    for t in range(1, 300):
        values[t] += 0.2 * values[t - 1]
    advice = advise(tmp_path / "run.zarr", {"w": values}, lr=np.linspace(1, 0, 300))
    assert [d for d in advice.decisions if d.verdict == "change"] == []


# Figures against plain computations


def noise_squares_plainly(norms: Array, starts: range) -> Array:
    """Of orthogonal rows of these norms: singular values of their increments."""
    rows = np.diag(norms)
    return np.array([np.linalg.svd(np.diff(rows[a : a + 11], axis=0), compute_uv=False) ** 2 for a in starts])


def test_windows_of_noise_are_those_of_orthogonal_rows() -> None:
    norms = np.random.default_rng(3).lognormal(size=40)
    found = noise_squares(norms, np.arange(0, 30, 5))
    expected = (
        noise_squares_plainly(norms, range(0, 30, 5))
        / np.array([norms[a : a + 11].max() ** 2 for a in range(0, 30, 5)])[:, None]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_predictions_and_windows_against_plain_sums(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = (np.cumsum(rng.standard_normal((80, 100)), axis=0) / 4 + rng.standard_normal((80, 100))).astype(
        np.float32
    )
    advice = advise(tmp_path / "run.zarr", {"w": values})
    g = values.astype(np.float64)
    means = np.array([g[t - 5 : t].mean(axis=0) for t in range(5, 80)])
    energies = np.array([(g[t - 5 : t] ** 2).sum() / 5 for t in range(5, 80)])
    alpha = 5 * (means**2).sum() / energies.sum()
    assert figure(told(advice, "coherence"), "alpha[5]") == pytest.approx(alpha, rel=1e-9)
    signal = told(advice, "coherence")
    assert figure(signal, "signal_share") == pytest.approx((alpha - 1) / 4, rel=1e-9)
    assert figure(signal, "noise_scale") == pytest.approx((5 - alpha) / (alpha - 1), rel=1e-9)
    slow, state = 0.0, 0.01 * g[0]
    for t in range(1, 80):
        slow += g[t] @ state / (1 - 0.99**t)
        state = 0.99 * state + 0.01 * g[t]
    share = figure(told(advice, "slow"), "slow_share[ema:0.99]")
    assert share == pytest.approx(slow / (g[1:] ** 2).sum(), rel=1e-9)
    increments = np.diff(g, axis=0)
    singular = np.array(
        [np.linalg.svd(increments[a : a + 10], compute_uv=False) for a in range(0, 79 - 9, 5)]
    )
    of_noise = np.sqrt(noise_squares_plainly(np.linalg.norm(g, axis=1), range(0, 79 - 9, 5)))
    ratios = singular[:, :5] / singular[:, 1:6] / (of_noise[:, :5] / of_noise[:, 1:6])
    assert figure(told(advice, "edge"), "largest_over_noise") == pytest.approx(ratios.max(), rel=1e-6)
    analysis = gradlog.analyze(tmp_path / "run.zarr")
    best = analysis.total.best
    assert best is not None
    hint = told(gradlog.advise(analysis), "hint")
    assert hint.figures[0].value == best.kappa
    lower, upper = hint.figures[0].lower, hint.figures[0].upper
    assert lower is not None
    assert upper is not None
    assert lower < hint.figures[0].value < upper
    assert figure(hint, "bound") == pytest.approx(np.sqrt(best.kappa))


def test_a_few_parameters_that_keep_their_sign_are_no_coherence(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    steady = {"bias": 1 + 0.1 * rng.standard_normal((200, 1)), "w": 1 + 0.1 * rng.standard_normal((200, 40))}
    advice = advise(tmp_path / "run.zarr", steady, only=("coherence",))
    few = told(advice, "coherence", "bias")
    assert few.verdict == "keep"
    assert "fewer than 32" in few.text
    assert few.figures[0].value == pytest.approx(1, rel=0.02)
    assert told(advice, "coherence", "w").verdict == "note"


def test_what_the_search_found_takes_the_place_of_listed_predictors(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.standard_normal((120, 200)), axis=0) / 4 + rng.standard_normal((120, 200))
    advice = advise(tmp_path / "run.zarr", {"w": values.astype(np.float32)}, only=("hint", "momentum"))
    search = gradlog.analyze(tmp_path / "run.zarr", search=True).search
    assert search is not None
    assert search.total.best is not None
    hint = told(advice, "hint")
    assert hint.text == f"use {search.total.best.predictor} as hint"
    assert hint.figures[0].value == search.total.best.held_out
    finest = search.total.of("ema")
    assert finest is not None
    found = {figure.name: figure.value for figure in told(advice, "momentum").figures}
    assert found[f"held_out[{finest.predictor}]"] == finest.held_out


def test_spike_scores_are_the_running_ratio() -> None:
    squares = np.random.default_rng(5).exponential(size=60)
    squares[40] = 1e4
    found = spikes.spike_scores(squares)
    kept: list[float] = []
    for t in range(60):
        weights = 0.99 ** np.arange(t - 1, -1, -1)
        level = (weights * kept).sum() / weights.sum() if t else 0.0
        expected = squares[t] / level if t >= 24 else 0.0
        assert found[t] == pytest.approx(expected)
        kept.append(min(squares[t], 25 * level) if t >= 24 else squares[t])


def test_level_ratios_are_of_neighbouring_windows() -> None:
    level = np.random.default_rng(6).exponential(size=50)

    def growth(before: Array, after: Array) -> float:
        means = np.sqrt((after**2).mean() / (before**2).mean())
        return float(min(np.median(after) / np.median(before), means))

    expected = [growth(level[t - 16 : t], level[t : t + 16]) for t in range(16, 35)]
    np.testing.assert_allclose(level_ratios(level), expected)


def test_gaps_open_above_two_and_close_below_one_and_a_half() -> None:
    assert open_spans(np.array([1, 2.1, 1.6, 1.4, 1.9, 3.0])) == [(1, 2), (5, 5)]
    squares = np.array([[16.0, 4, 4, 4, 1, 0], [0] * 6, [9, 9, 9, 1, 1, 1]])
    gaps, places = spectral_gaps(squares, np.ones((3, 6)))
    np.testing.assert_allclose(gaps, [2, 0, 3])
    assert places.tolist() == [1, 1, 3]
    # Noise that has the same gap itself leaves none.
    np.testing.assert_allclose(spectral_gaps(squares, squares)[0], [1, 0, 1])


def test_the_best_memory_is_found(tmp_path: Path) -> None:
    """A direction that turns slowly under noise: a long average beats short ones."""
    rng = np.random.default_rng(8)
    signal = np.repeat(rng.standard_normal((4, 200)), 75, axis=0)
    values = (signal + 2 * rng.standard_normal((300, 200))).astype(np.float32)
    decision = told(advise(tmp_path / "run.zarr", {"w": values}, only=("momentum",)), "momentum")
    assert decision.verdict == "change"
    assert decision.text == "memory 0.923"  # of those searched, the next are 0.9 and 0.94


# Samples of rows, however the pass reads


@pytest.mark.parametrize("rank", ["exact", "incremental", "none"])
@pytest.mark.parametrize("rows", [31, 280])
def test_sampled_matrices_are_the_logged_ones(tmp_path: Path, rank: str, rows: int) -> None:
    shapes = {"a": (6, 9), "conv": (4, 3, 2, 2), "tall": (30, 5)}
    tensors = {name: white(rows, *shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}
    tensors["bias"] = white(rows, 7)
    chunks = {"a": (10, 4, 5), "conv": (7, 2, 3, 2, 1), "tall": (rows, 30, 5)}
    write_store(tmp_path / "run.zarr", tensors, chunks=chunks)
    advice = gradlog.advise(
        tmp_path / "run.zarr", gradlog.Settings(rank=rank), only=("rank",), samples=5, threads=2
    )
    assert advice.samples == 5
    places = sampled_rows(rows, 5)
    assert np.diff(places).min() >= rows // 5 - 1
    for name in shapes:
        matrices = tensors[name][places].astype(np.float64).reshape(5, shapes[name][0], -1)
        values = np.linalg.svd(matrices, compute_uv=False) ** 2
        stable = values.sum(axis=1) / values[:, 0]
        # The smaller side's directions of one row, and what they hold of the next one.
        lying = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.swapaxes(1, 2)
        left = np.linalg.svd(lying[:-1], full_matrices=False)[0]
        inside = ((left.swapaxes(1, 2) @ lying[1:]) ** 2).sum(axis=2).cumsum(axis=1)
        held = inside / (lying[1:] ** 2).sum(axis=(1, 2))[:, None]
        np.testing.assert_allclose(spectra_of_rows(matrices)[1], held, rtol=1e-9)
        found = {f.name: f for f in told(advice, "rank", name).figures}["stable_rank"]
        assert found.lower == pytest.approx(stable.min(), rel=1e-6)
        assert found.value == pytest.approx(np.median(stable), rel=1e-6)
        assert found.upper == pytest.approx(stable.max(), rel=1e-6)


def test_samples_are_bounded_by_work_and_memory(tmp_path: Path) -> None:
    tensors = {"a": white(20, 640, 800), "b": white(20, 8)}
    write_store(tmp_path / "run.zarr", tensors)
    log = gradlog.open_log(tmp_path / "run.zarr")

    def size(rows: int, room: int, asked: int | None = None, *, whole: bool = False) -> int | str:
        return sample_sizes(log.tensors, rows, whole_rows=whole, room=room, asked=asked)[0]

    assert size(10**6, 1 << 30) == 16
    assert size(20, 1 << 30) == TOO_MUCH_WORK
    assert size(20, 1 << 30, 3) == 3
    assert size(2, 1 << 30, 9) == 2
    small = gradlog.open_log(write_store(tmp_path / "small.zarr", {"a": white(2, 6, 8)}))
    assert sample_sizes(small.tensors, 2, whole_rows=True, room=1 << 30, asked=None)[0] == 2
    assert size(10**6, 1 << 10) == TOO_LARGE
    assert size(10**6, 5 * 3 * 640 * 800 * 4 + 48 * 640**2) == 5
    assert size(10**6, 5 * 3 * 640 * 800 * 4 + 48 * 640**2, whole=True) == 15


def test_the_same_advice_for_any_number_of_threads(tmp_path: Path) -> None:
    write_store(tmp_path / "run.zarr", planted(160), chunks={"clean": (30, 5, 20), "flat": (45, 7, 40)})
    one, four = (
        gradlog.advice_document(gradlog.advise(tmp_path / "run.zarr", threads=threads)) for threads in (1, 4)
    )
    assert one == four


# What cannot be said


def test_one_row_is_told_everywhere(tmp_path: Path) -> None:
    advice = advise(tmp_path / "run.zarr", {"w": white(1, 9, 9)}, samples=1)
    rank = told(advice, "rank", "w")
    assert rank.verdict == "keep"
    assert rank.confidence != "certain"
    others = [d for d in advice.decisions if d.quantity not in ("rank", "dead", "frozen")]
    assert others
    assert all(d.verdict == "unknown" and d.text for d in others)


def test_zero_gradients_are_told_everywhere(tmp_path: Path) -> None:
    advice = advise(tmp_path / "run.zarr", {"w": np.zeros((60, 9, 9), np.float32)}, lr=np.ones(60))
    assert told(advice, "dead", "w").verdict == "change"
    assert {d.verdict for d in advice.decisions if d.quantity not in ("dead", "spikes")} == {"unknown"}


def test_constant_gradients_crash_nothing(tmp_path: Path) -> None:
    advice = advise(tmp_path / "run.zarr", {"w": np.ones((60, 9, 9), np.float32)}, lr=np.ones(60))
    assert told(advice, "edge").text == "the gradient never changes"
    assert told(advice, "hint").text == "use one-step as hint"
    assert told(advice, "coherence").figures[0].value == pytest.approx(1)


@pytest.mark.parametrize("rows", [2, 3, 6, 20, 25, 33])
def test_few_rows_crash_nothing_and_are_never_clear(tmp_path: Path, rows: int) -> None:
    advice = advise(tmp_path / "run.zarr", {"w": white(rows, 9, 9)}, lr=np.ones(rows))
    if rows < 24:
        intervals = [d for d in advice.decisions if d.quantity in ("hint", "momentum", "slow", "coherence")]
        assert all(d.confidence in ("weak", "none", "certain") for d in intervals)
        assert not any(f.basis == "bootstrap" and f.lower is not None for d in intervals for f in d.figures)


def test_a_finished_result_says_what_it_cannot(tmp_path: Path) -> None:
    write_store(tmp_path / "run.zarr", planted(120))
    whole = gradlog.advise(gradlog.analyze(tmp_path / "run.zarr", tensor_steps=True))
    store = gradlog.advise(tmp_path / "run.zarr")
    same = ("dead", "spikes", "growth", "frozen", "hint", "momentum", "slow", "coherence")
    for name in same:
        of_each = [[d for d in advice.decisions if d.quantity == name] for advice in (whole, store)]
        assert of_each[0] == of_each[1]
    assert "give the store" in told(whole, "rank", "flat").text
    assert "give the store" in told(whole, "edge").text
    plain = gradlog.advise(gradlog.analyze(tmp_path / "run.zarr"))
    assert {d.scope for d in plain.decisions if d.quantity == "hint"} == {None}
    assert any("--tensor-steps" in d.text for d in plain.of("unknown"))
    analysis = gradlog.analyze(tmp_path / "run.zarr")
    nothing = np.zeros(0)
    steps = gradlog.Steps(np.zeros(0, np.int64), nothing, nothing, {})
    bare = gradlog.advise(dataclasses.replace(analysis, steps=steps))
    assert {d.verdict for d in bare.decisions if d.quantity != "dead"} == {"unknown"}


def test_a_sketch_gives_estimates_and_no_matrices(tmp_path: Path) -> None:
    write_store(tmp_path / "run.zarr", planted(160))
    gradlog.sketch_log(tmp_path / "run.zarr", tmp_path / "sketch.zarr", gradlog.Settings(sketch_dim=64))
    advice = gradlog.advise(tmp_path / "sketch.zarr")
    assert {d.confidence for d in advice.decisions} <= {"weak", "none"}
    assert told(advice, "dead", "dead").text == "dead from step 150 on"
    assert "a sketch holds no gradient matrices" in told(advice, "rank", "flat").text
    assert all(figure.basis != "exact" for d in advice.decisions for figure in d.figures)


def test_rows_apart_are_not_steps(tmp_path: Path) -> None:
    values = np.cumsum(white(100, 40), axis=0)
    write_store(tmp_path / "run.zarr", {"w": values}, step=np.arange(100) * 10)
    advice = gradlog.advise(tmp_path / "run.zarr", only=("hint", "momentum"))
    assert told(advice, "hint").verdict == "keep"
    assert "10 training steps apart" in told(advice, "hint").text


def test_adam_has_no_schedule_from_l2_norms() -> None:
    decision = told(gradlog.advise(SAMPLES / "charlm-adamw.zarr", only=("schedule",)), "schedule")
    assert decision.verdict == "unknown"
    assert "l1 norms" in decision.text


def test_unknown_names_and_samples_are_refused() -> None:
    with pytest.raises(gradlog.UsageError, match="no quantity"):
        gradlog.advise(SAMPLES / "mlp-gd.zarr", only=("heads",))
    with pytest.raises(gradlog.UsageError, match="samples 0"):
        gradlog.advise(SAMPLES / "mlp-gd.zarr", samples=0)


def test_confidence_never_exceeds_the_figures() -> None:
    estimate = Figure("x", 1.0, basis="estimate")
    for confidence, figures in ((CERTAIN, (estimate,)), (CLEAR, (estimate,)), (CLEAR, ())):
        with pytest.raises(ValueError, match=r"certain of|clear without"):
            gradlog.Decision("hint", None, KEEP, "", figures, confidence, "")
    with pytest.raises(ValueError, match="unknown"):
        gradlog.Decision("hint", None, "unknown", "", (), "weak", "")


def test_quantities_have_formula_source_and_range() -> None:
    """Each lives in a module of its own that says what it computes."""
    import importlib

    for name in gradlog.QUANTITIES:
        module = importlib.import_module(f"gradmf.gradlog.advice.{name}")
        assert name == module.NAME
        assert "arXiv" in module.SOURCE
        text = " ".join((module.__doc__ or "").split())
        assert len(text) > 400
        assert "without units" in text.lower(), name
        assert re.search(r"\bin [\[(1]|at least|at most|from 0", text), name


def test_intervals_asked_for_together_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(4)
    sums = [
        rng.lognormal(0, 1, (200, 2)).cumsum(axis=0) if at % 2 else rng.lognormal(0, 1, (200, 2))
        for at in range(6)
    ]
    sums.append(np.zeros((200, 2)))
    asked = [Asked(held, _ratio, 1.0 + 5 * at, fixed=at % 2) for at, held in enumerate(sums)]
    bootstrap = RunBootstrap(sums[0][:, 0])
    together = bootstrap.intervals(asked)
    for one, other in zip(together, asked, strict=True):
        (alone,) = bootstrap.intervals([other])
        held, expected = (np.array(list(vars(each).values()), dtype=float) for each in (one, alone))
        np.testing.assert_allclose(held, expected, rtol=1e-12)
    assert together[0].lower < together[0].value < together[0].upper  # type: ignore[operator]
    assert together[-1].value is None


def _ratio(sums: Array) -> Array:
    return np.asarray(sums[..., 0] / sums[..., 1])


def test_long_runs_are_resampled_by_bins_in_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    sums = rng.exponential(size=(60_000, 2))
    tracemalloc.start()
    (found,) = RunBootstrap(sums[:, 0]).intervals([Asked(sums, lambda s: s[..., 0] / s[..., 1])])
    lr.running_median(sums[:, 0], 0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6
    # Of independent rows the error is known: the ratio of two means of N exponential values.
    assert found.value is not None
    assert found.lower is not None
    assert found.upper is not None
    error = found.value * np.sqrt(2 / 60_000)
    assert 2 * 1.96 * error * 0.75 < found.upper - found.lower < 2 * 1.96 * error * 1.35
