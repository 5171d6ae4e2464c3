"""The search as part of an analysis: found in the same pass, right in every layout, read back from JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stores import Array, add_array, foreign_store, walk
from sweeps import mostly_slow

from conftest import write_store
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


@pytest.mark.parametrize("rank", mostly_slow(["none", "incremental", "exact", "sketch"], ["none", "exact"]))
def test_without_pairs_of_rows_the_band_is_searched(tmp_path: Path, rank: str) -> None:
    tensors = {"a": walk(400, (13,), 1), "b": walk(400, (), 2)}
    if rank != "exact":  # that one over columns
        tensors |= {"wide": _smooth(400, 40_000), "c": walk(400, (70,), 2, "float64")}
    chunks = {name: (50, 9000)[: values.ndim] for name, values in tensors.items()}
    path = write_store(tmp_path / "long.zarr", tensors, chunks=chunks)

    memory = 1 << (26 if rank in ("none", "sketch") else 30)  # the less, the more blocks of rows

    def analyzed(**options: Any) -> gradlog.Analysis:
        return gradlog.analyze(path, Settings(rank=rank), memory=memory, **options)

    found = analyzed(search=True)
    assert found.search is not None
    assert found.search.method == "band"
    assert found.tensor_steps is None
    assert {item.family for item in found.search.total.found} >= {"ema", "mean", "lags"}
    specs = {item.predictor for scope in scopes(found.search) for item in scope.found}
    measured = gradlog.analyze(path, Settings(predictors=tuple(sorted(specs)), rank="none"))
    for scope, held in zip(scopes(found.search), [measured.total, *measured.tensors], strict=True):
        assert len(scope.found) >= 3
        for item in scope.found:
            (same,) = [p for p in held.predictors if p.predictor == item.predictor]
            assert item.kappa == pytest.approx(same.kappa, rel=1e-6), (scope.name, item.predictor)
            assert item.scaled_kappa == pytest.approx(same.scaled_kappa, rel=2e-6, abs=1e-12)
    for spec, values in found.search.total.steps.items():
        np.testing.assert_allclose(values, measured.steps.path_length[spec], rtol=2e-5)
    for a, b in zip(analyzed().total.predictors, found.total.predictors, strict=True):
        assert a.predictor == b.predictor
        assert a.path_length == pytest.approx(b.path_length, rel=1e-12)
    documents = [gradlog.analysis_document(run) for run in (found, analyzed(search=True, threads=3))]
    assert json.dumps(documents[0]) == json.dumps(documents[1])


def test_band_and_whole_gram_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((120, 200))
    for t in range(1, 120):
        noise[t] += 0.8 * noise[t - 1]
    path = foreign_store(tmp_path / "ar.zarr", {"w": noise}, chunks=(7, 200))
    whole = gradlog.analyze(path, search=True).search
    band = gradlog.analyze(path, Settings(rank="none"), search=True).search
    assert whole is not None
    assert band is not None
    for family in ("mean", "lags"):  # bins are rows here
        one, other = whole.total.of(family), band.total.of(family)
        assert one is not None
        assert other is not None
        assert one.predictor == other.predictor
        for word in ("path_length", "scaled_kappa", "held_out", "lower", "upper"):
            assert getattr(one, word) == pytest.approx(getattr(other, word), rel=1e-9), (family, word)
    ema, near = whole.total.of("ema"), band.total.of("ema")
    assert ema is not None
    assert near is not None
    assert near.kappa == pytest.approx(ema.kappa, rel=5e-3)


def test_a_band_of_another_width(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "w.zarr", {"w": walk(90, (200,), 1)}, chunks=(7, 200))

    def searched(band: int | None, rank: str = "none") -> gradlog.Analysis:
        return gradlog.analyze(path, Settings(rank=rank, band=band), search=True)

    wide = searched(256)  # wider than the log is long
    whole = searched(None, "exact")
    for family in ("mean", "lags"):
        assert wide.search is not None
        assert whole.search is not None
        one, other = wide.search.total.of(family), whole.search.total.of(family)
        assert one is not None
        assert other is not None
        assert one.predictor == other.predictor
        assert one.held_out == pytest.approx(other.held_out, rel=1e-9)
    narrow = searched(4)
    assert narrow.search is not None
    specs = [f"mean:{k}" for k in (1, 2, 3, 4)]
    measured = gradlog.analyze(path, Settings(predictors=tuple(specs), rank="none")).total.predictors
    mean = narrow.search.total.of("mean")
    assert mean is not None
    assert mean.kappa == pytest.approx(min(p.kappa or 0 for p in measured if p.predictor in specs), rel=1e-6)
    widths = [run.search.width if run.search else 0 for run in (wide, whole, narrow, searched(None))]
    assert widths == [256, None, 4, 64]
    (read,) = gradlog.read_analyses(json.dumps(gradlog.analysis_document(narrow)), "x.json")
    assert read.search is not None
    assert (read.search.width, read.settings.band) == (4, 4)
    assert [w.code for w in searched(4, "exact").warnings] == ["band-unused"]
    assert [w.code for w in gradlog.analyze(path, Settings(band=4)).warnings] == ["band-unused"]
    for width in (1, 257):
        with pytest.raises(gradlog.UsageError, match="from 2 to 256"):
            searched(width)


def test_where_memory_is_scarce_averages_alone_are_searched(tmp_path: Path) -> None:
    path = foreign_store(tmp_path / "long.zarr", {"w": walk(90, (80_000,), 1)}, chunks=(30, 80_000))

    def searched(memory: int) -> gradlog.Analysis | None:
        try:
            return gradlog.analyze(path, Settings(rank="incremental"), search=True, memory=memory)
        except gradlog.MemoryLimitError:
            return None

    wide = searched(1 << 30)
    narrow = next(found for megabytes in range(40, 1000, 4) if (found := searched(megabytes << 20)))
    assert wide is not None
    assert wide.search is not None
    assert narrow.search is not None
    assert wide.search.total.of("mean") is not None
    assert narrow.search.total.of("mean") is None
    ema, other = wide.search.total.of("ema"), narrow.search.total.of("ema")
    assert ema is not None
    assert other is not None
    assert other.predictor == ema.predictor
    assert other.kappa == pytest.approx(ema.kappa, rel=1e-6)
    found = gradlog.bounds(narrow)
    why = found.row("regret[best mean]").why
    assert "--memory" in why
    assert found.row("regret[best least squares on lags]").why == why


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
