"""`gradmf advise` in this process: inputs, options, formats, tables at 80 columns, exit codes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradmf import gradlog
from gradmf.cli.commands.advise import QUANTITIES
from gradmf.cli.formats.as_csv import ADVICE_COLUMNS
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.main import main
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog.reports.advice_report import advice_report

ROOT = Path(__file__).parent.parent
GD, SGD, CHARLM = (str(ROOT / "sample_logs" / f"{n}.zarr") for n in ("mlp-gd", "mlp-sgd", "charlm-adamw"))


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*arguments: str | Path, stdin: str = "") -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin.encode())))
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return call


def test_help_offers_the_quantities_that_there_are() -> None:
    assert tuple(gradlog.QUANTITIES) == QUANTITIES


@pytest.mark.parametrize("path", [GD, SGD, CHARLM])
def test_the_table_of_a_sample_fits_one_screen(path: str) -> None:
    report = advice_report(gradlog.advise(path))
    short = type(report)("run.zarr", report.facts, report.tables, report.series, report.words)
    lines = draw_table(short, Terminal(width=80, rules=True)).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    wide = draw_table(short, Terminal(width=160, rules=True))
    if report.tables:
        assert "spectral edge" in wide
        assert "range" in wide
        assert "noise to 2" in wide


def test_json_holds_every_decision(run: Any) -> None:
    done = run("advise", SGD, "--format", "json")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert document["schema"] == "gradmf.advise/1"
    assert document["checked"] == list(QUANTITIES)
    assert {d["quantity"] for d in document["decisions"]} == set(QUANTITIES)
    assert len(document["schedule"]["refined"]) == document["run"]["rows"] == 400
    for decision in document["decisions"]:
        assert decision["verdict"] in ("change", "note", "keep", "unknown")
        assert decision["text"]
        assert decision["source"]
        assert decision["figures"] or decision["verdict"] == "unknown"


def test_csv_has_a_row_for_each_figure(run: Any) -> None:
    done = run("advise", SGD, "--format", "csv", "--only", "rank", "--only", "dead")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert tuple(rows[0]) == ADVICE_COLUMNS
    advice = gradlog.advise(SGD, only=("rank", "dead"))
    assert len(rows) == sum(max(1, len(d.figures)) for d in advice.decisions)
    assert {row["decision"] for row in rows if row["quantity"] == "rank"} >= {
        "nothing to change: rank 4 of 16, but its subspace moves within 25 steps"
    }
    assert float(rows[0]["value"]) == advice.decisions[0].figures[0].value


def test_results_on_stdin_and_runs_side_by_side(run: Any) -> None:
    result = json.dumps(gradlog.analysis_document(gradlog.analyze(GD, tensor_steps=True)))
    done = run("advise", "-", SGD, "--format", "jsonl", "--only", "hint", stdin=result + "\n")
    assert done.code == 0
    first, second = map(json.loads, done.out.splitlines())
    assert first["decisions"][0]["text"] == "use linear as hint"
    assert second["run"]["path"] == SGD


def test_a_run_that_fails_does_not_stop_the_others(run: Any, tmp_path: Path) -> None:
    done = run("advise", tmp_path / "none.zarr", GD, "--only", "dead", "--format", "jsonl")
    assert done.code == 1
    assert "none.zarr" in done.err
    assert len(done.out.splitlines()) == 1


def test_the_schedule_is_written_beside_the_logged_one(run: Any, tmp_path: Path) -> None:
    done = run("advise", SGD, "--only", "schedule", "--schedule", tmp_path / "next.csv")
    assert done.code == 0
    rows = list(csv.DictReader((tmp_path / "next.csv").read_text().splitlines()))
    schedule = gradlog.advise(SGD, only=("schedule",)).schedule
    assert schedule is not None
    assert schedule.logged is not None
    np.testing.assert_array_equal([float(row["refined"]) for row in rows], schedule.refined)
    np.testing.assert_array_equal([float(row["lr"]) for row in rows], schedule.logged)
    peak = schedule.logged.max()
    np.testing.assert_allclose([float(row["refined_lr"]) for row in rows], peak * schedule.refined)


def test_a_schedule_that_there_is_not_is_an_error(run: Any, tmp_path: Path) -> None:
    done = run("advise", SGD, "--rows", ":4", "--schedule", tmp_path / "next.csv")
    assert done.code == 1
    assert "fewer than 16 rows" in done.err
    assert not (tmp_path / "next.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((SGD, GD, "--schedule", "x.csv"), "single RUN"),
        ((SGD, "--only", "dead", "--schedule", "x.csv"), "--only schedule"),
        ((SGD, "--only", "heads"), "heads"),
        ((SGD, "--samples", "0"), "samples"),
        ((SGD, "--columns", "nothing", "--format", "csv"), "no column"),
    ],
)
def test_wrong_usage_is_told(run: Any, arguments: tuple[str, ...], told: str) -> None:
    done = run("advise", *arguments)
    assert done.code == 2
    assert told in done.err
    assert done.out == ""


def test_markdown_is_a_table(run: Any) -> None:
    done = run("advise", GD, "--format", "markdown")
    assert "| hint" in done.out
    assert done.code == 0


def _digits(text: str) -> float:
    return float(f"{float(text):.12g}")


def test_a_finished_result_with_a_search_holds_the_logged_rates(run: Any, tmp_path: Path) -> None:
    held, out = tmp_path / "held.json", tmp_path / "next.csv"
    assert run("analyze", SGD, "--format", "json", "--search", "-o", held).code == 0
    told = [run("advise", path, "--only", "schedule", "--format", "json").out for path in (SGD, held)]
    # Another pass may add sums of rows in another order.
    store, finished = (json.loads(text, parse_float=_digits)["decisions"] for text in told)
    assert store == finished
    assert finished[0]["figures"][0]["name"] == "bound_ratio"
    assert run("advise", held, "--only", "schedule", "--schedule", out).code == 0
    assert all(float(row["lr"]) == pytest.approx(0.1) for row in csv.DictReader(io.StringIO(out.read_text())))
    # Without a search, too; without steps there are no rates.
    assert run("analyze", SGD, "--format", "json", "-o", held).code == 0
    told = run("advise", held, "--only", "schedule", "--format", "json").out
    assert json.loads(told, parse_float=_digits)["decisions"] == store
    assert run("analyze", SGD, "--format", "jsonl", "-o", held).code == 0
    assert "write it with --format json" in run("advise", held, "--only", "schedule").out


@pytest.mark.parametrize("command", ["bounds", "advise"])
def test_finished_results_open_no_store(command: str, tmp_path: Path) -> None:
    held = tmp_path / "held.json"
    assert main(["analyze", SGD, "--format", "json", "--search", "-o", str(held)]) == 0
    script = (
        "import sys\nfrom gradmf.cli.main import main\n"
        "code = main(sys.argv[1:])\nsys.exit('zarr' in sys.modules or 'numba' in sys.modules or code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command, str(held), "--format", "json"], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
