"""The warning about logs that hold every k-th training step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ar1 import analysis_of, ar1
from stores import format1_store

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog.runs.strides import stride_of, stride_warnings
from reference import Array

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("step", "stride"),
    [
        (np.arange(50), 1), (np.arange(7, 507, 10), 10), (np.array([3]), 1), (np.array([], dtype=int), 1),
        (np.r_[0:100, 5000:5100], 1),  # a run that was taken up again
        (np.r_[0:50, 30:80], 1), (np.zeros(20, dtype=int), 1),
        (np.r_[0:50, 50:1050:20], 20),  # every step at first, every twentieth later
        (np.delete(np.arange(100), [20, 50, 51]), 1),  # rows that were dropped
    ],
)  # fmt: skip
def test_the_stride_of_steps(step: Array, stride: int) -> None:
    assert stride_of(step) == stride
    assert len(stride_warnings(step)) == (stride > 1)


def test_analyze_warns_once(tmp_path: Path) -> None:
    g = {"w": np.random.default_rng(0).standard_normal((40, 6)).astype("f4")}
    path = write_store(tmp_path / "run.zarr", g, step=list(range(0, 200, 5)))
    (warning,) = gradlog.analyze(path).warnings
    assert warning.code == "steps-strided"
    assert "rows are 5 training steps apart" in warning.message
    (warning,) = gradlog.bounds(gradlog.analyze(path, search=True)).warnings
    assert warning.code == "steps-strided"
    every = format1_store(tmp_path / "every.zarr", g)
    assert gradlog.analyze(every).warnings == ()
    uneven = write_store(tmp_path / "uneven.zarr", g, step=np.cumsum(np.arange(40) % 7 + 1).tolist())
    assert "up to 7 training steps apart" in gradlog.analyze(uneven).warnings[0].message


@pytest.mark.parametrize(("name", "stride"), [("mlp-gd", 1), ("mlp-sgd", 1), ("charlm-adamw", 5)])
def test_the_samples(name: str, stride: int) -> None:
    log = gradlog.open_log(ROOT / "sample_logs" / f"{name}.zarr")
    assert stride_of(log.step) == stride == log.attributes["every"]


@pytest.mark.parametrize("every", [1, 5, 25])
def test_a_stride_changes_kappa_as_the_warning_says(every: int) -> None:
    """One-step on an AR(.95): 2 (1 - .95^k), beside the first row that nothing predicts."""
    g = ar1(np.random.default_rng(1), 300 * every, 400, 0.95)[::every]
    (one_step,) = (p for p in analysis_of(g, ("one-step",)).total.predictors if p.predictor == "one-step")
    assert one_step.kappa == pytest.approx((1 + 299 * 2 * (1 - 0.95**every)) / 300, rel=0.03)
