"""`--scratch`: chunks that are too tall for memory are decoded once, where that is the cheaper way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stores import foreign_store, walk

from conftest import assert_analysis
from gradmf import gradlog
from gradmf.cli.main import main

ROWS, WIDTH = 400, 9_000
MEMORY = 12 << 20


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chunk holds all columns: with all rows, as the exact rank needs them, that is 14 MB."""
    folder = tmp_path_factory.mktemp("tall")
    values = walk(ROWS, (WIDTH,), 3).astype(np.float32)
    return foreign_store(folder / "run.zarr", {"w": values}, chunks=(50, WIDTH))


def settings(rank: str = "exact") -> gradlog.Settings:
    return gradlog.Settings(predictors=("one-step",), rank=rank)


def test_the_figures_are_the_same_and_nothing_is_left(
    tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradmf.gradlog.runs.scratch_plan.WRITE_RATE", 1e15)
    plain = gradlog.describe_plan(tall, settings(), memory=MEMORY)
    scratched = gradlog.describe_plan(tall, settings(), memory=MEMORY, scratch=tmp_path)
    assert plain.decodes > 1
    assert [warning.code for warning in plain.warnings] == ["chunks-decoded-again"]
    assert scratched.decodes == 1
    assert scratched.warnings == ()
    assert "every chunk is decoded once, the tall ones into scratch files of up to" in " ".join(
        scratched.words
    )
    analysis = gradlog.analyze(tall, settings(), memory=MEMORY, scratch=tmp_path)
    assert_analysis(analysis, {"w": walk(ROWS, (WIDTH,), 3).astype(np.float32)})
    other = gradlog.analyze(tall, settings(), memory=MEMORY, scratch=tmp_path, threads=1)
    assert gradlog.analysis_document(other) == gradlog.analysis_document(analysis)
    assert list(tmp_path.iterdir()) == []


def test_it_is_used_only_where_that_is_faster(
    tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradmf.gradlog.runs.scratch_plan.WRITE_RATE", 1e3)
    assert gradlog.describe_plan(tall, settings(), memory=MEMORY, scratch=tmp_path).decodes > 1
    enough = gradlog.describe_plan(tall, settings(), memory=1 << 30, scratch=tmp_path)
    assert "every chunk is decoded once" in enough.words
    none = gradlog.describe_plan(tall, settings("none"), memory=MEMORY, scratch=tmp_path)
    assert none.decodes == 1


def test_other_passes_take_it_too(tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradmf.gradlog.runs.scratch_plan.WRITE_RATE", 1e15)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    gradlog.sketch_log(tall, tmp_path / "sketch.zarr", memory=MEMORY, scratch=scratch)
    gradlog.sketch_log(tall, tmp_path / "plain.zarr", memory=MEMORY)
    first, second = (gradlog.analyze(tmp_path / name) for name in ("sketch.zarr", "plain.zarr"))
    assert first.total.energy == pytest.approx(second.total.energy, rel=1e-12)
    for command in ("bounds", "advise"):
        words = [command, str(tall), "--rank", "exact", "--scratch", str(scratch), "--format", "json"]
        assert main([*words, "-o", str(tmp_path / "out.json")]) == 0
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("fault", ["lost", "file", "full", "inside"])
def test_a_folder_that_will_not_do_is_one_line(
    fault: str, tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gradmf.gradlog.runs.scratch_plan.WRITE_RATE", 1e15)
    folder = tmp_path / "scratch"
    if fault == "file":
        folder.write_text("")
    elif fault != "lost":
        folder.mkdir()
    if fault == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    if fault == "inside":
        folder = tall
    words = ["analyze", str(tall), "--rank", "exact", "--memory", "12M", "--scratch", str(folder), "-q"]
    assert main([*words, "--predictor", "one-step"]) == (2 if fault == "inside" else 1)
    out, told = capfd.readouterr()
    assert out == ""
    assert told.startswith(f"gradmf: error: {tall}: scratch folder {folder}: ")
    assert told.count("\n") == 1
    assert {
        "lost": "No such file or directory",
        "file": "not a directory",
        "full": "bytes are needed, 1,000 are free",
        "inside": "it lies in the log",
    }[fault] in told


def test_parts_have_none(tall: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", str(tall), "--part", "1/2", "-o", str(tmp_path / "part"), "--scratch", str(tmp_path)]
    assert main(words) == 2
    assert "--scratch goes with whole runs" in capfd.readouterr().err


def test_json_does_not_know_of_it(tall: Path, tmp_path: Path) -> None:
    words = ["analyze", str(tall), "--rank", "none", "--scratch", str(tmp_path), "--format", "json"]
    assert main([*words, "-o", str(tmp_path / "out.json")]) == 0
    assert "scratch" not in json.loads((tmp_path / "out.json").read_text())["settings"]
