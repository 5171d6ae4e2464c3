"""What independent noise of a run's norms gives: against simulation and dense matrices."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import format1_store
from sweeps import sweep

from conftest import read_in_blocks_of_rows
from gradmf import gradlog
from gradmf.gradlog.measures.noise import energies as energies_module
from gradmf.gradlog.predictors import Lag, parse_predictor
from gradmf.gradlog.statistics.noise_reference import (
    effective_rows,
    kappa_references,
    spectrum_reference,
)
from gradmf.kernels.column_energies import energies_by_octave

Array = np.ndarray[Any, np.dtype[np.float64]]
EPSILONS = (0.1, 0.05, 0.01)


def dense_weights(spec: str, rows: int) -> Array:
    """(N, N) weights w_{t,s} of g_s in m_t, by the definitions."""
    found = np.zeros((rows, rows))
    t = np.arange(1, rows)
    for vector, weight in parse_predictor(spec).weights(t).items():
        for step, share in zip(t, np.broadcast_to(weight, t.shape), strict=True):
            if isinstance(vector, Lag):
                if step >= vector.k:
                    found[step, step - vector.k] += share
            else:
                ages = step - 1 - np.arange(step)
                found[step, :step] += share * (1 - vector.decay) * vector.decay**ages
    return found


def norms(kind: str, rows: int, random: np.random.Generator) -> Array:
    """(N,) energies."""
    return {
        "constant": np.ones(rows),
        "lognormal": np.exp(2 * random.standard_normal(rows)),
        "pareto": (random.pareto(1.5, rows) + 1) ** 2,
        "decaying": (1 + np.arange(rows) / 10.0) ** -2,
        "spike": np.where(np.arange(rows) == rows // 2, 1e4, 1.0),
    }[kind]


KINDS = ("constant", "lognormal", "pareto", "decaying", "spike")


def figures(squares: Array) -> Array:
    """Stable rank, effective rank, r* of EPSILONS, from squared singular values, descending."""
    shares = squares / squares.sum()
    some = shares[shares > 0]
    ranks = [np.searchsorted(np.cumsum(shares), 1 - eps - 1e-12) + 1 for eps in EPSILONS]
    return np.array([squares.sum() / squares[0], np.exp(-(some * np.log(some)).sum()), *ranks])


def found(energies: Array, parameters: Sequence[float], shares: Sequence[float]) -> Array:
    reference = spectrum_reference(energies, np.array(parameters, float), np.array(shares, float), EPSILONS)
    assert reference is not None
    return np.array([reference.stable_rank, reference.effective_rank, *reference.rank])


@pytest.mark.parametrize(
    "spec",
    ["zero", "one-step", "ema:0.5", "ema:0.99", "ema:0.0", "ema-debiased:0.9", "mean:1", "mean:5", "mean:200",
     "linear", "mixture:0.5,0.99,0.3", "mixture:0.9,0.9,0.3", "lags:0.5,0.2,-0.1"],
)  # fmt: skip
@given(st.integers(1, 150), st.sampled_from(KINDS), st.integers(0, 99))
@settings(max_examples=sweep(15), deadline=None)
def test_kappa_of_noise_follows_from_the_weights(spec: str, rows: int, kind: str, seed: int) -> None:
    energies = norms(kind, rows, np.random.default_rng(seed))
    weights = dense_weights(spec, rows)
    expected = 1 + (np.square(weights) @ energies).sum() / energies.sum()
    assert kappa_references([spec], energies)[0] == pytest.approx(expected, rel=1e-12)


def test_kappa_of_long_noise() -> None:
    """The values that are known: 2, 2 / (1 + B), 1 + 1 / K and 6."""
    specs = ["one-step", "ema:0.5", "ema:0.9", "mean:5", "linear"]
    expected = [2, 2 / 1.5, 2 / 1.9, 1.2, 6]
    assert kappa_references(specs, np.ones(100_000)) == pytest.approx(expected, rel=1e-3)


def test_kappa_of_several_series_at_once() -> None:
    random = np.random.default_rng(1)
    several = random.pareto(2.0, (3, 40))
    several[1] = 0
    each = [kappa_references(["ema:0.9", "linear"], series) for series in several]
    np.testing.assert_allclose(kappa_references(["ema:0.9", "linear"], several), each)
    assert np.isnan(each[1]).all()


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_effective_rows(scale: float) -> None:
    assert effective_rows(scale * np.ones(7)) == pytest.approx(7)
    assert effective_rows(scale * np.array([0, 1, 0, 0])) == 1
    assert effective_rows(scale * np.array([3, 1])) == pytest.approx(1.6)
    assert effective_rows(np.zeros(4)) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [3, 40, 300])
def test_ranks_of_noise_over_many_parameters(kind: str, rows: int) -> None:
    """Against the eigenvalues of the tridiagonal matrix."""
    energies = norms(kind, rows, np.random.default_rng(rows))
    beside = np.diag(energies[1:-1], 1)
    squares = np.linalg.eigvalsh(np.diag(energies[1:] + energies[:-1]) - beside - beside.T)[::-1]
    expected = figures(np.maximum(squares, 0))
    reference = found(energies, [1e12], [1.0])
    np.testing.assert_allclose(reference[:2], expected[:2], rtol=5e-3)
    assert np.abs(reference[2:] - expected[2:]).max() <= max(1, 0.005 * rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("parameters", "shares"),
    [
        ([60], [1.0]),
        ([200], [1.0]),
        ([2000], [1.0]),
        ([1, 1000], [0.4, 0.6]),
        ([10, 100, 1000], [0.3, 0.4, 0.3]),
    ],
    ids=str,
)
def test_ranks_of_noise_over_few_or_uneven_parameters(
    kind: str, parameters: list[int], shares: list[float]
) -> None:
    """Against noise itself: a mean over draws."""
    random = np.random.default_rng(sum(parameters))
    energies = norms(kind, 120, random)
    each = np.repeat(np.array(shares) / parameters, parameters)
    scale = np.sqrt(np.outer(energies, each))
    draws = [np.diff(random.standard_normal(scale.shape) * scale, axis=0) for _ in range(6)]
    each = np.array([figures(np.linalg.svd(draw, compute_uv=False) ** 2) for draw in draws])
    expected, spread = each.mean(axis=0), each.std(axis=0)
    reference = found(energies, [float(number) for number in parameters], shares)
    apart = np.abs(reference - expected)
    # A single entry may hold much of the energy: draws differ, and the law is one of many rows and columns.
    single = parameters[0] == 1 and kind in ("pareto", "spike")
    assert (apart[:2] <= (0.25 if single else 0.05) * expected[:2] + 2 * spread[:2]).all()
    assert (apart[2:] <= 2 + 2 * spread[2:]).all()


def test_norms_that_fall_over_decades() -> None:
    """Many eigenvalues with hardly any energy: their number counts all the same."""
    random = np.random.default_rng(6)
    energies = np.exp(-np.linspace(0, 12, 400)) + 1e-3 * random.random(400)
    parameters, shares = [10.0, 40.0, 80.0, 126.0], [0.4, 0.3, 0.2, 0.1]
    each = np.repeat(np.array(shares) / parameters, np.array(parameters, int))
    draw = np.diff(random.standard_normal((400, 256)) * np.sqrt(np.outer(energies, each)), axis=0)
    expected = figures(np.linalg.svd(draw, compute_uv=False) ** 2)
    reference = found(energies, parameters, shares)
    np.testing.assert_allclose(reference[:2], expected[:2], rtol=0.1)
    assert np.abs(reference[2:] - expected[2:]).max() <= 5


def test_groups_beyond_the_most_are_taken_together() -> None:
    random = np.random.default_rng(4)
    parameters, shares = random.integers(1, 50, 300).astype(float), random.pareto(1.2, 300)
    each = np.repeat(shares / parameters, parameters.astype(int))
    draws = [np.diff(random.standard_normal((80, each.size)) * np.sqrt(each), axis=0) for _ in range(6)]
    expected = np.mean([figures(np.linalg.svd(draw, compute_uv=False) ** 2) for draw in draws], axis=0)
    reference = found(np.ones(80), parameters.tolist(), shares.tolist())
    np.testing.assert_allclose(reference[:2], expected[:2], rtol=0.12)
    assert np.abs(reference[2:] - expected[2:]).max() <= 3


@given(
    st.lists(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1.0, 7.0, 1e30]), min_size=0, max_size=12),
    st.lists(st.sampled_from([1.0, 2.0, 30.0, 1e9]), min_size=1, max_size=4),
)
@settings(max_examples=sweep(200), deadline=None)
def test_ranks_of_any_norms_are_possible_ones(energies: list[float], parameters: list[float]) -> None:
    values = np.array(energies)
    reference = spectrum_reference(values, np.array(parameters), np.ones(len(parameters)), EPSILONS)
    if values.size < 2 or not values.any():
        assert reference is None
        return
    assert reference is not None
    most = max(1, min(values.size - 1, sum(parameters)))
    assert all(1 <= rank <= most for rank in reference.rank)
    assert list(reference.rank) == sorted(reference.rank)
    assert 1 <= reference.stable_rank <= reference.effective_rank * (1 + 1e-6) + 0.5 <= most + 0.51


def noise(rows: int = 90) -> dict[str, Array]:
    random = np.random.default_rng(8)
    scale = np.exp(random.standard_normal(rows))
    return {
        "a": scale[:, None, None]
        * random.standard_normal((rows, 30, 20))
        * np.exp(random.standard_normal(20)),
        "b": random.standard_normal((rows, 6)),
        "c": np.zeros((rows, 4)),
    }


def references(analysis: gradlog.Analysis) -> dict[str, Any]:
    scopes = {"": analysis.total, **{tensor.name: tensor for tensor in analysis.tensors}}
    return {
        name: (
            [p.reference for p in scope.predictors],
            None if scope.spectrum is None else [r.reference for r in scope.spectrum.rank],
            scope.effective_rows,
            scope.effective_parameters,
        )
        for name, scope in scopes.items()
    }


def test_an_analysis_holds_them(tmp_path: Path) -> None:
    """Of every tensor from its own norms, and of the whole model from all."""
    tensors = {name: values.astype(np.float32) for name, values in noise().items()}
    analysis = gradlog.analyze(format1_store(tmp_path / "run.zarr", tensors))
    flat = {name: values.reshape(len(values), -1).astype(float) for name, values in tensors.items()}
    flat[""] = np.concatenate(list(flat.values()), axis=1)
    for scope in (analysis.total, *analysis.tensors):
        values = flat[getattr(scope, "name", "")]
        energies = np.square(values).sum(axis=1)
        if not energies.any():
            assert {p.reference for p in scope.predictors} == {None}
            assert scope.effective_rows == 0
            continue
        specs = [p.predictor for p in scope.predictors]
        expected = kappa_references(specs, energies)
        assert [p.reference for p in scope.predictors] == pytest.approx(expected, rel=1e-6)
        assert scope.effective_rows == pytest.approx(float(effective_rows(energies)), rel=1e-6)
        columns = np.square(values).sum(axis=0)
        even = columns.sum() ** 2 / np.square(columns).sum()
        assert scope.effective_parameters == pytest.approx(even, rel=0.08)  # parameters of an octave are even
        spectrum = scope.spectrum
        assert spectrum is not None
        for rank in spectrum.rank:  # it is noise, after all
            assert rank.reference == pytest.approx(rank.rank, abs=3)
        assert spectrum.stable_rank_reference == pytest.approx(spectrum.stable_rank, rel=0.2)
        assert spectrum.effective_rank_reference == pytest.approx(spectrum.effective_rank, rel=0.1)


def test_plans_and_parts_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = format1_store(tmp_path / "run.zarr", {k: v.astype(np.float32) for k, v in noise().items()})
    expected = references(gradlog.analyze(run))
    parts = [tmp_path / f"{index}.part" for index in (1, 2, 3)]
    for index, part in enumerate(parts, 1):
        gradlog.write_part(gradlog.analyze_part(run, gradlog.PartNumber(index, 3)), part)
    merged = references(gradlog.merge_parts(parts))
    read_in_blocks_of_rows(monkeypatch, 16)
    in_blocks = references(gradlog.analyze(run, gradlog.Settings(rank="incremental")))
    none = references(gradlog.analyze(run, gradlog.Settings(rank="none")))
    for name, (kappas, ranks, rows, parameters) in expected.items():
        for other in (merged, in_blocks, none):
            if name == "c":  # all zero
                assert other[name][0] == kappas == [None] * 7
                continue
            assert other[name][0] == pytest.approx(kappas, rel=1e-9)
            assert other[name][2] == pytest.approx(rows, rel=1e-9)
        for other in (merged, in_blocks):
            assert other[name][1] == ranks
            assert other[name][3] == pytest.approx(parameters, rel=1e-6)


def test_rows_of_many_tensors_share_bins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where energies of all rows of all tensors would be too many."""
    monkeypatch.setattr(energies_module, "MOST_VALUES", 1)
    monkeypatch.setattr(energies_module, "LEAST_BINS", 30)
    random = np.random.default_rng(2)
    values = (random.standard_normal((301, 50)) * (1 + np.arange(301) / 50)[:, None]).astype(np.float32)
    analysis = gradlog.analyze(format1_store(tmp_path / "run.zarr", {"w": values}))
    exact = kappa_references([p.predictor for p in analysis.total.predictors], np.square(values).sum(axis=1))
    assert [p.reference for p in analysis.tensors[0].predictors] == pytest.approx(exact, rel=5e-3)
    assert [p.reference for p in analysis.total.predictors] == pytest.approx(exact, rel=1e-6)


