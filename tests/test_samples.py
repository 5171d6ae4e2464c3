"""The sample logs: what they are on disk, and gradmf's figures against the expected tables beside them."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr

from gradmf import gradlog

FOLDER = Path(__file__).parents[1] / "sample_logs"
NAMES = ("charlm-adamw", "mlp-gd", "mlp-sgd")
MAX_BYTES = 3_000_000

pytestmark = pytest.mark.parametrize("name", NAMES)


def load_script(name: str) -> ModuleType:
    """A script of sample_logs/ as a module; it is no package."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected_tables(name: str) -> dict[str, Any]:
    tables: dict[str, Any] = json.loads((FOLDER / "expected" / f"{name}.json").read_text())
    return tables


def close(value: float | None, *, absolute: float = 0.0) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-6, abs=absolute)


def assert_scope(found: gradlog.ScopeResult, expected: Mapping[str, Any]) -> None:
    """One scope's figures, within the tolerances that the documentation promises."""
    assert found.parameters == expected["parameters"]
    assert found.energy == close(expected["energy"])
    assert [p.predictor for p in found.predictors] == [p["predictor"] for p in expected["predictors"]]
    for predictor, wanted in zip(found.predictors, expected["predictors"], strict=True):
        assert predictor.path_length == close(wanted["path_length"])
        assert predictor.kappa == close(wanted["kappa"])
        assert predictor.scaled_kappa == close(wanted["scaled_kappa"])
        assert predictor.scale == close(wanted["scale"])
    spectrum, wanted = found.spectrum, expected["spectrum"]
    assert spectrum is not None
    assert spectrum.energy == close(wanted["energy"])
    for rank, wanted_rank in zip(spectrum.rank, wanted["rank"], strict=True):
        assert rank.epsilon == wanted_rank["epsilon"]
        assert rank.lower == rank.rank == rank.upper == wanted_rank["rank"]
        assert rank.residual == close(wanted_rank["residual"], absolute=1e-6 * wanted["energy"])
    assert spectrum.stable_rank == close(wanted["stable_rank"])
    assert spectrum.effective_rank == close(wanted["effective_rank"])
    assert spectrum.participation_ratio == close(wanted["participation_ratio"])
    if "singular_values" in wanted:
        largest = np.asarray(wanted["singular_values"])
        shares = spectrum.singular_values[: largest.size] ** 2 / spectrum.energy
        np.testing.assert_allclose(shares, largest**2 / wanted["energy"], rtol=0, atol=1e-6)


def test_analysis_gives_the_expected_tables(name: str) -> None:
    analysis = gradlog.analyze(FOLDER / f"{name}.zarr")
    expected = expected_tables(name)
    run = analysis.run
    assert {"rows": run.rows, "parameters": run.parameters, "tensors": run.tensors} == expected["run"]
    assert [warning.code for warning in analysis.warnings] == ["steps-strided"] * (name == "charlm-adamw")
    assert_scope(analysis.total, expected["total"])
    by_name = {tensor.name: tensor for tensor in analysis.tensors}
    assert sorted(by_name) == [tensor["name"] for tensor in expected["tensors"]]
    for tensor in expected["tensors"]:
        assert by_name[tensor["name"]].shape == tuple(tensor["shape"])
        assert_scope(by_name[tensor["name"]], tensor)
    steps = analysis.steps
    for row in expected["steps"]:
        t = row["row"]
        assert steps.step[t] == row["step"]
        assert steps.grad_norm[t] == close(row["grad_norm"])
        assert (None if np.isnan(steps.cosine[t]) else steps.cosine[t]) == close(row["cosine"])
        assert steps.kappa["one-step"][t] == close(row["kappa"]["one-step"])


def test_expected_tables_are_those_of_the_log(name: str) -> None:
    """The tables belong to the logs beside them: computed again, they are the same."""
    again = load_script("make_expected").expected(FOLDER / f"{name}.zarr")
    _assert_same(again, expected_tables(name))


def _assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            _assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _assert_same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    else:
        assert found == expected


def test_store_is_small_and_whole(name: str) -> None:
    path = FOLDER / f"{name}.zarr"
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) < 150
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    description = gradlog.describe(path)
    assert description.format_version == 1
    assert description.warnings == ()
    assert all(tensor.absent_chunks == 0 for tensor in description.tensors)
    assert {tensor.dtype for tensor in description.tensors} == {"float32"}
    assert set(description.series) == {"loss", "lr", "missing"}
    assert {"model", "optimizer", "learning_rate", "batch_size", "data", "seed", "torch"} <= set(
        description.attributes
    )


def test_run_learnt(name: str) -> None:
    loss = np.asarray(zarr.open_array(FOLDER / f"{name}.zarr" / "loss", mode="r")[:], dtype=np.float64)
    assert loss[-20:].mean() < loss[0] / 3


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of torch, and of what it brings
def test_recording_again_gives_the_log(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other versions and processors round differently: close, not equal."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    monkeypatch.setattr(sys, "argv", ["make_samples.py", "--out", str(tmp_path), name])
    load_script("make_samples").main()
    recorded = zarr.open_group(FOLDER / f"{name}.zarr", mode="r")
    again = zarr.open_group(tmp_path / f"{name}.zarr", mode="r")
    np.testing.assert_array_equal(again["step"][:], recorded["step"][:])
    np.testing.assert_allclose(again["lr"][:], recorded["lr"][:], rtol=1e-12)
    np.testing.assert_allclose(again["loss"][:], recorded["loss"][:], rtol=1e-2)
    for tensor, values in recorded["grads"].arrays():
        found = again[f"grads/{tensor}"][:]
        assert np.linalg.norm(found - values[:]) <= 1e-2 * np.linalg.norm(values[:]), tensor
