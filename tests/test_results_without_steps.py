"""Results without the per-step series, as JSON Lines are: commands say what they can, and what is missing."""

from __future__ import annotations

import io
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import NETWORK, store

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog import Analysis
from gradmf.gradlog.advice.evidence import NO_STEPS
from gradmf.gradlog.results.reasons import NO_SERIES

KINDS = tuple(itertools.product((True, False), repeat=2))
"""Whether there are sums of tensors by step, and a search."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[bool, bool], Analysis]:
    path = store(tmp_path_factory.mktemp("run"), "run", NETWORK)
    return {
        (tensors, search): gradlog.analyze(path, tensor_steps=tensors, search=search)
        for tensors, search in KINDS
    }


def line_of(analysis: Analysis) -> str:
    return json.dumps(gradlog.analysis_document(analysis, steps=False)) + "\n"


def read(analysis: Analysis) -> Analysis:
    (found,) = gradlog.read_analyses(line_of(analysis), "run.jsonl")
    assert not found.steps.step.size
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "words",
    [
        *(f"bounds {how}" for how in ("", "--lr 0.1", "--format json", "--format jsonl --curves")),
        *(f"bounds {how}" for how in ("--format csv", "--format csv --curves", "--format markdown")),
        *(f"advise {how}" for how in ("", "--format json", "--format csv", "--format markdown")),
        *(f"compare RUN {how}" for how in ("", "--format json", "--format csv", "--align fraction")),
    ],
)
def test_every_command_ends_well(
    whole: dict[tuple[bool, bool], Analysis],
    kind: tuple[bool, bool],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(line_of(whole[kind]))
    command, *rest = words.replace("RUN", str(file)).split()
    assert main([command, str(file), *rest]) == 0
    out, err = capsys.readouterr()
    assert out
    assert not err
    if "RUN" not in words:
        stream = io.TextIOWrapper(io.BytesIO(line_of(whole[kind]).encode()))
        monkeypatch.setattr(sys, "stdin", stream)
        assert main([command, "-", *rest]) == 0
        assert capsys.readouterr().out.strip("[]\n ") == out.strip("[]\n ") or "--format json" in words


def test_bounds_hold_what_follows_from_sums(whole: dict[tuple[bool, bool], Analysis]) -> None:
    for analysis in whole.values():
        expected, found = gradlog.bounds(analysis), gradlog.bounds(read(analysis))
        for row, wanted in zip(found.rows, expected.rows, strict=True):
            if row.name == "regret[no hints]" or row.name.startswith("regret[best"):
                assert (row.value, row.hint) == (wanted.value, wanted.hint)
                continue
            assert (row.value, row.why) == (None, NO_SERIES)
        assert found.anytime.bounds == {}


def test_advice_says_what_is_missing(whole: dict[tuple[bool, bool], Analysis]) -> None:
    for (tensors, _), analysis in whole.items():
        found = gradlog.advise(read(analysis))
        told = {decision.quantity: decision for decision in found.decisions if decision.scope is None}
        for name in ("spikes", "growth", "frozen", "hint", "momentum", "schedule", "slow", "coherence"):
            assert told[name].text == NO_STEPS
        assert told["dead"].text == f"since when: {NO_STEPS}"
        [dead] = [decision for decision in found.of("change") if decision.quantity == "dead"]
        assert (dead.scope, dead.confidence) == ("zero", "certain")
        assert found.schedule is None
        if tensors:
            with_steps = gradlog.advise(analysis)
            assert any(decision.quantity == "frozen" and decision.scope for decision in with_steps.decisions)


def test_steps_to_align_are_asked_for(
    whole: dict[tuple[bool, bool], Analysis], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(line_of(whole[True, True]))
    assert main(["compare", str(file), str(file), "--align", "step"]) == 1
    run = whole[True, True].run.path
    assert capsys.readouterr().err == (
        f"gradmf: error: {run}: holds no steps to align: write it with --format json\n"
    )


def test_a_predictor_that_predicts_nothing_alone_is_named(tmp_path: Path) -> None:
    """No listed predictor but zero: the gradients are not to blame."""
    path = store(tmp_path, "run", {"a": np.ones((5, 2), np.float32)})
    analysis = gradlog.analyze(path, gradlog.Settings(predictors=("zero",)))
    (held,) = gradlog.read_analyses(line_of(analysis), "x")
    for found in (analysis, held):
        rows: dict[str, Any] = {row.name: row for row in gradlog.bounds(found).rows}
        for name in ("regret[best listed]", "regret[aggregate]", "stationarity[added]"):
            assert rows[name].why == "no predictor but zero was measured: give --predictor"
        rule = gradlog.parse_rule("kappa[best] > 1", gradlog.Vocabulary.of(found.settings))
        [violation] = gradlog.judge(found, [rule])
        [breach] = violation.breaches
        assert breach.reading.doubt == "no predictor but zero was measured: give --predictor"
