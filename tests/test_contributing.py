"""CONTRIBUTING.md's recipe for a new predictor, followed to the letter."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog import predictors

GUIDE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


def test_a_predictor_is_one_definition_and_one_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = GUIDE.partition("## Adding a predictor\n")[2].partition("\n## ")[0]
    definition, reference = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.setattr(predictors, "_FAMILIES", dict(predictors._FAMILIES))
    names: dict[str, Any] = {**vars(predictors), "Array": np.ndarray}
    exec(definition + reference, names)
    expected: Callable[[np.ndarray], np.ndarray] = names["quadratic_reference"]

    gradients = np.cumsum(np.random.default_rng(0).standard_normal((12, 700)), axis=0)
    path = write_store(tmp_path / "run.zarr", {"w": gradients}, chunks={"w": (5, 300)})
    assert "quadratic" in gradlog.known_predictors()
    analysis = gradlog.analyze(path, gradlog.Settings(predictors=("quadratic", "ema:0.9")))
    found = {p.predictor: p.path_length for p in analysis.total.predictors}["quadratic"]
    m = np.zeros_like(gradients)
    for t in range(1, len(gradients)):
        m[t] = expected(gradients[:t])
    assert found == pytest.approx(((gradients - m) ** 2).sum(), rel=1e-9)
    assert analysis.steps.kappa["quadratic"].shape == (12,)


def test_the_guide_names_files_that_exist() -> None:
    for name in re.findall(r"`((?:cli|gradlog|kernels|tests)/\w+\.py)`", GUIDE):
        assert (Path(__file__).parent.parent / name).is_file(), name
