"""Ranks from sketches: intervals hold as often as they say, refusals, and the same bits in any process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import projection_reference as plain
import pytest
from numpy.typing import NDArray
from sweeps import WHOLE

import reference
from conftest import flat, write_store
from gradmf import gradlog
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.measures.sketch.projected_rows import Piece, project_rows
from gradmf.gradlog.measures.sketch.sketch_spectrum import CONFIDENCE, SketchedSpectrum
from gradmf.gradlog.results.projection import Projection
from gradmf.gradlog.runs.preparation import prepare
from gradmf.kernels.cross_fit import cross_fit

EPSILONS = (0.3, 0.1, 0.05, 0.01)
SEEDS = 200 if WHOLE else 50
Array = NDArray[np.float64]


def increments(kind: str, rows: int, columns: int) -> Array:
    rng = np.random.default_rng(11)
    white = rng.standard_normal((rows, columns))
    sizes = np.arange(1, rows + 1)
    if kind == "low rank and noise":
        directions = np.linalg.qr(rng.standard_normal((columns, 12)))[0]
        signal = rng.standard_normal((rows, 12)) * np.sqrt(0.6 ** np.arange(12))
        return signal @ directions.T + np.sqrt(0.01 / columns) * white
    if kind == "power law":
        left, _, right = np.linalg.svd(white, full_matrices=False)
        return (left * sizes**-1.2) @ right
    if kind == "heavy coordinates":
        out = 1e-2 * white
        out[:, rng.choice(columns, 8, replace=False)] += rng.standard_normal((rows, 8)) * 0.7 ** np.arange(8)
        return out
    if kind == "one direction":
        return np.outer(rng.standard_normal(rows), rng.standard_normal(columns)) + 0.1 * white
    return white


def sketched(rows: Array, dim: int, seed: int) -> Array:
    projection = Projection(dim, seed)
    sums = np.zeros((len(rows), dim))
    whole = [Piece(0, rows.shape[1], 0)]
    project_rows(rows, (0, len(rows)), whole, projection.bases("w"), projection.groups, sums)
    return sums / np.sqrt(projection.groups)


@pytest.mark.parametrize("known", [True, False], ids=["energy known", "energy estimated"])
@pytest.mark.parametrize(
    "rows", [50, pytest.param(150, marks=pytest.mark.slow)], ids=["by rows", "by columns"]
)
@pytest.mark.parametrize("kind", ["low rank and noise", "power law", "heavy coordinates", "one direction"])
def test_intervals_hold_as_often_as_they_say(kind: str, rows: int, known: bool) -> None:
    values = increments(kind, rows, 800)
    squares = np.linalg.svd(values, compute_uv=False) ** 2
    energy = float(squares.sum())
    truth = reference.Spectrum(energy, squares / energy, np.sqrt(squares))
    held = np.zeros(len(EPSILONS))
    given = np.zeros(len(EPSILONS))
    for seed in range(SEEDS):
        fit = cross_fit(sketched(values, 256, seed))
        result = SketchedSpectrum(fit, Projection(256, seed), EPSILONS, rows, 800, known).result(energy)
        for at, rank in enumerate(result.rank):
            held[at] += rank.lower <= truth.rank(rank.epsilon) <= rank.upper
            given[at] += rank.rank is not None
            if rank.rank is not None:
                assert rank.lower <= rank.rank <= rank.upper <= 64
    # With a rate of 95%, 8% of samples of 200 lie below 93%, and 4% of samples of 50 below 90%.
    slack = 0.02 if WHOLE else 0.05
    assert (held >= (CONFIDENCE - slack) * SEEDS).all(), held / SEEDS
    assert (given[:3] >= 0.95 * SEEDS).all(), given / SEEDS


def test_sums_over_rows_and_columns_agree() -> None:
    """The two ways to the same figures."""
    values = increments("power law", 60, 500)
    sketch = sketched(values, 128, 3)
    by_rows = cross_fit(sketch)
    by_columns = cross_fit(np.concatenate([sketch, np.zeros((70, 128))]))
    assert by_rows.energy == pytest.approx(by_columns.energy)
    for name in ("left", "left_quartic", "left_cross"):
        one, other = getattr(by_rows, name), getattr(by_columns, name)
        np.testing.assert_allclose(one[:40], other[:40], rtol=1e-6, err_msg=name)
    assert by_rows.product == pytest.approx(by_columns.product)


def test_few_increments_count_as_no_more_than_they_are() -> None:
    """Of two increments alike, an estimate of the largest singular value may fall below their mean."""
    values = increments("white", 2, 4000)
    energy = float(np.square(values).sum())
    for seed in range(20):
        fit = cross_fit(sketched(values, 64, seed))
        result = SketchedSpectrum(fit, Projection(64, seed), EPSILONS, 2, 4000).result(energy)
        for count in (result.stable_rank, result.effective_rank, result.participation_ratio):
            assert count is None or 1 <= count <= 2


def test_the_fit_is_what_it_says() -> None:
    sketch = sketched(increments("power law", 30, 300), 128, 1)
    fit = cross_fit(sketch)
    unit = 4.0**fit.exponent
    halves = [sketch[:, :64] * np.sqrt(2), sketch[:, 64:] * np.sqrt(2)]
    for k in (0, 1, 7):
        left = quartic = cross = 0.0
        for one, other in (halves, halves[::-1]):
            vectors = np.linalg.svd(one, full_matrices=False)[0][:, :k]
            projector = np.eye(30) - vectors @ vectors.T
            gram = other @ other.T
            left += np.trace(projector @ gram) / 2
            quartic += np.sum((projector @ gram @ projector) ** 2) / 2
            cross += np.trace(projector @ gram @ gram) / 2
        assert fit.left[k] * unit == pytest.approx(left)
        assert fit.left_quartic[k] * unit**2 == pytest.approx(quartic)
        assert fit.left_cross[k] * unit**2 == pytest.approx(cross)
    squares = np.linalg.svd(sketch, compute_uv=False) ** 2
    np.testing.assert_allclose(fit.squares * unit, squares, rtol=1e-9)


def drifting(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    """Gradients whose increments have few directions and some noise."""
    rng = np.random.default_rng(seed)
    moves = (rng.standard_normal((rows, 6)) * 0.6 ** np.arange(6)) @ rng.standard_normal((6, columns))
    return np.cumsum(moves + 0.02 * rng.standard_normal((rows, columns)), axis=0).astype(np.float32)


def tensors() -> dict[str, NDArray[np.float32]]:
    wide, tall = drifting(90, 3000), drifting(90, 20_000, 1)
    return {
        "a.weight": wide.reshape(90, 50, 60),
        "b.bias": wide[:, :40],
        "c.weight": tall.reshape(90, 20, 1000),
        "d.bias": wide[:, 40:500],
        "e.none": np.zeros((90, 0), np.float32),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chunks = {"a.weight": (30, 20, 25), "c.weight": (16, 7, 1000)}
    return write_store(tmp_path_factory.mktemp("sketch") / "run.zarr", tensors(), chunks=chunks)


def analyzed(path: Path, **options: Any) -> gradlog.Analysis:
    resources = {key: options.pop(key) for key in ("threads", "memory") if key in options}
    return gradlog.analyze(path, gradlog.Settings(rank="sketch", **options), **resources)


def test_log(store: Path) -> None:
    analysis = analyzed(store, sketch_dim=512, seed=5)
    scopes = [("total", analysis.total, flat(tensors()))]
    scopes += [(t.name, t, flat({t.name: tensors()[t.name]})) for t in analysis.tensors]
    for name, scope, values in scopes:
        spectrum, truth = scope.spectrum, reference.spectrum(values)
        assert spectrum is not None
        assert spectrum.energy == pytest.approx(truth.energy, rel=1e-6)
        exact = name in ("b.bias", "d.bias", "e.none")
        assert spectrum.method == ("exact" if exact else "sketch")
        assert spectrum.confidence == (1.0 if exact else CONFIDENCE)
        for rank in spectrum.rank:
            assert rank.rank is not None
            assert rank.lower <= truth.rank(rank.epsilon) <= rank.upper
            assert exact == (spectrum.projection is None)
            if exact:
                assert rank.lower == rank.upper
        if name == "e.none":
            continue
        assert spectrum.participation_ratio == pytest.approx(1 / np.sum(truth.shares**2), rel=0.2)
        assert spectrum.stable_rank == pytest.approx(1 / truth.shares[0], rel=0.2)
    exact = gradlog.analyze(store, gradlog.Settings(rank="none"))
    for mine, other in zip(exact.total.predictors, analysis.total.predictors, strict=True):
        assert mine.path_length == pytest.approx(other.path_length, rel=1e-12)


def test_sketches_are_those_of_the_plain_projection(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the algebra: the plain projection of the increments, and their sum for the whole model."""
    from gradmf.gradlog.measures.sketch import sketched_spectra

    seen = []
    monkeypatch.setattr(
        sketched_spectra, "cross_fit", lambda sketch: seen.append(sketch.copy()) or cross_fit(sketch)
    )
    analyzed(store, sketch_dim=64, seed=9, tensors=("a.weight", "b.bias"))
    values = tensors()
    expected = [
        plain.project(np.diff(values[name].reshape(90, -1), axis=0), name, 64, 9)
        for name in ("a.weight", "b.bias")
    ]
    assert len(seen) == 2
    np.testing.assert_allclose(seen[0], expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(seen[1], expected[0] + expected[1], rtol=1e-9, atol=1e-9)


def documents(analysis: gradlog.Analysis) -> Any:
    return gradlog.analysis_document(analysis)


def test_threads_never_change_a_bit(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "TILE_WIDTH", 700)
    found = [documents(analyzed(store, sketch_dim=128, threads=threads)) for threads in (1, 2, 5)]
    assert found[0] == found[1] == found[2]


def test_a_process_of_its_own_gives_the_same_numbers(store: Path) -> None:
    command = [sys.executable, "-m", "gradmf", "analyze", store, "--rank", "sketch", "--format", "json"]
    done = subprocess.run([*command, "--sketch-dim", "256", "--seed", "3"], capture_output=True, check=True)
    here = json.loads(json.dumps(documents(analyzed(store, sketch_dim=256, seed=3))))
    assert {name: value for name, value in json.loads(done.stdout).items() if name != "findings"} == here


def test_other_tensors_beside_it_change_nothing(store: Path) -> None:
    one = analyzed(store, sketch_dim=128, tensors=("a.*",)).tensors[0].spectrum
    many = next(t.spectrum for t in analyzed(store, sketch_dim=128).tensors if t.name == "a.weight")
    assert one is not None
    assert many is not None
    assert one.rank == many.rank


def test_white_noise_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.cumsum(np.random.default_rng(0).standard_normal((400, 2000)), axis=0)
    path = write_store(tmp_path / "run.zarr", {"w": noise})
    analysis = analyzed(path, sketch_dim=256)
    assert analysis.total.spectrum is not None
    truth = reference.spectrum(noise)
    for rank in analysis.total.spectrum.rank:
        assert rank.rank is None
        assert rank.residual is None
        assert 100 < rank.lower <= truth.rank(rank.epsilon) <= rank.upper == 399
    assert analysis.total.spectrum.effective_rank is None
    (warning,) = analysis.warnings
    assert warning.code == "rank-beyond-sketch"
    assert "--sketch-dim 2048" in warning.message
    document = documents(analysis)
    assert document["total"]["spectrum"]["rank"][0]["rank"] is None
    from gradmf.cli.main import main

    for format in ("table", "csv", "markdown", "json"):
        assert (
            main(["analyze", str(path), "--rank", "sketch", "--sketch-dim", "256", "--format", format]) == 0
        )
    shown = capsys.readouterr().out
    assert "at least" in shown
    assert ">= " in shown


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows(tmp_path: Path, rows: int) -> None:
    path = write_store(tmp_path / "run.zarr", {"w": drifting(rows, 3000), "b": drifting(rows, 30)})
    analysis = analyzed(path, sketch_dim=64)
    assert analysis.total.spectrum is not None
    for rank in analysis.total.spectrum.rank:
        assert rank.rank == rank.lower == rank.upper == min(1, rows - 1) or rows == 3


def test_nothing_moves(tmp_path: Path) -> None:
    path = write_store(tmp_path / "run.zarr", {"w": np.ones((30, 3000), np.float32)})
    analysis = analyzed(path, sketch_dim=64)
    assert analysis.total.spectrum is not None
    assert [rank.rank for rank in analysis.total.spectrum.rank] == [0, 0, 0]
    assert analysis.total.spectrum.stable_rank is None


def test_rows_that_are_not_finite(tmp_path: Path) -> None:
    values = drifting(40, 3000)
    values[7, 100] = np.nan
    path = write_store(tmp_path / "run.zarr", {"w": values}, chunks={"w": (16, 1000)})
    with pytest.raises(gradlog.DataError, match="row 7"):
        analyzed(path, sketch_dim=64)
    dropped = analyzed(path, sketch_dim=64, nonfinite="drop").total.spectrum
    clean = write_store(tmp_path / "clean.zarr", {"w": np.delete(values, 7, axis=0)})
    expected = analyzed(clean, sketch_dim=64).total.spectrum
    assert dropped is not None
    assert expected is not None
    assert [(r.lower, r.rank, r.upper) for r in dropped.rank] == [
        (r.lower, r.rank, r.upper) for r in expected.rank
    ]


def test_increments_too_large_for_single_precision(tmp_path: Path) -> None:
    values = np.zeros((4, 3000), np.float32)
    values[1::2], values[::2] = 3e38, -3e38
    path = write_store(tmp_path / "run.zarr", {"w": values})
    with pytest.raises(gradlog.DataError, match=r"tensor 'w'.*exceed the largest float32"):
        analyzed(path, sketch_dim=64)


def test_settings_that_cannot_be(store: Path) -> None:
    for options in ({"sketch_dim": 100}, {"sketch_dim": 32}, {"seed": -1}):
        with pytest.raises(gradlog.UsageError):
            analyzed(store, **options)
    with pytest.raises(gradlog.MemoryLimitError, match="give --memory"):
        analyzed(store, memory=1 << 20)


def test_a_tensor_whose_ranges_cut_its_rows_differently(tmp_path: Path) -> None:
    """Each row's sums are taken in the order of the plan, whatever block it comes in."""
    values = np.random.default_rng(0).standard_normal((330, 6000)).astype(np.float32)
    path = write_store(tmp_path / "run.zarr", {"w": values}, chunks={"w": (100, 4096)})
    options = gradlog.Settings(rank="sketch", sketch_dim=64)
    scarce = prepare(path, options, 4, 6 << 20).plan
    assert len({item.row_blocks for item in scarce.ranges}) > 1
    expected = gradlog.analyze(path, options).total.spectrum
    assert expected is not None
    for threads in (1, 4):
        found = gradlog.analyze(path, options, memory=6 << 20, threads=threads).total.spectrum
        assert found is not None
        np.testing.assert_allclose(found.singular_values, expected.singular_values, rtol=1e-10)
