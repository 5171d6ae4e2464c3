"""CONTRIBUTING.md's recipes, followed to the letter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_states import taken

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog import predictors
from gradmf.gradlog.engine import ranges
from gradmf.gradlog.measures import registry
from gradmf.gradlog.runs.wanted import Wanted
from guide import GUIDE, python_blocks


def test_a_predictor_is_one_definition_and_one_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition, reference = python_blocks("Adding a predictor")
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


@pytest.mark.parametrize("rank", ["exact", "incremental", "none", "sketch"])
def test_a_measure_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    """It gets into a result, JSON and back, and part files, with no other edit."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    (module,) = python_blocks("Adding a measure")
    names: dict[str, Any] = {
        "np": np, "dataclass": dataclass, "Iterator": Iterator, "Sequence": Sequence,
        **{name: getattr(gradlog, name) for name in gradlog.__all__},
    }  # fmt: skip
    exec(module, names)

    rng = np.random.default_rng(0)
    tensors = {"a": rng.standard_normal((40, 3000)), "b": rng.standard_normal((40, 7))}
    path = write_store(tmp_path / "run.zarr", tensors, chunks={"a": (10, 700), "b": (10, 7)})
    expected = {name: pytest.approx(float((values**3).sum()), rel=1e-9) for name, values in tensors.items()}
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 40 * 8 * 1000)
    settings = gradlog.Settings(rank=rank, measures=("sum_of_cubes",))
    analysis = gradlog.analyze(path, settings)
    assert analysis.measures["sum_of_cubes"] == expected
    document = gradlog.analysis_document(analysis)
    assert document["measures"]["sum_of_cubes"] == expected
    (read,) = gradlog.read_analyses(json.dumps(document), "run.json")
    assert read.measures == analysis.measures
    assert read.settings == settings
    if rank != "incremental":
        files = [tmp_path / f"part.{index}" for index in (1, 2, 3)]
        for index, file in enumerate(files, 1):
            gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(index, 3), settings), file)
        assert gradlog.merge_parts(files[::-1]).measures["sum_of_cubes"] == expected
        found = taken(path, 3, settings, Wanted())
        for size in (0, 2):
            assert found.results(size)["sum_of_cubes"] == expected
    for threads in (1, 4):
        assert gradlog.analyze(path, settings, threads=threads).measures == analysis.measures
    with pytest.raises(gradlog.UsageError, match="measure 'other': known are sum_of_cubes"):
        gradlog.analyze(path, gradlog.Settings(measures=("other",)))


def test_the_guide_names_files_that_exist() -> None:
    for name in re.findall(r"`((?:cli|gradlog|kernels|tests)/[\w/]+\.py)`", GUIDE):
        made = name == "cli/formats/as_tsv.py"  # by a recipe
        assert made or (Path(__file__).parent.parent / name).is_file(), name
