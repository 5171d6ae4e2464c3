"""What a report says first, and what it refuses: none of this needs what draws pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stores import format1_store, walk

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.reports.figures import percent
from gradmf.gradlog.reports.predictor_words import predictor_words
from gradmf.gradlog.reports.verdict import Answer, verdict
from gradmf.gradlog.results.row_kind import OF_GRADIENTS, RowKind

QUESTIONS = (
    "Was the run predictable?",
    "More than noise would be?",
    "When did that change?",
    "Which tensors matter?",
    "In how many directions did it move?",
)
HEAVY = {"matplotlib", "jinja2", "gradmf.gradlog.pages", "gradmf.gradlog.plots"}
NOISE = np.random.default_rng(5).standard_normal((400, 60)).astype(np.float32)


def answers(analysis: gradlog.Analysis) -> dict[str, Answer]:
    found = verdict(analysis, gradlog.find(analysis), gradlog.bounds(analysis))
    return {answer.question: answer for answer in found}


def analyzed(folder: Path, tensors: dict[str, np.ndarray], **settings: object) -> gradlog.Analysis:
    return gradlog.analyze(format1_store(folder / "run.zarr", tensors), gradlog.Settings(**settings))  # type: ignore[arg-type]


def test_a_predictable_run_is_called_so_with_the_numbers_of_its_analysis(tmp_path: Path) -> None:
    analysis = analyzed(tmp_path, {"slow": walk(200, (30,), 1), "slower": 9 * walk(200, (20,), 2)}, windows=8)
    told = answers(analysis)
    assert tuple(told) == QUESTIONS
    best = analysis.total.best
    assert best is not None
    first = told[QUESTIONS[0]]
    assert first.short.startswith("Yes: ")
    assert f"{best.predictor} (" in first.text[0]
    assert f"leaves {percent(best.kappa)} of the gradient energy" in first.text[0]
    assert first.text[1].endswith(f"leaves {percent(best.reference)}.")
    assert [bar.value for bar in first.bars] == [best.kappa, best.reference, 1.0]
    assert told[QUESTIONS[1]].short == "Yes"
    assert told[QUESTIONS[3]].short == "slower"
    share = analysis.tensors[1].energy / analysis.total.energy
    assert told[QUESTIONS[3]].text[0] == (
        f"One of 2 holds {percent(share)} of the gradient energy: slower {percent(share)}."
    )
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    assert told[QUESTIONS[4]].short == f"{spectrum.rank[1].rank} of 50"
    windows = analysis.windows
    assert windows is not None
    kappa = windows.total.kappa[best.predictor]
    span = told[QUESTIONS[2]].text[-1]
    assert percent(float(kappa.min())) in span
    assert percent(float(kappa.max())) in span


def test_noise_is_told_from_what_predicts(tmp_path: Path) -> None:
    told = answers(analyzed(tmp_path, {"w": NOISE}))
    assert told[QUESTIONS[0]].short in ("No", "Hardly predictable")
    assert told[QUESTIONS[1]].short == "No"
    assert "independent noise gets up to" in told[QUESTIONS[1]].text[0]


def test_a_search_decides_by_rows_that_predictors_were_not_chosen_on(tmp_path: Path) -> None:
    for values, short in ((NOISE, "No"), (walk(400, (60,), 3), "Yes")):
        analysis = gradlog.analyze(format1_store(tmp_path / f"{short}.zarr", {"w": values}), search=True)
        told = answers(analysis)[QUESTIONS[1]]
        assert told.short == short
        if short == "Yes":
            assert analysis.search is not None
            best = analysis.search.total.best
            assert best is not None
            assert f"leaves {percent(best.held_out)} of the energy" in told.text[0]


def test_steps_that_turn_back_are_a_yes_in_reverse(tmp_path: Path) -> None:
    signs = np.where(np.arange(400) % 2, -1.0, 1.0)[:, None]
    values = (NOISE + 0.8 * signs * np.ones(60)).astype(np.float32)
    told = answers(analyzed(tmp_path, {"w": values}, predictors=("one-step",)))
    assert told[QUESTIONS[1]].short == "Yes, in reverse"


def test_a_sudden_change_is_told_with_its_step(tmp_path: Path) -> None:
    values = NOISE.copy()
    values[220:] = 5 + 0.1 * values[220:]
    analysis = analyzed(tmp_path, {"w": values})
    told = answers(analysis)[QUESTIONS[2]]
    steps = [f.step for f in gradlog.find(analysis) if f.tensor is None and f.code.endswith("-level")]
    assert steps
    assert all(f"step {step}" in told.short.lower().replace(",", "") for step in steps[:1])


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"w": np.ones((1, 4), np.float32)}, "One row has no past"),
        ({"w": np.zeros((30, 4), np.float32), "b": np.zeros((30, 2), np.float32)}, "All gradients are zero"),
    ],
)
def test_what_cannot_be_said_says_why(tmp_path: Path, tensors: dict[str, np.ndarray], why: str) -> None:
    told = answers(analyzed(tmp_path, tensors))
    for question in QUESTIONS[:3]:
        assert told[question].short == "Cannot be said"
        assert told[question].text[0].startswith(why)


def test_results_without_steps_say_what_they_lack(tmp_path: Path) -> None:
    import json

    document = gradlog.analysis_document(analyzed(tmp_path, {"w": NOISE}), steps=False)
    (analysis,) = gradlog.read_analyses(json.dumps(document), "it")
    assert "write it with --format json" in answers(analysis)[QUESTIONS[2]].text[0]


def test_every_predictor_has_words() -> None:
    for spec in ("zero", "one-step", "ema:0.9", "ema-debiased:0.9", "mean:5", "linear", "lags:0.5", "x:1"):
        assert "{" not in predictor_words(spec, OF_GRADIENTS)
    assert predictor_words("mean:1", OF_GRADIENTS) == predictor_words("one-step", OF_GRADIENTS)
    assert predictor_words("one-step", RowKind("updates")) == "the last update again"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return format1_store(tmp_path_factory.mktemp("report") / "run.zarr", {"w": walk(40, (6, 5), 1)})


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_without_a_library_a_line_names_the_extra(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    library: str,
) -> None:
    from types import ModuleType

    for name in ("jinja2", "matplotlib"):
        for held in [held for held in sys.modules if held.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, held)
        monkeypatch.setitem(sys.modules, name, None if name == library else ModuleType(name))
    assert main(["report", str(run), "-o", str(tmp_path / "report.html")]) == 2
    assert capsys.readouterr().err == (
        f"gradmf: error: reports need the library {library}, which is not installed: "
        "pip install 'gradmf[report]'\n"
    )
    assert not list(tmp_path.iterdir())
    with pytest.raises(gradlog.UsageError, match=r"gradmf\[report\]"):
        gradlog.report(gradlog.analyze(run))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "report.pdf"], "ends in '.pdf': a report is written to .html"),
        (["-o", "report"], "has no ending: a report is written to .html"),
        (["-o", "nowhere/report.html"], "there is no folder"),
        (["-o", "-"], "-o - is no file"),
        ([], "Missing option '-o' / '--output'"),
    ],
)
def test_a_wrong_file_is_told_before_anything_is_read(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "no.zarr", *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_of_reports_is_imported_to_analyze_or_to_help(run: Path) -> None:
    for words in (["analyze", str(run), "--windows", "4"], ["--help"], ["report", "--help"]):
        script = (
            f"import sys; from gradmf.cli.main import main; main({words!r}); "
            f"found = {HEAVY!r} & set(sys.modules); sys.exit(str(found) if found else 0)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


def test_one_pass_has_what_a_report_shows(run: Path, tmp_path: Path) -> None:
    found = gradlog.analyze_for_report(run)
    assert found.analysis.settings.windows == 8  # of 5 rows
    assert found.analysis.tensor_steps is not None
    assert found.analysis.search is not None
    assert found.advice.samples > 0
    assert found.advice.decisions == gradlog.advise(run).decisions
    wide = format1_store(tmp_path / "wide.zarr", {"w": walk(40, (20, 10), 1)})
    projected = gradlog.analyze_for_report(wide, gradlog.Settings(project=64, windows=2))
    assert projected.analysis.total.estimated
    told = verdict(projected.analysis, (), gradlog.bounds(projected.analysis))
    assert (told[1].short, told[1].text) == ("Cannot be said", ("Its figures are estimates from a sketch.",))