def test_json_holds_them_and_is_read_back(tmp_path: Path) -> None:
    run = format1_store(tmp_path / "run.zarr", {k: v.astype(np.float32) for k, v in noise().items()})
    analysis = gradlog.analyze(run)
    document = json.loads(json.dumps(gradlog.analysis_document(analysis), default=float))
    entry = document["total"]["predictors"][1]
    assert (entry["predictor"], entry["reference"]) == ("one-step", analysis.total.predictors[1].reference)
    spectrum = document["total"]["spectrum"]
    assert spectrum["rank"][1]["reference"] == analysis.total.spectrum.rank[1].reference  # type: ignore[union-attr]
    assert spectrum["stable_rank_reference"] > 1
    assert document["total"]["effective_rows"] == analysis.total.effective_rows


@pytest.mark.parametrize(
    ("rule", "violated"),
    [
        ("kappa[one-step] > 1.1 noise", False),
        ("kappa[one-step] > 0.9 noise", True),
        ("kappa[best] < 2noise", True),
        ("rank[0.05] < 0.8 noise", False),
        ("rank[0.05] < 1.3 noise", True),
        ("effective_rank > noise in a", None),
        ("stable_rank <= 5 noise in b", True),
    ],
)
def test_rules_against_noise(tmp_path: Path, rule: str, violated: bool | None) -> None:
    run = format1_store(
        tmp_path / "run.zarr", {k: v.astype(np.float32) for k, v in noise().items() if k != "c"}
    )
    analysis = gradlog.analyze(run)
    parsed = gradlog.parse_rule(rule, gradlog.Vocabulary.of(analysis.settings))
    assert str(parsed).replace("2noise", "2 noise") == rule.replace("2noise", "2 noise")
    found = gradlog.judge(analysis, [parsed])
    if violated is not None:
        assert bool(found) == violated
    if found:
        assert found[0].breaches[0].certain
        assert found[0].breaches[0].noise is not None


