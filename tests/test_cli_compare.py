"""`gradmf compare` in this process: inputs, options, formats, tables at 80 and 160 columns, exit codes.

python tests/test_cli_compare.py             # writes the tables anew
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from ar1 import ar1

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.formats.as_csv import COMPARISON_COLUMNS
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.formats.layout import fit
from gradmf.cli.main import main
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog import Change
from gradmf.gradlog.reports.changes import change_text, interval_text
from gradmf.gradlog.reports.comparison_report import comparison_report
from gradmf.gradlog.reports.report import Column, Table

ROOT = Path(__file__).parent.parent
GD, SGD, CHARLM = (str(ROOT / "sample_logs" / f"{n}.zarr") for n in ("mlp-gd", "mlp-sgd", "charlm-adamw"))
TABLES = Path(__file__).parent / "tables"
PAIRS = {"gd-sgd": (GD, SGD), "gd-charlm": (GD, CHARLM)}


class Ran:
    """What a command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*arguments: str | Path, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin.encode())))
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capfd.readouterr())

    return call


def drawn(pair: str, width: int) -> str:
    """The table of two samples on a terminal; their paths as from the project's root."""
    runs = [gradlog.analyze(path, tensor_steps=True) for path in PAIRS[pair]]
    report = comparison_report(gradlog.compare(*runs))
    facts = tuple(fact.replace(f"{ROOT}/", "") for fact in report.facts)
    report = type(report)(report.heading, facts, report.tables, report.series, report.words)
    return draw_table(report, Terminal(width=width, rules=True))


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("pair", PAIRS)
def test_tables_of_the_samples(pair: str, width: int) -> None:
    table = drawn(pair, width)
    assert table == (TABLES / f"compare-{pair}-{width}.txt").read_text()
    assert max(map(len, table.splitlines())) <= width
    assert len(table.splitlines()) <= 55, "more than a screen"


def test_words_say_which_run_is_more_predictable(run: Any) -> None:
    ran = run("compare", SGD, GD)
    assert (ran.code, ran.err) == (0, "")
    assert "B is more predictable than A: A's best predictor, ema:0.99, leaves 91.4%" in ran.out
    assert "More than the noise between steps: kappa[best] /452" in ran.out
    ran = run("compare", SGD, SGD)
    assert "A and B are equally predictable" in ran.out
    assert "There is no difference" in ran.out
    ran = run("compare", GD, SGD, "-q")
    assert "more predictable than" not in ran.out


