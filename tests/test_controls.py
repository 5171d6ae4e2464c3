"""Gradients whose figures are known in closed form, and gradients that are hard on rounding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from stores import foreign_store

from conftest import PREDICTORS, assert_analysis, assert_scope
from gradmf import gradlog

Doubles = NDArray[np.float64]


def analyzed(
    path: Path,
    values: NDArray[Any],
    *,
    predictors: tuple[str, ...] = PREDICTORS,
    rank: str = "exact",
    **chunks: Any,
) -> gradlog.Analysis:
    foreign_store(path / "run.zarr", {"w": values}, **chunks)
    return gradlog.analyze(path / "run.zarr", gradlog.Settings(predictors=predictors, rank=rank))


def by_name(analysis: gradlog.Analysis) -> dict[str, gradlog.PredictorResult]:
    return {predictor.predictor: predictor for predictor in analysis.total.predictors}


def shares(analysis: gradlog.Analysis) -> Doubles:
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    return spectrum.singular_values**2 / spectrum.energy


def ranks(analysis: gradlog.Analysis) -> list[int]:
    assert analysis.total.spectrum is not None
    return [rank.rank for rank in analysis.total.spectrum.rank]


def reference_shares(values: NDArray[Any]) -> Doubles:
    """Vectorised float64: the Gram matrix of the increments, on its smaller side."""
    increments = np.diff(values.astype(np.float64), axis=0)
    small = increments.T if increments.shape[1] < increments.shape[0] else increments
    return np.asarray(np.linalg.eigvalsh(small @ small.T)[::-1] / (increments**2).sum())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("width", [5, 5000])
def test_constant_gradients(tmp_path: Path, dtype: str, width: int) -> None:
    """P = ||g||^2 (1 + sum of squared misses): one-step 1 / N, ema sum of B^2t / N, linear 1 / N."""
    rows = 40
    values = np.repeat(np.random.default_rng(1).standard_normal((1, width)), rows, axis=0).astype(dtype)
    predictors = (*PREDICTORS, "ema-debiased:0.9", "mean:3")
    analysis = analyzed(tmp_path, values, predictors=predictors)
    found = by_name(analysis)
    for spec in ("one-step", "mean:5", "mean:3", "linear", "ema-debiased:0.9"):
        assert found[spec].kappa == pytest.approx(1 / rows, rel=1e-12)
    for b in (0.5, 0.9, 0.99):
        expected = math.fsum(b ** (2 * t) for t in range(rows)) / rows
        assert found[f"ema:{b}"].kappa == pytest.approx(expected, rel=1e-12)
    assert found["zero"].kappa == 1
    # Scaled: the best c is 1 for an exact prediction, and only row 0 is left.
    assert found["one-step"].scaled_kappa == pytest.approx(1 / rows, rel=1e-12)
    assert found["one-step"].scale == pytest.approx(1, rel=1e-12)
    assert analysis.total.spectrum is not None
    assert analysis.total.spectrum.energy == 0
    assert ranks(analysis) == [0, 0, 0]
    np.testing.assert_allclose(analysis.steps.cosine[1:], 1)


@pytest.mark.parametrize("rows", [2, 7, 200])
@pytest.mark.parametrize("width", [1, 3000])
def test_alternating_gradients(tmp_path: Path, rows: int, width: int) -> None:
    """g, -g, g, ...: one-step (1 + 4 (N - 1)) / N; mean of the last 5 misses by 1 +- 1/5; linear by 4."""
    g = np.random.default_rng(2).standard_normal(width)
    values = g * (-1.0) ** np.arange(rows)[:, None]
    analysis = analyzed(tmp_path, values)
    found = by_name(analysis)
    assert found["one-step"].kappa == pytest.approx((1 + 4 * (rows - 1)) / rows, rel=1e-12)
    assert found["linear"].kappa == pytest.approx((1 + 4 + 16 * max(0, rows - 2)) / rows, rel=1e-12)
    for b in (0.5, 0.9, 0.99):
        s, missed = 0.0, 0.0
        for t in range(rows):
            missed += ((-1) ** t - s) ** 2
            s = b * s + (1 - b) * (-1) ** t
        assert found[f"ema:{b}"].kappa == pytest.approx(missed / rows, rel=1e-12)
    # The last gradient predicts perfectly once its sign is turned.
    assert found["one-step"].scale == pytest.approx(-1, rel=1e-12)
    assert found["one-step"].scaled_kappa == pytest.approx(1 / rows, rel=1e-12)
    assert ranks(analysis) == [1, 1, 1]
    assert shares(analysis)[0] == pytest.approx(1, abs=1e-12)
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    assert spectrum.stable_rank == pytest.approx(1)
    assert spectrum.effective_rank == pytest.approx(1, abs=1e-9)
    assert spectrum.participation_ratio == pytest.approx(1)
    np.testing.assert_allclose(analysis.steps.cosine[1:], -1)


def ar1(rows: int, width: int, phi: float, seed: int) -> Doubles:
    """Stationary AR(1) of unit variance in every parameter."""
    noise = np.random.default_rng(seed).standard_normal((rows, width))
    values = np.empty_like(noise)
    values[0] = noise[0]
    for t in range(1, rows):
        values[t] = phi * values[t - 1] + math.sqrt(1 - phi**2) * noise[t]
    return values


@pytest.mark.parametrize("phi", [-0.6, 0.0, 0.5, 0.9, 0.99])
def test_autoregressive_gradients(tmp_path: Path, phi: float) -> None:
    """In the long run one-step kappa is 2 (1 - phi), scaled 1 - phi^2 with c = phi; ema by its own series.

    With x_t of autocovariance phi^|k|, E||x_t - s_t||^2 = 1 - 2 E x_t s_t + E s_t^2, where
    E x_t s_t = (1 - B) phi / (1 - B phi) and E s_t^2 = (1 - B) (1 + B phi) / ((1 + B) (1 - B phi)).
    """
    rows, width = 4000, 400
    values = ar1(rows, width, phi, seed=11).astype("f4")
    found = by_name(analyzed(tmp_path, values, rank="none", chunks=(500, width)))
    # Over N rows and D parameters; the slowest correlations leave fewer that are independent.
    tolerance = 6 / math.sqrt(rows * width * (1 - phi**2))
    start = 2 / rows  # m_0 = 0
    assert found["one-step"].kappa == pytest.approx(2 * (1 - phi), abs=4 * tolerance * (1 - phi) + start)
    assert found["one-step"].scaled_kappa == pytest.approx(1 - phi**2, abs=tolerance + start)
    assert found["one-step"].scale == pytest.approx(phi, abs=tolerance + start)
    for b in (0.5, 0.9):
        product = (1 - b) * phi / (1 - b * phi)
        square = (1 - b) * (1 + b * phi) / ((1 + b) * (1 - b * phi))
        warm_up = 10 / (1 - b) / rows
        assert found[f"ema:{b}"].kappa == pytest.approx(1 - 2 * product + square, abs=4 * tolerance + warm_up)


def test_white_noise(tmp_path: Path) -> None:
    """One-step 2, ema 1 + (1 - B) / (1 + B), mean 1 + 1/K, linear 6; the best c is 0; full rank."""
    rows, width = 101, 20_000
    values = np.random.default_rng(21).standard_normal((rows, width)).astype("f4")
    analysis = analyzed(tmp_path, values, chunks=(50, 3000))
    found = by_name(analysis)
    tolerance = 6 * 2 / math.sqrt(rows * width)
    assert found["one-step"].kappa == pytest.approx(2 - 1 / rows, abs=tolerance)
    assert found["linear"].kappa == pytest.approx((1 + 2 + 6 * (rows - 2)) / rows, abs=4 * tolerance)
    for b in (0.5, 0.9, 0.99):
        # s_t has variance (1 - B)^2 (1 - B^2t) / (1 - B^2) after t rows.
        mean = np.mean([(1 - b) ** 2 * (1 - b ** (2 * t)) / (1 - b**2) for t in range(rows)])
        assert found[f"ema:{b}"].kappa == pytest.approx(1 + mean, abs=tolerance)
    mean = np.mean([0, *(1 / min(t, 5) for t in range(1, rows))])
    assert found["mean:5"].kappa == pytest.approx(1 + mean, abs=tolerance)
    assert found["one-step"].scale == pytest.approx(0, abs=tolerance)
    assert found["one-step"].scaled_kappa == pytest.approx(1, abs=tolerance)
    # Increments of white noise: eigenvalues 2 - 2 cos(pi k / N), blurred by sqrt(N / D).
    expected = 2 - 2 * np.cos(np.pi * np.arange(rows - 1, 0, -1) / rows)
    np.testing.assert_allclose(shares(analysis), expected / expected.sum(), atol=1e-3)
    rank = int(np.searchsorted(np.cumsum(expected) / expected.sum(), 0.9)) + 1
    assert abs(ranks(analysis)[0] - rank) <= 2


LOW_RANK = {
    "D<N-1": (60, 20),
    "D>N-1": (20, 60),
    "D=N-1": (21, 20),
    "wide": (40, 9000),
    "long": (3000, 30),
    "single-precision": (210, 40_000),
}


@pytest.mark.parametrize("rank", [1, 3, 7])
@pytest.mark.parametrize("shape", LOW_RANK.values(), ids=LOW_RANK.keys())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_low_rank_increments(tmp_path: Path, rank: int, shape: tuple[int, int], dtype: str) -> None:
    """Increments with `rank` equal singular values: r* is r as soon as 1 - eps needs the last of them."""
    rows, width = shape
    rng = np.random.default_rng(rank)
    left, _ = np.linalg.qr(rng.standard_normal((rows - 1, rank)))
    right, _ = np.linalg.qr(rng.standard_normal((width, rank)))
    increments = left @ right.T
    values = np.concatenate([np.zeros((1, width)), np.cumsum(increments, axis=0)]).astype(dtype)
    path = foreign_store(tmp_path / "run.zarr", {"w": values})
    epsilons = (0.5 / rank, 0.01, 1e-6, 0.0) if dtype == "float64" else (0.5 / rank, 0.01, 1e-6)
    analysis = gradlog.analyze(path, gradlog.Settings(epsilons=epsilons))
    np.testing.assert_allclose(shares(analysis)[:rank], 1 / rank, atol=1e-6)
    np.testing.assert_allclose(shares(analysis)[rank:], 0, atol=1e-6)
    assert shares(analysis).size == min(rows - 1, width)
    assert ranks(analysis)[:3] == [rank] * 3
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    for figure in (spectrum.stable_rank, spectrum.effective_rank, spectrum.participation_ratio):
        assert figure == pytest.approx(rank, rel=1e-4)
    np.testing.assert_allclose(shares(analysis), reference_shares(values), rtol=0, atol=1e-6)


def test_residual_is_the_energy_left(tmp_path: Path) -> None:
    values = np.random.default_rng(5).standard_normal((30, 50))
    analysis = analyzed(tmp_path, values)
    squares = np.linalg.svd(np.diff(values, axis=0), compute_uv=False) ** 2
    assert analysis.total.spectrum is not None
    for rank in analysis.total.spectrum.rank:
        assert rank.residual == pytest.approx(squares[rank.rank :].sum(), rel=1e-6, abs=1e-9 * squares.sum())
        assert squares[rank.rank :].sum() <= rank.epsilon * squares.sum()
        assert squares[rank.rank - 1 :].sum() > rank.epsilon * squares.sum()


@pytest.mark.parametrize("epsilons", [(0.0,), (0.999999,), (0.25, 0.5), (0.5, 0.25, 0.5)])
def test_thresholds_met_exactly(tmp_path: Path, epsilons: tuple[float, ...]) -> None:
    """Four increments of equal energy, orthogonal: each share is 1/4, and a sum that meets 1 - eps counts."""
    values = np.concatenate([np.zeros((1, 4)), np.cumsum(np.eye(4), axis=0)])
    path = foreign_store(tmp_path / "run.zarr", {"w": values})
    analysis = gradlog.analyze(path, gradlog.Settings(epsilons=epsilons))
    expected = {0.0: 4, 0.25: 3, 0.5: 2, 0.999999: 1}
    assert ranks(analysis) == [expected[epsilon] for epsilon in epsilons]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [4, 5000])
def test_linear_ramps(tmp_path: Path, dtype: str, width: int) -> None:
    """g_t = a + t b in whole numbers: the linear predictor misses g_0 and g_1 - g_0 and nothing more."""
    rng = np.random.default_rng(6)
    a, b = rng.integers(-50, 50, (2, width)).astype("f8")
    values = (a + np.arange(50)[:, None] * b).astype(dtype)
    analysis = analyzed(tmp_path, values)
    found = by_name(analysis)
    energy = (values.astype("f8") ** 2).sum()
    assert found["linear"].path_length == pytest.approx((a**2).sum() + (b**2).sum(), rel=1e-14)
    assert found["linear"].kappa == pytest.approx(((a**2).sum() + (b**2).sum()) / energy, rel=1e-14)
    assert (analysis.steps.kappa["linear"][2:] == 0).all()
    assert found["one-step"].path_length == pytest.approx((a**2).sum() + 49 * (b**2).sum(), rel=1e-14)
    assert ranks(analysis) == [1, 1, 1]


@pytest.mark.parametrize("noise", [1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("width", [30, 6000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_near_perfect_predictability(tmp_path: Path, noise: float, width: int, dtype: str) -> None:
    """Rows hardly differ, and row 0 costs little: per-step kappas of 2e-6, 2e-8 and 2e-12."""
    rng = np.random.default_rng(7)
    base = rng.standard_normal((1, width))
    values = np.concatenate([noise * base, np.repeat(base, 59, axis=0)]) + noise * rng.standard_normal(
        (60, width)
    )
    analysis = analyzed(tmp_path, values.astype(dtype))
    assert_analysis(analysis, {"w": values.astype(dtype)})


@pytest.mark.parametrize("noise", [1e-4, 1e-6])
@pytest.mark.parametrize("width", [30, 4200])
def test_tiny_kappas(tmp_path: Path, noise: float, width: int) -> None:
    """Gradients that grow from almost nothing along a smooth path: total kappas down to about 1e-12."""
    rows = 200
    rng = np.random.default_rng(8)
    growth = np.minimum(1.0, np.exp(np.linspace(np.log(noise), 6, rows)))[:, None]
    values = growth * (rng.standard_normal((1, width)) + noise * rng.standard_normal((rows, width)))
    analysis = analyzed(tmp_path, values)
    assert_analysis(analysis, {"w": values})
    settled = np.nanmin(analysis.steps.kappa["one-step"])
    assert settled < 10 * noise**2


def test_tiny_total_kappa(tmp_path: Path) -> None:
    """Kappas of a whole run of 1e-8 and 1e-12, against the closed form of a ramp that starts at b."""
    # g_t = (t + 1) b: P = N ||b||^2, energy = ||b||^2 N (N + 1) (2 N + 1) / 6.
    rows = 20_000
    b = np.random.default_rng(9).standard_normal(8)
    values = np.arange(1, rows + 1)[:, None] * b
    found = by_name(analyzed(tmp_path, values, rank="none", chunks=(1000, 8)))
    exact = rows / (rows * (rows + 1) * (2 * rows + 1) / 6)
    assert exact < 1e-8
    assert found["one-step"].kappa == pytest.approx(exact, rel=1e-6)
    # The linear predictor misses g_0 = b and g_1 - g_0 = b only.
    assert found["linear"].kappa == pytest.approx(2 * exact / rows, rel=1e-6)
    assert found["linear"].kappa < 1e-12


IDENTICAL = {"normal": 0, "lognormal": 1, "few-large": 2}


@pytest.mark.parametrize("kind", IDENTICAL)
def test_identical_columns(tmp_path: Path, kind: str) -> None:
    """Every parameter has the same gradient: rounding in float32 sums never averages out."""
    rows, width = 200, 40_000
    rng = np.random.default_rng(IDENTICAL[kind])
    column = rng.standard_normal(rows)
    if kind == "lognormal":
        column *= np.exp(3 * rng.standard_normal(rows))
    elif kind == "few-large":
        column[[50, 120]] *= 1e6
    values = np.repeat(column[:, None].astype("f4"), width, axis=1)
    analysis = analyzed(tmp_path, values, chunks=(100, 10_000))
    np.testing.assert_allclose(shares(analysis)[0], 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(shares(analysis)[1:], 0, atol=1e-6)
    assert ranks(analysis) == [1, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_one_rounded_row_among_exact_ones(tmp_path: Path, seed: int) -> None:
    """Two rows hold all the energy, and their products are the only ones that round."""
    rows, width = 200, 40_000
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.integers(-4, 4, rows).astype("f4")[:, None], width, axis=1)
    values[60] = np.float32(1e4 * rng.uniform(1, 2))
    values[130, ::2] = np.float32(1e4 * rng.uniform(1, 2))
    analysis = analyzed(tmp_path, values, chunks=(100, 10_000))
    np.testing.assert_allclose(shares(analysis), reference_shares(values), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["ramp", "one", "alternating"])
def test_rows_of_very_different_norms(tmp_path: Path, kind: str) -> None:
    rows, width = 200, 40_000
    rng = np.random.default_rng(12)
    sizes = {
        "ramp": np.logspace(-3, 3, rows),
        "one": np.where(np.arange(rows) == 77, 1e6, 1.0),
        "alternating": np.where(np.arange(rows) % 2, 1e6, 1.0),
    }[kind]
    values = (rng.standard_normal((rows, width)) * sizes[:, None]).astype("f4")
    analysis = analyzed(tmp_path, values, chunks=(100, 10_000))
    np.testing.assert_allclose(shares(analysis), reference_shares(values), rtol=0, atol=1e-6)
    doubles = values.astype("f8")
    energy = (doubles**2).sum()
    assert analysis.total.energy == pytest.approx(energy, rel=1e-12)
    steps = (np.diff(doubles, axis=0) ** 2).sum(axis=1)
    expected = (doubles[0] ** 2).sum() + steps.sum()
    assert by_name(analysis)["one-step"].path_length == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(
        analysis.steps.kappa["one-step"][1:], steps / (doubles[1:] ** 2).sum(axis=1), rtol=1e-9
    )


@pytest.mark.parametrize("offset", [1.0, 1e3, 1e5])
def test_increments_far_below_the_gradient(tmp_path: Path, offset: float) -> None:
    """Large gradients, small increments: Gram matrices of the gradients would lose the increments."""
    rng = np.random.default_rng(13)
    drift = np.cumsum(rng.standard_normal((150, 3)), axis=0) @ rng.standard_normal((3, 33_000))
    values = (offset + 0.01 * drift).astype("f4")
    analysis = analyzed(tmp_path, values, chunks=(75, 11_000))
    np.testing.assert_allclose(shares(analysis), reference_shares(values), rtol=0, atol=1e-6)
    increments = (np.diff(values.astype("f8"), axis=0) ** 2).sum()
    assert analysis.total.spectrum is not None
    assert analysis.total.spectrum.energy == pytest.approx(increments, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_and_the_total_add_up(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(14)
    tensors = {f"t{k}": rng.standard_normal((150, k)).astype(dtype) for k in (1, 7, 149, 150, 3000, 33_000)}
    analysis = gradlog.analyze(foreign_store(tmp_path / "run.zarr", tensors))
    assert analysis.total.energy == pytest.approx(sum(t.energy for t in analysis.tensors), rel=1e-12)
    for index, predictor in enumerate(analysis.total.predictors):
        parts = sum(tensor.predictors[index].path_length for tensor in analysis.tensors)
        assert predictor.path_length == pytest.approx(parts, rel=1e-12)
        per_step = analysis.steps.kappa[predictor.predictor] * analysis.steps.grad_norm**2
        assert predictor.path_length == pytest.approx(per_step.sum(), rel=1e-12)
    one_step = by_name(analysis)["one-step"].path_length
    assert analysis.total.spectrum is not None
    assert analysis.total.spectrum.energy == pytest.approx(
        one_step - analysis.steps.grad_norm[0] ** 2, rel=1e-9
    )
    for tensor in analysis.tensors:
        if tensor.parameters <= 3000:
            values = tensors[tensor.name].astype("f8")
            assert_scope(tensor, values)


PERMUTED = ("one-step", "ema:0.9", "ema-debiased:0.9", "mean:2", "mean:7", "linear", "ema:0", "mean:1")


def test_predictors_agree_where_they_are_the_same(tmp_path: Path) -> None:
    values = np.random.default_rng(15).standard_normal((40, 700))
    found = by_name(analyzed(tmp_path, values, predictors=PERMUTED))
    assert_same = [("one-step", "mean:1"), ("one-step", "ema:0.0")]
    for one, other in assert_same:
        assert found[one].path_length == pytest.approx(found[other].path_length, rel=1e-12)
    alone = by_name(analyzed(tmp_path, values, predictors=("mean:7",)))
    assert alone["mean:7"].path_length == pytest.approx(found["mean:7"].path_length, rel=1e-12)
    assert list(alone) == ["zero", "mean:7"]


@pytest.mark.parametrize(
    "spec",
    [
        "ema-debiased:0",
        "ema-debiased:0.5",
        "ema-debiased:0.999",
        "ema:0.9999",
        "mean:1",
        "mean:100",
        "linear",
        "zero",
    ],
)
def test_predictors_on_scaled_and_short_runs(tmp_path: Path, spec: str) -> None:
    for rows in (1, 2, 3, 60):
        values = np.random.default_rng(16).standard_normal((rows, 9)) * 1e-3
        folder = tmp_path / str(rows)
        analysis = analyzed(folder, values, predictors=(spec,))
        assert_analysis(analysis, {"w": values})
