"""Figures of windows of training against plain computations over their rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import format1_store, walk
from sweeps import sweep

from gradmf import gradlog
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog.documents.document import analysis_document
from gradmf.gradlog.reports.analysis_report import analysis_report
from gradmf.gradlog.results.windows import window_rows
from reference import predictions

SPECS = ("one-step", "ema:0.9", "mean:3", "linear")


def flat(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: values.reshape(len(values), -1).astype(np.float64) for name, values in tensors.items()}


def write(path: Path, tensors: dict[str, Any]) -> Path:
    with gradlog.create_log(path, chunk_rows=10, chunk_bytes=40_000) as log:
        for index in range(len(next(iter(tensors.values())))):
            log.append(index, {name: values[index] for name, values in tensors.items()})
    return path


def check(found: gradlog.Analysis, tensors: dict[str, Any], *, ranks: bool = True) -> None:
    windows = found.windows
    assert windows is not None
    rows = flat(tensors)
    scopes = [(windows.total, np.concatenate([rows[name] for name in sorted(rows)], axis=1))]
    scopes += [(scope, rows[t.name]) for scope, t in zip(windows.tensors, found.tensors, strict=True)]
    for scope, g in scopes:
        squares = (g**2).sum(axis=1)
        for number, (first, last) in enumerate(windows.rows.tolist()):
            energy = squares[first:last].sum()
            assert scope.energy[number] == pytest.approx(energy, rel=1e-9)
            for spec in SPECS:
                m = predictions(g, spec)[first:last]
                left = ((g[first:last] - m) ** 2).sum()
                assert scope.kappa[spec][number] == pytest.approx(left / energy, rel=1e-6)
                size, product = (m**2).sum(), (g[first:last] * m).sum()
                scaled = 1 - product**2 / size / energy if size > 0 else 1.0
                assert scope.scaled_kappa[spec][number] == pytest.approx(scaled, abs=1e-6)
            if not ranks:
                assert not scope.rank
                continue
            h = np.diff(g[first:last], axis=0)
            sigma = np.linalg.svd(h, compute_uv=False) ** 2 if h.size else np.zeros(0)
            share = np.cumsum(sigma) / max(sigma.sum(), 1e-300)
            for epsilon, rank in scope.rank.items():
                near = share.size and np.abs(share - (1 - epsilon)).min() < 1e-6
                wanted = int(np.searchsorted(share, 1 - epsilon - 1e-12)) + 1 if sigma.sum() > 0 else 0
                assert near or rank[number] == min(wanted, sigma.size)


@settings(max_examples=sweep(20), deadline=None)
@given(data=st.data(), rows=st.integers(2, 40))
def test_windows_are_what_their_rows_give(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: int
) -> None:
    layout: Any = data.draw(
        st.one_of(st.integers(1, 12), st.tuples(st.integers(2, 20), st.integers(1, 20))), label="layout"
    )
    shapes = {"a": (30, 7), "b": (3,), "c": (60,)}
    tensors = {name: walk(rows, shape, n) for n, (name, shape) in enumerate(shapes.items())}
    chunks = data.draw(st.integers(1, rows), label="chunk rows")
    path = tmp_path_factory.mktemp("log") / "run.zarr"
    with gradlog.create_log(path, chunk_rows=chunks) as log:
        for index in range(rows):
            log.append(index, {name: values[index] for name, values in tensors.items()})
    check(gradlog.analyze(path, gradlog.Settings(windows=layout, predictors=SPECS)), tensors)


def test_a_large_tensor_in_many_tiles(tmp_path: Path) -> None:
    tensors = {"w": walk(50, (90, 100), 1), "b": walk(50, (90,), 2)}
    path = write(tmp_path / "run.zarr", tensors)
    check(gradlog.analyze(path, gradlog.Settings(windows=(10, 7), predictors=SPECS)), tensors)


def test_without_ranks(tmp_path: Path) -> None:
    tensors = {"w": walk(50, (90,), 1)}
    path = format1_store(tmp_path / "run.zarr", tensors)
    for rank in ("none", "incremental", "sketch"):
        found = gradlog.analyze(path, gradlog.Settings(windows=4, predictors=SPECS, rank=rank))
        check(found, tensors, ranks=False)
        assert ("windows-without-rank" in [w.code for w in found.warnings]) == (rank != "none")


def test_without_epsilons(tmp_path: Path) -> None:
    """Nothing stands for all of them where there are none."""
    path = format1_store(tmp_path / "run.zarr", {"w": walk(60, (5, 4), 1), "b": walk(60, (3,), 2)})
    found = gradlog.analyze(path, gradlog.Settings(predictors=SPECS, epsilons=(), windows=20))
    assert found.windows is not None
    assert not found.windows.total.rank
    assert found.settings.middle_epsilon is None
    assert not any(finding.code.startswith("rank") for finding in gradlog.find(found))
    text = draw_table(analysis_report(found), Terminal())
    assert "20 windows of training" in text
    assert "r*" not in text.partition("windows of training")[2]


def test_figures_of_the_rows_alone(tmp_path: Path) -> None:
    """Ranks and what noise would have are those of an analysis of the window's rows."""
    tensors = {"w": walk(60, (12, 20), 1), "b": walk(60, (5,), 2)}
    path = format1_store(tmp_path / "run.zarr", tensors)
    found = gradlog.analyze(path, gradlog.Settings(windows=3, predictors=SPECS)).windows
    assert found is not None
    for number, (first, last) in enumerate(found.rows.tolist()):
        alone = gradlog.analyze(path, gradlog.Settings(rows=(first, last), predictors=SPECS))
        for scope, one in [(found.total, alone.total), *zip(found.tensors, alone.tensors, strict=True)]:
            assert one.spectrum is not None
            for rank in one.spectrum.rank:
                assert scope.rank[rank.epsilon][number] == rank.rank
        assert alone.total.spectrum is not None
        for rank in alone.total.spectrum.rank:
            assert found.total.rank_reference[rank.epsilon][number] == pytest.approx(rank.reference, abs=1)
    assert found.step.tolist() == [[0, 19], [20, 39], [40, 59]]


