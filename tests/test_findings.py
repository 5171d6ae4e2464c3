"""What stands out: planted things are found with their step, noise and plain runs are quiet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.statistics.level_changes import level_changes

ROWS = 240


def noise(seed: int, rows: int = ROWS, columns: int = 60) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def course(seed: int, rows: int = ROWS, columns: int = 60) -> Any:
    """Rows that keep a direction, with noise of a third of it: predictable, with a constant norm."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(columns) + rng.standard_normal((rows, columns)) / 3


def found(
    path: Path, tensors: dict[str, Any], **thresholds: float
) -> list[tuple[str, str | None, int | None]]:
    run = write_store(path, {name: values.astype(np.float32) for name, values in tensors.items()})
    analysis = gradlog.analyze(run, gradlog.Settings(("one-step", "ema:0.9")), tensor_steps=True)
    steps = analysis.steps.step.tolist()
    assert len(steps) == len(next(iter(tensors.values())))
    rows = {None: None} | {step: row for row, step in enumerate(steps)}
    list_of = gradlog.find(analysis, gradlog.Thresholds.of(thresholds))
    return [(each.code, each.tensor, rows[each.step]) for each in list_of]


def test_plain_runs_are_quiet(tmp_path: Path) -> None:
    told = [
        one
        for seed in range(30)
        for one in found(tmp_path / f"{seed}.zarr", {"a": course(seed), "b": course(seed + 100)})
    ]
    assert len(told) <= 2, told


def test_noise_is_called_noise_and_nothing_else(tmp_path: Path) -> None:
    codes = [
        {code for code, *_ in found(tmp_path / f"{seed}.zarr", {"a": noise(seed)})} for seed in range(20)
    ]
    assert sum("nothing-foretold" in each for each in codes) >= 18
    assert sum(bool(each - {"nothing-foretold", "rank-limit"}) for each in codes) <= 1


def test_a_heavy_step(tmp_path: Path) -> None:
    a = course(0)
    a[77] *= 100
    told = found(tmp_path / "run.zarr", {"a": a, "b": course(1)})
    assert ("heavy-step", "a", 77) in told
    assert ("heavy-step", None, 77) in told
    assert ("heavy-step", "b", 77) not in told
    assert not any(
        code == "heavy-step" for code, *_ in found(tmp_path / "x.zarr", {"a": a}, step_share=0.9999)
    )


def test_dead_tensors(tmp_path: Path) -> None:
    never, later, nearly = np.zeros((ROWS, 60)), course(1), course(2)
    later[150:] = 0
    nearly[100:] *= 1e-6
    told = found(tmp_path / "run.zarr", {"a": course(0), "never": never, "later": later, "nearly": nearly})
    dead = {(tensor, row) for code, tensor, row in told if code == "dead"}
    assert dead == {("never", None), ("later", 150), ("nearly", 100)}


@pytest.mark.parametrize(
    ("factor", "code"), [(3.0, "norm-level"), (1 / 3, "norm-level"), (8.0, "loss-scale")]
)
def test_levels_of_the_norm(tmp_path: Path, factor: float, code: str) -> None:
    a = course(3)
    a[120:] *= factor
    told = found(tmp_path / "run.zarr", {"a": a})
    [row] = [row for held, tensor, row in told if (held, tensor) == (code, None)]
    assert row is not None
    assert abs(row - 120) <= 2
    other = {"norm-level", "loss-scale"} - {code}
    assert not other & {held for held, *_ in told}


def test_a_drift_is_no_change_of_level(tmp_path: Path) -> None:
    falls = np.geomspace(1.0, 0.05, ROWS)[:, None]
    for seed in range(10):
        told = found(tmp_path / f"{seed}.zarr", {"a": course(seed) * falls})
        assert not any(code == "norm-level" for code, *_ in told), (seed, told)


def test_steps_that_oppose_each_other(tmp_path: Path) -> None:
    turns = course(4) * np.where(np.arange(ROWS) % 2, 1.0, -1.0)[:, None]
    told = found(tmp_path / "run.zarr", {"a": turns, "b": course(5)})
    assert ("opposing-steps", "a", None) in told
    assert ("opposing-steps", "b", None) not in told


def test_a_rank_at_its_limit(tmp_path: Path) -> None:
    assert ("rank-limit", None, None) in found(
        tmp_path / "run.zarr", {"a": np.cumsum(noise(6, 60, 4000), axis=0)}
    )


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = course(0)
    a[77] *= 100
    path = str(write_store(tmp_path / "run.zarr", {"a": a.astype(np.float32)}))
    assert main(["analyze", path]) == 0
    assert "Findings\n- model and 1 tensor: step 77" in capsys.readouterr().out.replace("step 770", "step 77")
    assert main(["analyze", path, "--format", "markdown"]) == 0
    assert "### Findings\n\n- model" in capsys.readouterr().out
    assert main(["analyze", path, "--no-findings", "--format", "json"]) == 0
    assert "findings" not in json.loads(capsys.readouterr().out)
    assert main(["analyze", path, "--finding-threshold", "step_share=0.9999999", "--format", "json"]) == 0
    assert "heavy-step" not in {each["code"] for each in json.loads(capsys.readouterr().out)["findings"]}
    for wrong, why in (
        (["--finding-threshold", "steps=1"], "no threshold 'steps'"),
        (["--finding-threshold", "step_share=2"], "must be between 0 and 1"),
        (["--finding-threshold", "step_share"], "is not NAME=VALUE"),
        (["--no-findings", "--finding-threshold", "step_share=0.1"], "goes with findings"),
    ):
        assert main(["analyze", path, *wrong]) == 2
        assert why in capsys.readouterr().err


def test_levels_further_apart_than_float64_reaches(tmp_path: Path) -> None:
    """Their ratio is infinite, which JSON has as null."""
    a = course(3)
    a[:120] *= 1e-160
    a[120:] *= 1e151
    run = write_store(tmp_path / "run.zarr", {"a": a})
    analysis = gradlog.analyze(run, gradlog.Settings(("one-step",), rank="none"))
    [level] = [each for each in gradlog.find(analysis) if each.code == "norm-level"]
    assert level.figures["size"] == np.inf
    document = json.loads(json.dumps(gradlog.analysis_document(analysis, findings=[level])))
    assert document["findings"][0]["figures"]["size"] is None


@pytest.mark.parametrize("count", range(16, 41))
def test_changes_of_level_anywhere_in_short_series(count: int) -> None:
    """With eight or nine values beside them, of which few lags can be looked at, and at any level."""
    rng = np.random.default_rng(count)
    for at in range(4, count - 3):
        values = 0.01 * rng.standard_normal(count)
        values[at:] += 1.0
        for change in level_changes([values], level=0.5, least=0.1)[0]:
            assert change.size == pytest.approx(1.0, abs=0.05)
            assert abs(change.at - at) <= 3