def test_a_smaller_loss_is_no_prediction(run: Any, tmp_path: Path) -> None:
    """Where every predictor does harm, less harm is better and still predicts nothing."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((300, 2, 400))
    walk = 3.0 * np.cumsum(rng.standard_normal((300, 1)), axis=0) * np.ones(8)
    turning = noise[:, 1].copy()
    turning[1:] -= 0.5 * noise[:-1, 1]
    a = write_store(tmp_path / "a.zarr", {"x": turning, "y": rng.standard_normal((300, 8))})
    b = write_store(tmp_path / "b.zarr", {"x": noise[:, 0], "y": walk})
    only = ("--predictor", "one-step", "--rank", "none")
    out = run("compare", a, b, *only, "--tensor", "x").out
    row = next(line for line in out.splitlines() if line.startswith("kappa[best]"))
    assert row.split()[-1] == "better"
    assert "Neither A nor B is predictable: A's best predictor, one-step, leaves 2" in out
    assert out.count("more predictable") == 1, "in the note alone"
    out = run("compare", a, b, *only).out
    assert "Of 2 tensors, more predictable: B in 1, most in y (/" in out
    assert (
        "; predictable in neither run: 1 (chance would call 0.1 one by one, by Benjamini-Hochberg 5% of"
        in out
    )


def test_where_few_rows_carry_the_energy_nothing_is_said(run: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    spiky = rng.standard_normal((100, 2, 8))
    spiky[40, 1] *= 100
    paths = [write_store(tmp_path / f"{n}.zarr", {"x": spiky[:, side]}) for side, n in enumerate("ab")]
    ran = run("compare", *paths, "--rank", "none", "--fail-if", "kappa[best] worse")
    assert ran.code == 3
    assert "cannot be decided" in ran.err
    assert "fewer than 20 rows carry the energy" in ran.err
    assert "Whether that is noise cannot be said: fewer than 20 rows carry the energy." in ran.out
    rows = [line for line in ran.out.splitlines() if line.startswith(("kappa[", "path_length[", "grad_norm"))]
    assert len(rows) >= 7
    assert all(line.split()[-1] == "-" for line in rows)


def test_noise_is_called_noise(run: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    paths = [
        write_store(tmp_path / f"{name}.zarr", {"x": rng.standard_normal((200, 30))}) for name in ("a", "b")
    ]
    out = run("compare", *paths, "--predictor", "one-step").out
    assert "Any difference is within the noise between steps" in out
    assert "more predictable than" not in out


def test_formats(run: Any) -> None:
    documents = {
        format: run("compare", GD, SGD, "--format", format) for format in ("json", "jsonl", "csv", "markdown")
    }
    assert all((ran.code, ran.err) == (0, "") for ran in documents.values())
    document = json.loads(documents["json"].out, parse_constant=pytest.fail)
    assert document == json.loads(documents["jsonl"].out)
    assert document["schema"] == "gradmf.compare/1"
    assert (document["baseline"]["path"], document["run"]["path"]) == (GD, SGD)
    assert document["settings"]["confidence"] == 0.95
    assert document["unmatched"] == {"baseline": [], "run": []}
    changes = {c["quantity"]: c for c in document["total"]["changes"]}
    assert changes["kappa[one-step]"]["verdict"] == "worse"
    rows = list(csv.DictReader(io.StringIO(documents["csv"].out)))
    assert tuple(rows[0]) == COMPARISON_COLUMNS
    assert len(rows) == 7 * len(changes)
    for row in rows[: len(changes)]:
        held = changes[row["quantity"]]
        assert row["scope"] == "total"
        assert float(row["baseline_value"]) == held["baseline"]
        assert float(row["relative"]) == held["relative"]
        assert row["verdict"] == (held["verdict"] or "")
        lower, upper = held["interval"] or ("", "")
        assert (row["lower"], row["upper"]) == (str(lower), str(upper))
    assert documents["markdown"].out.startswith("## B against A")
    chosen = run("compare", GD, SGD, "--format", "csv", "--columns", "quantity,verdict").out
    assert chosen.startswith("quantity,verdict\nkappa[best],worse\n")


def test_several_runs_are_each_compared_with_the_baseline(run: Any) -> None:
    ran = run("compare", GD, SGD, CHARLM, "--format", "json")
    assert ran.code == 0
    documents = json.loads(ran.out)
    assert [d["run"]["path"] for d in documents] == [SGD, CHARLM]
    assert all(d["baseline"]["path"] == GD for d in documents)
    assert documents[1]["unmatched"]["baseline"] == [t["name"] for t in documents[0]["tensors"]]
    out = run("compare", GD, SGD, CHARLM).out
    assert "B against A" in out
    assert "C against A" in out
    assert "Only in A, 6 tensors: 0.bias, 0.weight" in out
    assert "Only in C, 16 tensors: blocks.0.attn.proj.weight" in out


def compared(run: Any, *arguments: str | Path, stdin: str = "") -> Any:
    ran = run("compare", *arguments, "--format", "jsonl", stdin=stdin)
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_results_take_the_place_of_stores(run: Any, tmp_path: Path) -> None:
    both = run("analyze", GD, SGD, "--format", "jsonl", "--steps", "--tensor-steps").out
    (tmp_path / "both.jsonl").write_text(both)
    one = tmp_path / "sgd.json"
    assert run("analyze", SGD, "--format", "json", "--tensor-steps", "-o", one).code == 0
    from_stores = compared(run, GD, SGD)
    assert from_stores["total"]["changes"][0]["interval"] is not None
    assert compared(run, tmp_path / "both.jsonl") == from_stores
    assert compared(run, GD, one) == from_stores
    assert compared(run, "-", stdin=both) == from_stores
    assert compared(run, "-", stdin=f"{GD}\n{one}\n") == from_stores
    listed = run("analyze", GD, SGD, "--format", "json", "--tensor-steps").out
    assert compared(run, "-", stdin=listed) == from_stores
    bare = run("analyze", GD, SGD, "--format", "jsonl").out
    ran = run("compare", "-", stdin=bare)
    assert ran.code == 0
    assert "Whether that is noise cannot be said" in ran.out
    assert "holds no per-step sums" in ran.out


def test_results_and_paths_come_mixed_on_stdin(run: Any) -> None:
    lines = run("analyze", GD, SGD, "-q", "--format", "jsonl").out
    shown = ("--format", "csv", "--columns", "baseline,run")

    def compared(stdin: str) -> tuple[int, list[str], list[str]]:
        ran = run("compare", "-", *shown, stdin=stdin)
        told = [line for line in ran.err.splitlines() if "5 training steps apart" not in line]
        return ran.code, sorted(set(ran.out.splitlines()[1:])), told

    assert compared(f"{CHARLM}\n{lines}") == (0, [f"{CHARLM},{GD}", f"{CHARLM},{SGD}"], [])
    assert compared(f"{lines}\n{CHARLM}\n") == (0, [f"{GD},{CHARLM}", f"{GD},{SGD}"], [])
    code, rows, [told] = compared(f'{lines}{{"x": 1}}\n{CHARLM}\n')
    assert (code, rows) == (1, [f"{GD},{CHARLM}", f"{GD},{SGD}"])
    assert "standard input, line 3: no result of gradmf analyze" in told
    code, rows, [told] = compared(lines + lines[:2000])
    assert (code, rows) == (1, [f"{GD},{SGD}"])
    assert "standard input, line 3: no JSON, or cut short: " in told
    document = run("analyze", GD, "-q", "--format", "json").out
    assert compared(f"{SGD}\n\ufeff{document}") == (0, [f"{SGD},{GD}"], [])
    code, rows, [told] = compared(f"{SGD}\n{GD}\n{document[:2000]}")
    assert (code, rows) == (1, [f"{SGD},{GD}"])
    line = document[:2000].rstrip().count("\n") + 3
    assert f"standard input, line {line}: no JSON, or cut short: " in told


def test_results_come_through_pipes(run: Any, tmp_path: Path) -> None:
    document = run("analyze", GD, "-q", "--format", "json").out
    shown = ("--format", "csv", "--columns", "baseline,run,verdict")
    wanted = run("compare", GD, SGD, *shown).out.splitlines()[:5]
    for text, code, told in ((document, 0, ""), ("no JSON", 1, "no JSON"), ("[]", 1, "an empty list")):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        feeder = threading.Thread(target=pipe.write_text, args=(text,))
        feeder.start()
        ran = run("compare", pipe, SGD, *shown)
        feeder.join()
        pipe.unlink()
        assert ran.code == code
        assert told in ran.err
        assert code or ran.out.splitlines()[:5] == wanted


def test_a_byte_order_mark_is_no_fault(run: Any, tmp_path: Path) -> None:
    marked = tmp_path / "marked.json"
    marked.write_text(run("analyze", GD, "-q", "--format", "json").out, encoding="utf-8-sig")
    assert run("compare", marked, SGD, "-q").code == 0


def test_rows_for_all_runs_or_for_each(run: Any) -> None:
    one = compared(run, GD, SGD, "--rows", "100:")
    assert (one["baseline"]["rows"], one["run"]["rows"]) == (300, 300)
    each = compared(run, GD, SGD, "--rows", ":100", "--rows", "-50:")
    assert (each["baseline"]["rows"], each["run"]["rows"]) == (100, 50)
    ran = run("compare", GD, SGD, "--rows", ":9", "--rows", ":8", "--rows", ":7")
    assert ran.code == 2
    assert "--rows is given 3 times for 2 runs" in ran.err


def test_alignment_by_step_keeps_the_steps_of_both(run: Any, tmp_path: Path) -> None:
    found = compared(run, GD, CHARLM, "--align", "step")
    assert (found["baseline"]["rows"], found["run"]["rows"]) == (400, 80)
    assert found["settings"]["align"] == "step"
    result = tmp_path / "charlm.json"
    run("analyze", CHARLM, "--format", "json", "-o", result)
    ran = run("compare", GD, result, "--align", "step")
    assert ran.code == 2
    assert "finished results cannot be cut" in ran.err
    assert compared(run, GD, result, "--align", "fraction")["run"]["rows"] == 160
    rng = np.random.default_rng(1)
    late = write_store(tmp_path / "late.zarr", {"x": rng.random((9, 4))}, step=range(900, 909))
    ran = run("compare", GD, late, "--align", "step")
    assert ran.code == 1
    assert "no training step in common" in ran.err


def test_options_reach_the_analyses(run: Any) -> None:
    found = compared(
        run, GD, SGD, "--tensor", "0.*", "--exclude", "*.bias", "--predictor", "mean:3", "--epsilon", "0.2",
        "--confidence", "0.5",
    )  # fmt: skip
    assert [t["name"] for t in found["tensors"]] == ["0.weight"]
    quantities = {c["quantity"]: c for c in found["total"]["changes"]}
    assert {"kappa[mean:3]", "rank[0.2]"} < set(quantities)
    wide = compared(run, GD, SGD, "--tensor", "0.weight", "--predictor", "mean:3", "--epsilon", "0.2")
    narrow, held = (
        next(c["interval"] for c in d["total"]["changes"] if c["quantity"] == "kappa[mean:3]")
        for d in (found, wide)
    )
    assert held[0] < narrow[0] < narrow[1] < held[1]
    assert "rank[0.1]" not in {
        c["quantity"] for c in compared(run, GD, SGD, "--rank", "none")["total"]["changes"]
    }


def test_threads_change_nothing(run: Any) -> None:
    one, three = (run("compare", GD, SGD, "--format", "jsonl", "--threads", n).out for n in ("1", "3"))
    assert one == three


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(run: Any, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.zarr")
    ran = run("compare", GD, missing, SGD, "--format", "jsonl")
    assert ran.code == 1
    assert [json.loads(line)["run"]["path"] for line in ran.out.splitlines()] == [SGD]
    assert re.fullmatch(r"gradmf: error: .*missing\.zarr.*\n", ran.err)
    ran = run("compare", missing, GD, "-o", tmp_path / "out.txt")
    assert (ran.code, ran.out) == (1, "")
    assert "missing.zarr" in ran.err
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "no result of gradmf analyze: no schema"),
        ('{"schema": "gradmf.info/1"}', "schema 'gradmf.info/1', not 'gradmf.analyze/1'"),
        ("[3]", "bad.json, result 1: no result of gradmf analyze"),
        ('{"schema": "gradmf.analyze/1"}', "damaged result of gradmf analyze: 'run' is missing"),
        ('{"schema":\n', "bad.json, line 2: no JSON, or cut short"),
    ],
)
def test_bad_documents_are_told_in_a_line(run: Any, tmp_path: Path, text: str, told: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    for arguments in ((GD, bad), (bad, GD)):
        ran = run("compare", *arguments)
        assert (ran.code, ran.out) == (1, "")
        assert told in ran.err
        assert ran.err.count("\n") == 1


def test_damaged_series_are_told(run: Any, tmp_path: Path) -> None:
    result = tmp_path / "gd.json"
    run("analyze", GD, "--format", "json", "--tensor-steps", "-o", result)
    for break_it in (
        lambda d: d["steps"]["path_length"]["linear"].pop(),
        lambda d: d["tensor_steps"]["tensors"].pop(),
        lambda d: d["tensor_steps"]["edges"].pop(),
        lambda d: d["total"]["predictors"][1].update(kappa="low", extra=1),
        lambda d: d.update(tensors=3),
    ):
        document = json.loads(result.read_text())
        break_it(document)
        broken = tmp_path / "broken.json"
        broken.write_text(json.dumps(document))
        ran = run("compare", broken, GD)
        assert (ran.code, ran.out) == (1, ""), ran.err
        assert "broken.json: a damaged result of gradmf analyze" in ran.err
        assert ran.err.count("\n") == 1


def test_wrong_usage(run: Any, tmp_path: Path) -> None:
    result = tmp_path / "gd.json"
    run("analyze", GD, "--format", "json", "-o", result)
    for arguments, told in (
        ((GD,), "a baseline and at least one run"),
        (("-",), "a baseline and at least one run"),
        ((GD, result, "--tensor", "0.*"), "--tensor cannot change finished results"),
        ((GD, result, "--rows", "5:"), "--rows cannot change finished results"),
        ((GD, SGD, "--predictor", "median"), "no predictor 'median'"),
        ((GD, SGD, "--confidence", "1"), "--confidence"),
        ((GD, SGD, "--align", "time"), "--align"),
        ((GD, SGD, "--columns", "verdict"), "--columns goes with --format csv"),
    ):
        ran = run("compare", *arguments)
        assert (ran.code, ran.out) == (2, ""), arguments
        assert told in ran.err
    ran = run("analyze", GD, "--tensor-steps")
    assert ran.code == 2
    assert "--tensor-steps goes with --format json" in ran.err


def test_settings_that_differ_are_warned_of(run: Any, tmp_path: Path) -> None:
    result = tmp_path / "gd.json"
    run("analyze", GD, "--format", "json", "--predictor", "one-step", "-o", result)
    ran = run("compare", result, SGD)
    assert ran.code == 0
    assert "left out: predictors ema:0.5, ema:0.9, ema:0.99, mean:5, linear" in ran.err
    run("analyze", SGD, "--format", "json", "--exclude", "*.bias", "-o", result)
    ran = run("compare", GD, result, "--rank", "none")
    assert f"analyzed differently: exclude none in {GD}, *.bias in {SGD}" in ran.err


def test_zip_stores_are_stores(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_array(store, data=np.random.default_rng(0).random((40, 6)), chunks=(40, 6))
    assert compared(run, path, path)["run"]["rows"] == 40


@pytest.mark.parametrize(
    ("relative", "interval", "texts"),
    [
        (0.0321, (-0.012, 0.0768), ("+3.21%", "-1.20 to +7.68%")),
        (-0.5, (-0.6, -0.39), ("-50.0%", "-60.0 to -39.0%")),
        (0.0, (0.0, 0.0), ("0%", "0 to 0%")),
        (907.9, (428.7, 1523.1), ("x909", "x430 to 1,524")),
        (-0.998, (-0.999, -0.996), ("/500", "/1,000 to 250")),
        (2.5e7, (1e7, 3e7), ("x2.5e7", "x1e7 to 3e7")),
        (-1.0, None, ("-100%", "-")),
        (-1.6, None, ("-160%", "-")),
        (None, None, ("-", "-")),
    ],
)
def test_changes_read_well(relative: float, interval: tuple[float, float], texts: tuple[str, str]) -> None:
    change = Change("kappa[linear]", 1.0, 1.0, 0.0, relative, interval, "steps", "~")
    assert (change_text(change), interval_text(change)) == texts


def test_of_other_models_the_rest_can_be_left_out(run: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    shared, alone, other = (rng.standard_normal((30, 4)) for _ in range(3))
    paths = [
        write_store(tmp_path / "a.zarr", {"shared": shared, "alone": alone}),
        write_store(tmp_path / "b.zarr", {"shared": shared, "other": other}),
    ]
    out = run("compare", *paths).out
    assert "Only in A, 1 tensor: alone.\nOnly in B, 1 tensor: other.\nWhole-model figures count them" in out
    ran = run("compare", *paths, "--exclude", "alone", "--exclude", "other")
    assert ran.code == 0
    assert "Only in" not in ran.out
    assert "A and B are equally predictable" in ran.out
    assert [line.partition(": nothing to exclude: ")[2] for line in ran.err.splitlines()] == [
        "no tensor matches 'other'; there are alone, shared",
        "no tensor matches 'alone'; there are other, shared",
    ]


def test_tensors_of_another_shape_are_told(run: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    a = write_store(tmp_path / "a.zarr", {"w": rng.standard_normal((9, 2, 3)), "s": rng.standard_normal(9)})
    b = write_store(
        tmp_path / "b.zarr", {"w": rng.standard_normal((9, 3, 2)), "s": rng.standard_normal((9, 1))}
    )
    ran = run("compare", a, b, "--format", "json")
    [warning] = json.loads(ran.out)["warnings"]
    assert warning["code"] == "shapes-differ"
    assert warning["message"].endswith("though of other shapes: s (a scalar and 1), w (2x3 and 3x2)")
    assert ran.err.strip().endswith(warning["message"])
    assert run("compare", a, a).err == ""


def test_one_of_a_thing_is_no_plural(run: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(3).standard_normal((30, 4)).astype(np.float32)
    values[7, 1] = np.nan
    path, short = write_store(tmp_path / "a.zarr", {"x": values}), tmp_path / "b.zarr"
    write_store(short, {"x": values[:1]})
    ran = run("compare", path, short, "--nonfinite", "drop")
    assert "1 entry is NaN or infinite, in 1 row: " in ran.err
    assert "; 1 step left out for all tensors: 7" in ran.err
    ran = run("compare", short, path, "--nonfinite", "drop")
    assert "A has 1 row and B 29: path lengths" in ran.out


def test_intervals_outlast_decimal_points_on_a_narrow_terminal() -> None:
    figures = ["10,800", "0.06582", "0.5397"]
    columns = [
        (Column("quantity", "left", shrinks=True), ["path_length[zero]", "kappa[best]", "kappa[mean:5]"]),
        (Column("A", "decimal"), figures),
        (Column("95% interval", yields=2), ["-56.4 to -50.9%"] * 3),
    ]
    table = Table.of("Whole model", columns)
    wide = [column for column, _ in columns]
    assert fit(table, Terminal(width=48)) == fit(table, Terminal())
    shown, cells = fit(table, Terminal(width=43))
    assert shown == wide
    assert cells[1] == ["      A", " 10,800", "0.06582", " 0.5397"]
    assert fit(table, Terminal(width=40))[0] == wide[:2]


def test_many_tensors_are_counted(run: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    paths = []
    for name in ("a", "b"):
        noise = {f"layer.{i:02d}": rng.standard_normal((200, 4)) for i in range(24)}
        if name == "b":
            noise["layer.07"] = ar1(rng, 200, 4, 0.8)
        paths.append(write_store(tmp_path / f"{name}.zarr", noise))
    runs = [gradlog.analyze(path, gradlog.Settings(rank="none"), tensor_steps=True) for path in paths]
    out = draw_table(comparison_report(gradlog.compare(*runs)), Terminal(width=None))
    assert out.count("layer.") >= 24, "a pipe has them all"
    out = draw_table(comparison_report(gradlog.compare(*runs)), Terminal(width=200))
    lines = out.split("Best kappa of 24 tensors, by change\n")[1].splitlines()
    assert lines[1].startswith("layer.07")
    assert "better" in lines[1]
    assert lines[21].startswith("and 4 more: 4 ~ (--top 0 shows all); verdicts over all tensors by")
    assert "Of 24 tensors, more predictable: B in 1, most in layer.07" in out
    assert "One run is one seed" in out
    out = run("compare", *paths, "--rank", "none", "--exclude", "*.07").out
    assert "(chance would call 1.2 one by one, by Benjamini-Hochberg 5% of those called)" in out
    assert "more predictable: " not in out.split("Best kappa of 23 tensors")[1]
    assert "most in" not in out


if __name__ == "__main__":
    for name in PAIRS:
        for columns in (80, 160):
            (TABLES / f"compare-{name}-{columns}.txt").write_text(drawn(name, columns))