def test_rules_against_noise_that_nothing_is_known_of(tmp_path: Path) -> None:
    """All zero: no reference; results of an early gradmf: none either. Neither passes."""
    run = format1_store(tmp_path / "run.zarr", {"w": np.zeros((9, 4), np.float32)})
    analysis = gradlog.analyze(run)
    rule = gradlog.parse_rule("kappa[one-step] > noise", gradlog.Vocabulary.of(analysis.settings))
    (violation,) = gradlog.judge(analysis, [rule])
    assert not violation.breaches[0].certain
    for text in ("energy > noise", "kappa[zero] < noise", "residual[0.1] > 2 noise"):
        with pytest.raises(gradlog.RuleError, match=r"noise|in every run"):
            gradlog.parse_rule(text, gradlog.Vocabulary.of(analysis.settings))


def test_energies_by_octave() -> None:
    rng = np.random.default_rng(0)
    spread = 10.0 ** rng.uniform(-320, 300, 4000)
    edges = 2.0 ** np.arange(-1074, 1000)
    energies = np.concatenate([[0.0], spread, edges, np.nextafter(edges, 0.0)])
    there = energies[energies > 0]
    octaves = np.frexp(there)[1]
    expected = [
        (k, np.count_nonzero(octaves == k), math.fsum(there[octaves == k]))
        for k in np.unique(octaves).tolist()
    ]
    nothing = np.zeros((0, energies.size), np.float32)
    found = energies_by_octave(nothing, energies)
    np.testing.assert_array_equal(found[:, :2], np.array(expected)[:, :2])
    np.testing.assert_allclose(found[:, 2], np.array(expected)[:, 2], rtol=1e-13)
    assert energies_by_octave(nothing[:, :5], np.zeros(5)).shape == (0, 3)
