"""Gradients at the ends of float64: what follows from their results is a number, or says why not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ar1 import analysis_of
from finished_runs import NETWORK, store
from stores import add_array, format1_store
from uses_of_results import use

from gradmf import gradlog
from gradmf.gradlog import Analysis, GradmfError, Settings
from gradmf.gradlog.advice.evidence import Evidence
from gradmf.gradlog.advice.intervals import Asked, RunBootstrap
from gradmf.gradlog.advice.schedule import APART, bound, schedule_of
from gradmf.gradlog.guarantees.bounding import BEYOND


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    path = store(tmp_path_factory.mktemp("run"), "run", NETWORK)
    return gradlog.analyze(path, tensor_steps=True, search=True)


def far_from_one(rng: np.random.Generator) -> tuple[dict[str, Any], bool]:
    """Tensors of few rows, of sizes far from 1, and whether some rows lie many powers of ten apart."""
    rows = int(rng.choice([1, 2, 3, 5, 17, 33, 40, 60]))
    tensors, apart = {}, False
    for name in "abc"[: rng.integers(1, 4)]:
        shape = tuple(rng.integers(1, 5, size=rng.integers(0, 3)))
        values = rng.standard_normal((rows, *shape))
        each_row = (-1, *(1,) * len(shape))
        kind = rng.integers(6)
        apart |= bool(kind == 2)
        match kind:
            case 0:
                values = values.cumsum(axis=0)
            case 1:
                values[rng.integers(rows) :] = 0
            case 2:
                values *= 10.0 ** rng.uniform(-140, 140, rows).reshape(each_row)
            case 3:
                values = np.ones_like(values)
            case 4:
                values *= (rng.random(rows) < 0.3).reshape(each_row)
        largest = np.abs(values).max(initial=1.0)
        tensors[name] = values * (
            1.0 if kind == 2 else rng.choice([1.0, 1e-130, 1e-100, 1e100, 1e150 / largest])
        )
    return tensors, apart


def check(folder: Path, baseline: Analysis, seed: int, count: int) -> int:
    """Analyze logs, write and read their results, and use these. Returns how many were analyzed."""
    rng = np.random.default_rng(seed)
    done = 0
    for number in range(count):
        tensors, apart = far_from_one(rng)
        rows = len(tensors["a"])
        path = format1_store(
            folder / f"{number}.zarr", tensors, step=(1 + 9 * (number % 2)) * np.arange(rows)
        )
        group = zarr.open_group(path)
        add_array(group, "lr", rng.choice([1.0, 1e-300, 1e300, 0.0]) * rng.random(rows))
        add_array(group, "loss", rng.choice([1.0, 1e300, -1e308, np.nan]) * rng.random(rows))
        rank = str(rng.choice(["exact", "none", "sketch", "incremental"]))
        search = rank != "sketch" and not apart and rng.random() < 0.7
        try:
            analysis = gradlog.analyze(path, Settings(rank=rank), tensor_steps=True, search=bool(search))
        except (GradmfError, RuntimeWarning):  # where not even the figures are within float64
            continue
        document = json.loads(json.dumps(gradlog.analysis_document(analysis), allow_nan=False))
        (read,) = gradlog.read_analyses(json.dumps(document), "x")
        assert json.loads(json.dumps(gradlog.analysis_document(read))) == document
        use(read, baseline)
        done += 1
    return done


def test_results_far_from_one_are_used(tmp_path: Path, baseline: Analysis) -> None:
    assert check(tmp_path, baseline, 0, 16) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_results_far_from_one_are_used(tmp_path: Path, baseline: Analysis, seed: int) -> None:
    assert check(tmp_path, baseline, seed, 400) > 300


BEYOND_GRADIENTS = BEYOND.replace("{gradients}", "gradients")


def test_a_bound_beyond_float64_says_so(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", {"a": np.array([[0.8e154], [-0.2e154]])})
    large = gradlog.analyze(path, Settings(("one-step",), rank="none"))
    variation = gradlog.bounds(large).row("variation[gradual]")
    assert (variation.worst, variation.why) == (None, BEYOND_GRADIENTS)
    found = gradlog.bounds(large, radius=1e300)
    for row in found.rows:
        assert row.value is None or not row.name.startswith("regret")
        assert row.value is not None or row.why
    assert found.row("regret[no hints]").why == BEYOND_GRADIENTS
    bound = gradlog.bounds_document(found)["anytime"]["bound"]
    assert all(value is None for values in bound.values() for value in values)


def test_rates_that_add_up_to_more_than_float64_weigh_nothing() -> None:
    analysis = analysis_of(np.random.default_rng(0).standard_normal((30, 3)))
    plain = gradlog.bounds(analysis).row("stationarity[added]")
    endless = dataclasses.replace(analysis, series={"lr": np.full(30, 1.7e308)})
    with np.errstate(over="ignore"):
        assert gradlog.bounds(endless).row("stationarity[added]") == plain


def test_a_schedule_of_norms_that_lie_far_apart() -> None:
    """Squares that vanish in float64 don't make its bound 0; weights that do, say so."""
    rates, norms = np.array([1e-200, 1.0, 0.5]), np.array([1e200, 1e-10, 1e-10])
    value, base = bound(rates, norms)
    scaled, other = bound(rates, norms * 1e-100)
    assert value == pytest.approx(scaled * 1e100)
    assert base == pytest.approx(other * 1e-100)
    assert value > 0
    falling = np.append(np.full(20, 1e100), 1e-100)
    assert schedule_of(Evidence(analysis_of(falling[:, None]))) == APART
    nearer = np.append(np.full(20, 1e50), 1e-50)
    assert not isinstance(schedule_of(Evidence(analysis_of(nearer[:, None]))), str)


def test_an_interval_beyond_float64_is_none() -> None:
    rng = np.random.default_rng(0)
    sums = np.stack([np.ones(60), 1e155 * rng.standard_normal(60)], axis=1)
    asked = Asked(sums, lambda total: np.asarray(total[..., 1] / total[..., 0]))
    (found,) = RunBootstrap(np.ones(60)).intervals([asked])
    assert found.value is not None
    assert (found.lower, found.upper) == (None, None)
