"""The search as part of an analysis: found in the same pass, right in every layout, read back from JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from stores import Array, add_array, foreign_store, walk

from conftest import flat, write_store
from gradmf import gradlog
from gradmf.gradlog import FoundPredictor, ScopeSearch, Settings


def _smooth(rows: int, width: int) -> Array:
    """kappa near 1e-4, slowly turning, so that single precision has its hardest time."""
    rng = np.random.default_rng(1)
    angles = np.linspace(0, 3, rows)[:, None] + rng.uniform(0, 6, 4)
    values = (3 + np.sin(angles)) @ rng.standard_normal((4, width))
    return (values + 2e-2 * rng.standard_normal((rows, width))).astype(np.float32)


def _tensors() -> dict[str, Array]:
    small = {f"t{size}": walk(150, (size,), size) for size in (3, 40, 2500)}
    return {**small, "smooth": _smooth(150, 40_000), "wide": walk(150, (9000,), 9, "float64")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("search") / "run.zarr"
    tensors = _tensors()
    return write_store(path, tensors, chunks=dict.fromkeys(tensors, (60, 4000)))


def scopes(search: gradlog.PredictorSearch) -> list[ScopeSearch]:
    return [search.total, *search.tensors]


def test_found_figures_are_those_that_the_pass_measures(store: Path) -> None:
    found = gradlog.analyze(store, search=True)
    assert found.search is not None
    assert found.search.method == "gram"
    assert [scope.name for scope in found.search.tensors] == [tensor.name for tensor in found.tensors]
    specs = {item.predictor for scope in scopes(found.search) for item in scope.found}
    measured = gradlog.analyze(store, Settings(predictors=tuple(sorted(specs)), rank="none"))
    for scope, held in zip(scopes(found.search), [measured.total, *measured.tensors], strict=True):
        assert len(scope.found) >= 3
        for item in scope.found:
            (same,) = [p for p in held.predictors if p.predictor == item.predictor]
            assert item.kappa == pytest.approx(same.kappa, rel=1e-6), (scope.name, item.predictor)
            assert item.scaled_kappa == pytest.approx(same.scaled_kappa, rel=2e-6, abs=1e-12)
            assert item.scale == pytest.approx(same.scale, rel=1e-5)
    for spec, values in found.search.total.steps.items():
        np.testing.assert_allclose(values, measured.steps.path_length[spec], rtol=2e-5)


def test_the_other_numbers_stay(store: Path) -> None:
    plain = gradlog.analysis_document(gradlog.analyze(store))
    found = gradlog.analysis_document(gradlog.analyze(store, search=True))
    assert found.pop("search")
    for word in ("steps", "settings", "run"):
        assert found[word] == plain[word]
    for a, b in zip([plain["total"], *plain["tensors"]], [found["total"], *found["tensors"]], strict=True):
        assert a["predictors"] == b["predictors"]
        assert [r["rank"] for r in a["spectrum"]["rank"]] == [r["rank"] for r in b["spectrum"]["rank"]]
        assert a["spectrum"]["stable_rank"] == pytest.approx(b["spectrum"]["stable_rank"], rel=1e-6)


def test_same_bits_for_any_threads(store: Path) -> None:
    documents = [
        json.dumps(gradlog.analysis_document(gradlog.analyze(store, search=True, threads=threads)))
        for threads in (1, 3)
    ]
    assert documents[0] == documents[1]


def test_read_back_from_json(store: Path) -> None:
    analysis = gradlog.analyze(store, search=True)
    text = json.dumps(gradlog.analysis_document(analysis), allow_nan=False)
    (read,) = gradlog.read_analyses(text, "x.json")
    assert gradlog.analysis_document(read)["search"] == json.loads(text)["search"]
    assert analysis.search is not None
    assert read.search is not None
    assert read.search.total.best == analysis.search.total.best
    held = json.loads(text)
    del held["search"]["tensors"][0]
    with pytest.raises(gradlog.DataError, match="search doesn't fit"):
        gradlog.read_analyses(json.dumps(held), "x.json")


def test_one_tensor_is_the_whole_model(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "one.zarr", {"w": walk(90, (200,), 1)}, chunks=(30, 200))
    search = gradlog.analyze(path, search=True).search
    assert search is not None
    assert search.total.found == search.tensors[0].found
    assert search.total.name is None
    assert set(search.total.steps) == {item.predictor for item in search.total.found}


@pytest.mark.parametrize("rank", ["none", "incremental", "exact"])
def test_without_pairs_of_rows_a_grid_of_averages_is_followed(tmp_path: Path, rank: str) -> None:
    tensors = {"a": walk(400, (13,), 1), "b": walk(400, (), 2)}  # exact: over columns
    path = foreign_store(tmp_path / "long.zarr", tensors, chunks="auto")
    analysis = gradlog.analyze(path, Settings(rank=rank), search=True)
    assert analysis.search is not None
    assert analysis.search.method == "grid"
    assert [p.predictor for p in analysis.total.predictors] == ["zero", *Settings().predictors]
    assert set(analysis.steps.path_length) == set(Settings().predictors)
    assert analysis.tensor_steps is None
    for scope, values in zip(
        scopes(analysis.search), [flat(tensors), flat({"a": tensors["a"]})], strict=False
    ):
        (item,) = scope.found
        expected = {
            decay: _average_residual(values, decay)
            for decay in (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
        }
        best = min(expected, key=lambda decay: expected[decay])
        assert item.predictor == f"ema:{best}"
        assert item.path_length == pytest.approx(expected[best], rel=1e-9)


def _average_residual(g: np.ndarray, decay: float) -> float:
    state, left = np.zeros(g.shape[1]), 0.0
    for row in g:
        left += float(((row - state) ** 2).sum())
        state = decay * state + (1 - decay) * row
    return left


def test_dropped_rows_and_zero_tensors(tmp_path: Path) -> None:
    values = walk(60, (50,), 1)
    values[7, 3] = np.nan
    path = foreign_store(tmp_path / "bad.zarr", {"w": values, "zero": np.zeros((60, 5), "f4")}, chunks="auto")
    analysis = gradlog.analyze(path, Settings(nonfinite="drop"), search=True)
    assert analysis.search is not None
    kept = np.delete(values.astype(np.float64), 7, axis=0)
    ema = analysis.search.tensors[0].of("ema")
    assert isinstance(ema, FoundPredictor)
    assert ema.path_length == pytest.approx(_average_residual(kept, float(ema.predictor[4:])), rel=1e-6)
    assert "zero" in analysis.search.tensors[1].why
    single = foreign_store(tmp_path / "row.zarr", {"w": walk(1, (50,), 1)}, chunks="auto")
    found = gradlog.analyze(single, search=True).search
    assert found is not None
    assert "one row" in found.total.why


def test_tensors_without_parameters(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "e.zarr", mode="w")
    add_array(group, "empty", np.zeros((40, 0), "f4"))
    add_array(group, "w", walk(40, (90,), 1))
    analysis = gradlog.analyze(tmp_path / "e.zarr", search=True)
    assert analysis.search is not None
    assert analysis.search.total.found
    assert not analysis.search.tensors[0].found
    assert analysis.search.tensors[0].why
