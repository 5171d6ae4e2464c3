"""Groups of tensors: their figures are those of one tensor that holds all of their parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import walk

from conftest import write_store
from gradmf import gradlog

TENSORS: dict[str, Any] = {
    "h.0.attn": walk(40, (30,), 1),
    "h.0.mlp": walk(40, (50,), 2),
    "h.1.attn": walk(40, (30,), 3),
    "head": walk(40, (7,), 4),
}
MEMBERS = {
    "h.0": ["h.0.attn", "h.0.mlp"],
    "h.1": ["h.1.attn"],
    "head": ["head"],
    "*attn": ["h.0.attn", "h.1.attn"],
    "*": list(TENSORS),
}


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> gradlog.Analysis:
    path = write_store(tmp_path_factory.mktemp("groups") / "run.zarr", TENSORS)
    return gradlog.analyze(path, gradlog.Settings(groups=("2", "*attn", "*")))


def test_figures_are_those_of_one_tensor(analysis: gradlog.Analysis, tmp_path: Path) -> None:
    assert {group.name: list(group.tensors) for group in analysis.groups} == MEMBERS
    for group in analysis.groups:
        together = np.concatenate([TENSORS[name] for name in group.tensors], axis=1)
        alone = gradlog.analyze(
            write_store(tmp_path / f"{len(group.name)}{group.name[0] == '*'}.zarr", {"t": together})
        )
        assert group.energy == pytest.approx(alone.total.energy, rel=1e-12)
        assert group.parameters == together.shape[1]
        assert group.top_row == alone.total.top_row
        for found, expected in zip(group.predictors, alone.total.predictors, strict=True):
            for name in ("path_length", "kappa", "scaled_kappa", "reference"):
                value = getattr(expected, name)
                assert getattr(found, name) == (None if value is None else pytest.approx(value, rel=1e-9))
        assert group.spectrum is not None
        assert alone.total.spectrum is not None
        assert [r.rank for r in group.spectrum.rank] == [r.rank for r in alone.total.spectrum.rank]
        assert group.spectrum.stable_rank == pytest.approx(alone.total.spectrum.stable_rank, rel=1e-9)


def test_documents_hold_groups(analysis: gradlog.Analysis) -> None:
    import json

    text = json.dumps(gradlog.analysis_document(analysis))
    (read,) = gradlog.read_analyses(text, "x")
    assert [(group.name, group.tensors, group.energy) for group in read.groups] == [
        (group.name, group.tensors, group.energy) for group in analysis.groups
    ]
    damaged = json.loads(text)
    damaged["groups"][0]["energy"] *= 1.01
    with pytest.raises(gradlog.DataError, match="damaged"):
        gradlog.read_analyses(json.dumps(damaged), "x")


@pytest.mark.parametrize("pattern", ["0", "nothing*"])
def test_patterns_that_make_no_group(tmp_path: Path, pattern: str) -> None:
    path = write_store(tmp_path / "run.zarr", TENSORS)
    with pytest.raises(gradlog.UsageError, match="group"):
        gradlog.analyze(path, gradlog.Settings(groups=(pattern,)))


def test_ranks_of_groups_need_an_exact_spectrum(tmp_path: Path) -> None:
    path = write_store(tmp_path / "run.zarr", TENSORS)
    found = gradlog.analyze(path, gradlog.Settings(groups=("*attn",), rank="incremental"))
    assert found.groups[0].spectrum is None
    assert "exact" in found.groups[0].why
    parts = [tmp_path / f"run.{number}" for number in (1, 2, 3)]
    settings = gradlog.Settings(groups=("*attn", "2"))
    for number, part in enumerate(parts, 1):
        gradlog.write_part(gradlog.analyze_part(path, gradlog.PartNumber(number, 3), settings), part)
    merged = gradlog.merge_parts(parts)
    whole = gradlog.analyze(path, settings)
    for a, b in zip(merged.groups, whole.groups, strict=True):
        assert (a.name, a.tensors) == (b.name, b.tensors)
        assert a.energy == pytest.approx(b.energy, rel=1e-12)
        assert a.spectrum is not None
        assert b.spectrum is not None
        assert [r.rank for r in a.spectrum.rank] == [r.rank for r in b.spectrum.rank]