def test_noise_has_its_reference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    norms = np.exp(rng.standard_normal(400))[:, None]
    path = format1_store(tmp_path / "run.zarr", {"w": norms * rng.standard_normal((400, 3000))})
    found = gradlog.analyze(path, gradlog.Settings(windows=4, predictors=SPECS)).windows
    assert found is not None
    for spec in SPECS:
        np.testing.assert_allclose(found.total.kappa[spec], found.total.reference[spec], rtol=0.05)
        np.testing.assert_allclose(found.tensors[0].reference[spec], found.total.reference[spec], rtol=1e-12)
    np.testing.assert_allclose(found.total.rank[0.1], found.total.rank_reference[0.1], atol=2)


def test_json_and_back(tmp_path: Path) -> None:
    tensors = {"w": walk(30, (4, 5), 1), "zero": np.zeros((30, 3), np.float32)}
    path = format1_store(tmp_path / "run.zarr", tensors)
    found = gradlog.analyze(path, gradlog.Settings(windows=(8, 4), predictors=SPECS))
    text = json.dumps(analysis_document(found), allow_nan=False)
    (again,) = gradlog.read_analyses(text, "run.json")
    assert json.dumps(analysis_document(again)) == text
    assert again.settings.windows == (8, 4)
    damaged = json.loads(text)
    damaged["windows"]["total"]["energy"].pop()
    with pytest.raises(gradlog.DataError, match=r"windows\.total"):
        gradlog.read_analyses(json.dumps(damaged), "run.json")


@pytest.mark.parametrize("parts", [2, 3])
def test_parts(tmp_path: Path, parts: int) -> None:
    tensors = {"w": walk(40, (90, 100), 1), "b": walk(40, (9,), 2), "c": walk(40, (400,), 3)}
    path = write(tmp_path / "run.zarr", tensors)
    settings = gradlog.Settings(windows=5, predictors=SPECS)
    files = []
    for number in range(1, parts + 1):
        files.append(tmp_path / f"{number}.part")
        gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(number, parts), settings), files[-1])
    merged = gradlog.merge_parts(files)
    check(merged, tensors)
    whole = gradlog.analyze(path, settings)
    assert merged.windows is not None
    assert whole.windows is not None
    for mine, other in zip(merged.windows.tensors, whole.windows.tensors, strict=True):
        np.testing.assert_allclose(mine.kappa["one-step"], other.kappa["one-step"], rtol=1e-12)
        assert mine.rank[0.05].tolist() == other.rank[0.05].tolist()


def test_layouts() -> None:
    assert window_rows(3, 10).tolist() == [[0, 3], [3, 7], [7, 10]]
    assert window_rows(5, 2).tolist() == [[0, 1], [1, 2]]
    assert window_rows((4, 4), 10).tolist() == [[0, 4], [4, 8], [8, 10]]
    assert window_rows((4, 4), 9).tolist() == [[0, 4], [4, 8]]
    assert window_rows((4, 2), 8).tolist() == [[0, 4], [2, 6], [4, 8]]
    assert window_rows((100, 1), 3).tolist() == [[0, 3]]
    for layout in (0, (1, 1), (4, 0)):
        with pytest.raises(gradlog.UsageError, match="windows"):
            window_rows(layout, 10)  # type: ignore[arg-type]
    with pytest.raises(gradlog.UsageError, match="10000 at most"):
        window_rows((2, 1), 20_000)
