"""Exports, held against the JSON of the same analysis, and opened with the readers of those who use them."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import format1_store, walk

from gradmf import gradlog
from gradmf.cli.commands import export as command
from gradmf.cli.main import main
from gradmf.gradlog.exports import exported_series, exporting
from gradmf.gradlog.exports.event_files import tag_of
from gradmf.gradlog.results.windows import ScopeWindows

ROWS = 40
SETTINGS = gradlog.Settings(
    windows=4, predictors=("one-step", "ema:0.9"), epsilons=(0.1, 0.05), subspace=2, groups=("h.*",)
)
COLUMNS = [
    "run", "scope", "tensor", "per", "quantity", "argument",
    "first_row", "last_row", "first_step", "step", "value", "lower", "upper",
]  # fmt: skip
TARGETS = ("csv", "parquet", "tensorboard")
Key = tuple[str, str, str, str, str, int, int]
"""scope, name, per, quantity, argument, first and last row."""


def write(path: Path, *, loss: bool = True, rows: int = ROWS) -> Path:
    tensors = {
        "h.0.w": walk(rows, (12, 5), 1),
        "h.1.w": walk(rows, (5,), 2),
        "dead": np.zeros((rows, 3), "f4"),
    }
    with gradlog.create_log(path) as log:
        for t in range(rows):
            series = {"loss": math.nan if t == 7 else 1.0 + 1.0 / (t + 3)} if loss else {}
            log.append(10 * t, {name: values[t] for name, values in tensors.items()}, **series)
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("export") / "run.zarr")


@pytest.fixture(scope="module")
def analysis(log: Path) -> gradlog.Analysis:
    return gradlog.analyze(log, SETTINGS, tensor_steps=True, search=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def key(line: dict[str, Any]) -> Key:
    texts = [line[name] or "" for name in ("scope", "tensor", "per", "quantity", "argument")]
    return (*texts, int(line["first_row"]), int(line["last_row"]))  # type: ignore[return-value]


def in_json(document: dict[str, Any]) -> dict[Key, float]:
    """Every figure of a document that is a number, by what the table says of it, field by field."""
    return {at: float(value) for at, value in _in_json(document) if value is not None}


def _in_json(document: dict[str, Any]) -> Iterator[tuple[Key, float | None]]:
    rows = document["run"]["rows"]
    whole = (0, rows - 1)
    for scope, name, held in _scopes(document):
        at = (scope, name, "run")
        yield (*at, "grad_norm", "", *whole), math.sqrt(held["energy"] / rows)
        for field in (
            "energy", "effective_rows", "effective_parameters", "top_row", "top_row_share", "quiet_row",
            "quiet_level",
        ):  # fmt: skip
            yield (*at, field, "", *whole), held[field]
        for item in held["predictors"]:
            for field in ("path_length", "kappa", "scaled_kappa", "scale"):
                yield (*at, field, item["predictor"], *whole), item[field]
            yield (*at, "kappa_reference", item["predictor"], *whole), item["reference"]
        spectrum = held["spectrum"] or {"rank": []}
        for item in spectrum["rank"]:
            for field in ("rank", "residual"):
                yield (*at, field, str(item["epsilon"]), *whole), item[field]
            yield (*at, "rank_reference", str(item["epsilon"]), *whole), item["reference"]
        yield (*at, "increment_energy", "", *whole), spectrum.get("energy")
        for field in ("stable_rank", "effective_rank", "participation_ratio"):
            yield (*at, field, "", *whole), spectrum.get(field)
            yield (*at, f"{field}_reference", "", *whole), spectrum.get(f"{field}_reference")
        for kind in ("gradients", "increments") if "subspace" in held else ():
            measure = held["subspace"][kind]
            for field in ("fraction", "overlap", "directions"):
                yield (*at, f"subspace_{field}", kind, *whole), measure[field]
                for window in measure.get("windows", ()):
                    last = min(window["row"] + held["subspace"]["window"], rows) - 1
                    place = (scope, name, "window", f"subspace_{field}", kind, window["row"], last)
                    yield place, window[field]
    if "windows" in document:
        spans = [(first, last - 1) for first, last in document["windows"]["rows"]]
        for scope, name, held in _scopes(document["windows"]):
            series = {("energy", ""): held["energy"]}
            for field in ("kappa", "scaled_kappa"):
                series |= {(field, spec): values for spec, values in held[field].items()}
            series |= {("kappa_reference", spec): values for spec, values in held["reference"].items()}
            for field in ("rank", "rank_reference"):
                series |= {(field, str(item["epsilon"])): item["rank"] for item in held.get(field, ())}
            for (quantity, argument), values in series.items():
                for span, value in zip(spans, values, strict=True):
                    yield (scope, name, "window", quantity, argument, *span), value
    steps = document["steps"]
    series = {(field, ""): steps[field] for field in ("grad_norm", "cosine")}
    series |= {(name, ""): values for name, values in document["series"].items()}
    for field in ("kappa", "path_length", "product", "inside"):
        series |= {(field, argument): values for argument, values in steps.get(field, {}).items()}
    for (quantity, argument), values in series.items():
        for row, value in enumerate(values):
            yield ("total", "", "step", quantity, argument, row, row), value
    if "tensor_steps" in document:
        edges = document["tensor_steps"]["edges"]
        for held in document["tensor_steps"]["tensors"]:
            series = {("energy", ""): held["energy"]}
            for field in ("path_length", "product"):
                series |= {(field, argument): values for argument, values in held[field].items()}
            for (quantity, argument), values in series.items():
                for first, last, value in zip(edges[:-1], edges[1:], values, strict=True):
                    yield ("tensor", held["name"], "step", quantity, argument, first, last - 1), value
    search = document.get("search")
    for held in [search["total"], *search["tensors"]] if search else []:
        scope, name = ("tensor", held["name"]) if "name" in held else ("total", "")
        for item in held["found"]:
            for field in ("path_length", "kappa", "scaled_kappa", "scale", "held_out"):
                yield (scope, name, "run", f"found_{field}", item["family"], *whole), item[field]


def _scopes(held: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "total", "", held["total"]
    for tensor in held["tensors"]:
        yield "tensor", tensor["name"], tensor
    for group in held.get("groups", ()):
        yield "group", group["name"], group


def test_csv_holds_every_figure_of_json(analysis: gradlog.Analysis, tmp_path: Path) -> None:
    document = json.loads(json.dumps(gradlog.analysis_document(analysis)))
    summary = gradlog.export(analysis, tmp_path / "run.csv", to="csv")
    found = lines(tmp_path / "run.csv")
    assert list(found[0]) == COLUMNS
    values = {key(line): float(line["value"]) for line in found}
    assert len(values) == len(found) == summary.values
    assert values == in_json(document)
    assert {line["run"] for line in found} == {document["run"]["path"]}
    for line in found:
        assert int(line["step"]) == 10 * int(line["last_row"])
        assert int(line["first_step"]) == 10 * int(line["first_row"])
        # All is exact but what was held out in the search.
        assert (line["lower"] == line["upper"] == "") or line["quantity"] == "found_held_out"


def test_finished_results_give_the_same_as_the_store(
    log: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--windows", "4", "--predictor", "one-step"]
    assert main(["analyze", str(log), *words, "--format", "json", "--tensor-steps", "-o", "run.json"]) == 0
    assert main(["export", str(log), *words, "--to", "csv", "-o", "store.csv"]) == 0
    told = capsys.readouterr()
    values = len(lines(folder / "store.csv"))
    assert told.out == f"store.csv: {values:,} values of 1 run, csv\n"
    left_out = (
        "left out: loss of 1 row, where it is no number; kappa of 1 tensor whose gradients are all zero\n"
    )
    assert told.err.endswith(f"gradmf: warning: {left_out}")
    assert main(["export", "run.json", "--to", "csv", "-o", "json.csv", "-q"]) == 0
    assert (folder / "json.csv").read_bytes() == (folder / "store.csv").read_bytes()
    assert main(["export", "run.json", "--to", "csv", "-o", "json.csv.gz", "-q"]) == 0
    assert lines(folder / "json.csv.gz") == lines(folder / "json.csv")
    first = (folder / "json.csv.gz").read_bytes()
    assert main(["export", "run.json", "--to", "csv", "-o", "json.csv.gz", "-q"]) == 0
    assert (folder / "json.csv.gz").read_bytes() == first
    assert capsys.readouterr().out == ""


def test_what_is_not_there_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder / "run.zarr", loss=False)
    assert main(["analyze", str(path), "--rank", "none", "--format", "jsonl", "-o", "run.jsonl"]) == 0
    capsys.readouterr()
    assert main(["export", "run.jsonl", "--to", "csv", "-o", "run.csv"]) == 0
    *_, told = capsys.readouterr().err.splitlines()
    assert told == (
        "gradmf: warning: left out: figures of windows, which --windows asks for; ranks, as it was analyzed "
        "with --rank none; series by step, which analyze --format json holds; series of tensors by step, "
        "which analyze --tensor-steps holds; loss and lr, which the result doesn't hold; kappa of 1 tensor "
        "whose gradients are all zero"
    )
    found = lines(folder / "run.csv")
    assert {line["per"] for line in found} == {"run"}
    assert {line["step"] for line in found} == {""}
    assert not {line["quantity"] for line in found} & {"rank", "residual", "increment_energy"}


def test_long_runs_have_bins_of_rows_for_tensors(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "long.zarr", {"w": walk(2100, (3,), 1)})
    found = gradlog.analyze(path, gradlog.Settings(rank="none", predictors=("one-step",)), tensor_steps=True)
    gradlog.export(found, tmp_path / "long.csv", to="csv")
    values = {key(line): float(line["value"]) for line in lines(tmp_path / "long.csv")}
    document = json.loads(json.dumps(gradlog.analysis_document(found)))
    assert values == in_json(document)
    assert any(at[5] < at[6] for at in values if at[2] == "step")


@pytest.mark.parametrize("method", ["sketch", "incremental"])
def test_intervals_are_those_of_json(method: str, tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", {"w": walk(64, (40, 30), 1)})
    chosen = gradlog.Settings(
        rank=method, predictors=("one-step",), sketch_dim=64 if method == "sketch" else None
    )
    found = gradlog.analyze(path, chosen)
    gradlog.export(found, tmp_path / "run.csv", to="csv")
    spectrum = found.total.spectrum
    assert spectrum is not None
    ranks = {
        line["argument"]: line
        for line in lines(tmp_path / "run.csv")
        if line["quantity"] == "rank" and line["scope"] == "total"
    }
    for rank in spectrum.rank:
        line = ranks[repr(rank.epsilon)]
        assert line["value"] == ("" if rank.rank is None else repr(float(rank.rank)))
        ends = ("", "") if rank.lower == rank.upper else (repr(float(rank.lower)), repr(float(rank.upper)))
        assert (line["lower"], line["upper"]) == ends


def test_projected_path_lengths_have_intervals(tmp_path: Path) -> None:
    path = format1_store(tmp_path / "run.zarr", {"w": walk(64, (40, 30), 1)})
    found = gradlog.analyze(path, gradlog.Settings(project=64, predictors=("one-step",)))
    summary = gradlog.export(found, tmp_path / "run.csv", to="csv")
    (line,) = (
        line
        for line in lines(tmp_path / "run.csv")
        if (line["scope"], line["per"], line["quantity"], line["argument"])
        == ("total", "run", "kappa", "one-step")
    )
    kappa = found.total.predictors[1]
    assert kappa.kappa is not None
    assert float(line["lower"]) < kappa.kappa == float(line["value"]) < float(line["upper"])
    told = [text for _, text in summary.left_out]
    assert "intervals by window and step, where a sketch estimates the figures" in told


def test_several_runs_one_after_another(log: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write(folder / "other.zarr")
    words = ["--rank", "none", "--windows", "2", "--to", "csv", "-o", "runs.csv"]
    assert main(["export", str(log), "missing.zarr", str(other), *words]) == 1
    told = capsys.readouterr()
    assert "gradmf: error: missing.zarr: " in told.err
    assert f"gradmf: warning: {log}: left out: ranks" in told.err
    found = [line["run"] for line in lines(folder / "runs.csv")]
    assert list(dict.fromkeys(found)) == [str(log), str(other)]
    before = (folder / "runs.csv").read_bytes()
    assert main(["export", "missing.zarr", *words]) == 1
    assert (folder / "runs.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "excel", "-o", "run.xls"], "'excel' is not one of 'tensorboard', 'parquet', 'csv'"),
        (["-o", "run.csv"], "Missing option '--to'"),
        (["--to", "csv"], "Missing option '-o'"),
        (["--to", "csv", "-o", "-"], "-o '-' is no place for an export: give the name of a file or folder"),
        (["--to", "csv", "-o", "there"], "there: a folder; give the name of a file"),
        (["--to", "csv", "-o", "nowhere/run.csv"], "nowhere/run.csv: there is no folder"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_read(
    words: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "there").mkdir()
    assert main(["export", "missing.zarr", *words]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["there"]


def test_unknown_targets_and_no_runs(analysis: gradlog.Analysis, folder: Path) -> None:
    with pytest.raises(gradlog.UsageError, match="export to 'excel': known are tensorboard, parquet, csv"):
        gradlog.export(analysis, "run.xls", to="excel")
    with pytest.raises(gradlog.UsageError, match=r"run\.csv: no runs to export"):
        gradlog.export([], "run.csv", to="csv")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("content", "told"),
    [('{"schema": "x"}', "no result of gradmf analyze"), ("[", "no JSON, or cut short"), ("x", "")],
)
def test_unreadable_runs_write_nothing(
    content: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "run.json").write_text(content)
    assert main(["export", "run.json", "--to", "csv", "-o", "run.csv"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gradmf: error: run.json")
    assert told in error
    assert error.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_folder_that_refuses_is_named(
    analysis: gradlog.Analysis, log: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "locked").mkdir(mode=0o555)
    # Root may write anywhere but there.
    place = "/proc/run.csv" if os.access(folder / "locked", os.W_OK) else "locked/run.csv"
    assert main(["export", str(log), "--rank", "none", "--to", "csv", "-o", place, "-q"]) == 1
    assert f"gradmf: error: {place}: " in capsys.readouterr().err
    with pytest.raises(OSError, match=place):
        gradlog.export(analysis, place, to="csv")


def test_an_error_on_the_way_leaves_what_was_there(analysis: gradlog.Analysis, folder: Path) -> None:
    (folder / "run.csv").write_text("before")

    def runs() -> Iterator[gradlog.Analysis]:
        yield analysis
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        gradlog.export(runs(), "run.csv", to="csv")
    assert [path.name for path in folder.iterdir()] == ["run.csv"]
    assert (folder / "run.csv").read_text() == "before"


@pytest.mark.parametrize(("to", "library"), [("parquet", "pyarrow"), ("tensorboard", "tensorboard")])
def test_without_its_library_a_line_names_the_extra(
    to: str, library: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(library)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["export", "missing.zarr", "--to", to, "-o", "out"]) == 2
    told = capsys.readouterr().err
    assert f"the library {library}, which is not installed: pip install 'gradmf[{to}]'\n" in told
    assert told.count("\n") == 1
    assert not list(folder.iterdir())


def test_nothing_of_this_is_loaded_elsewhere(log: Path) -> None:
    code = (
        "import sys\nfrom gradmf.cli.main import main\n"
        f"main(['--help']), main(['analyze', {str(log)!r}]), main(['export', '--help'])\n"
        "of_exports = ('pyarrow', 'tensorboard', 'gradmf.gradlog.exports')\n"
        "print([name for name in sys.modules if name.startswith(of_exports)], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("[]\n")


def test_what_shells_offer_is_what_there_is() -> None:
    assert command.TARGETS == exporting.TARGETS


def test_every_field_of_windows_is_exported(analysis: gradlog.Analysis) -> None:
    fields = {field.name for field in dataclasses.fields(ScopeWindows)}
    quantities = gradlog.exports.exported_series.QUANTITIES.values()
    assert fields == {exported_series._field_of_windows(q) for q in quantities} & fields
    assert any(s.quantity == "kappa_reference" for s in exported_series.series_of(analysis))


def test_tags_stay_as_they_are(analysis: gradlog.Analysis) -> None:
    """Dashboards and scripts name them: one that is gone or spelled anew breaks these."""
    tags: dict[str, set[str]] = {"run": set(), "window": set(), "step": set()}
    for series in exported_series.series_of(analysis):
        tags[series.spans.per].add(tag_of(series.scope, series.name, series.quantity, series.argument))
    assert {tag for tag in tags["step"] if tag.endswith("/total")} == {
        "cosine/total", "grad_norm/total", "inside/gradients/total", "inside/increments/total",
        "kappa/ema:0.9/total", "kappa/one-step/total", "kappa/zero/total", "loss/total",
        "path_length/ema:0.9/total", "path_length/one-step/total", "product/ema:0.9/total",
        "product/one-step/total",
    }  # fmt: skip
    assert {tag for tag in tags["step"] if tag.endswith("/tensors/h.0.w")} == {
        "energy/tensors/h.0.w", "path_length/ema:0.9/tensors/h.0.w", "path_length/one-step/tensors/h.0.w",
        "product/ema:0.9/tensors/h.0.w", "product/one-step/tensors/h.0.w",
    }  # fmt: skip
    assert {tag for tag in tags["window"] if tag.endswith("/total")} == {
        "energy/total", "kappa/ema:0.9/total", "kappa/one-step/total",
        "kappa_reference/ema:0.9/total", "kappa_reference/one-step/total",
        "rank/0.05/total", "rank/0.1/total", "rank_reference/0.05/total", "rank_reference/0.1/total",
        "scaled_kappa/ema:0.9/total", "scaled_kappa/one-step/total",
        "subspace_directions/gradients/total", "subspace_directions/increments/total",
        "subspace_fraction/gradients/total", "subspace_fraction/increments/total",
        "subspace_overlap/gradients/total", "subspace_overlap/increments/total",
    }  # fmt: skip
    assert tags["run"] >= {
        "kappa/one-step/total", "scaled_kappa/ema:0.9/total", "rank/0.05/tensors/h.1.w", "grad_norm/total",
        "residual/0.1/total", "stable_rank/tensors/h.0.w", "kappa/one-step/groups/h.*",
    }  # fmt: skip


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12
) | st.sampled_from(
    [
        "a/b",
        "total",
        "tensors/total",
        "a,b",
        'say "w"',
        "a\nb",
        "a\rb",
        " w ",
        "層.0",
        "=1+1",
        "'",
        "…",
        "\u2028",
    ]
)


def renamed(analysis: gradlog.Analysis, names: list[str]) -> gradlog.Analysis:
    tensors = tuple(
        dataclasses.replace(tensor, name=name) for tensor, name in zip(analysis.tensors, names, strict=True)
    )
    return dataclasses.replace(analysis, tensors=tensors, search=None)


hostile = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
several_names = st.lists(NAMES, min_size=3, max_size=3, unique=True)


@hostile
@given(names=several_names)
def test_csv_keeps_any_name(names: list[str], analysis: gradlog.Analysis, tmp_path: Path) -> None:
    gradlog.export(renamed(analysis, names), tmp_path / "run.csv", to="csv")
    found = lines(tmp_path / "run.csv")
    assert list(dict.fromkeys(line["tensor"] for line in found if line["scope"] == "tensor")) == names
    plain = in_json(gradlog.analysis_document(renamed(analysis, names)))
    assert {key(line): float(line["value"]) for line in found} == plain


def events(path: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()


def single(value: float) -> float:
    return float(np.float32(value))


@pytest.mark.extras
def test_parquet_holds_every_figure_of_json(analysis: gradlog.Analysis, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    summary = gradlog.export(analysis, tmp_path / "run.parquet", to="parquet")
    table = parquet.read_table(tmp_path / "run.parquet")
    assert table.column_names == COLUMNS
    assert [str(kind) for kind in table.schema.types] == ["string"] * 6 + ["int64"] * 4 + ["double"] * 3
    found = table.to_pylist()
    assert len(found) == summary.values
    document = json.loads(json.dumps(gradlog.analysis_document(analysis)))
    assert {key(line): line["value"] for line in found} == in_json(document)
    gradlog.export(analysis, tmp_path / "run.csv", to="csv")
    spelled = [{k: "" if v is None else str(v) for k, v in line.items()} for line in found]
    assert spelled == lines(tmp_path / "run.csv")
    first = (tmp_path / "run.parquet").read_bytes()
    gradlog.export(analysis, tmp_path / "run.parquet", to="parquet")
    assert (tmp_path / "run.parquet").read_bytes() == first


@pytest.mark.extras
def test_row_groups_stay_small(
    analysis: gradlog.Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    gradlog.export(analysis, tmp_path / "one.parquet", to="parquet")
    for module in ("long_table", "parquet_file"):
        monkeypatch.setattr(f"gradmf.gradlog.exports.{module}.BATCH_LINES", 16)
    gradlog.export(analysis, tmp_path / "many.parquet", to="parquet")
    many = parquet.ParquetFile(tmp_path / "many.parquet")
    groups = [many.metadata.row_group(at).num_rows for at in range(many.metadata.num_row_groups)]
    assert len(groups) > 20
    assert max(groups) <= 32
    assert many.read().equals(parquet.read_table(tmp_path / "one.parquet"))


@pytest.mark.extras
def test_tensorboard_reads_every_figure_of_json(analysis: gradlog.Analysis, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    gradlog.export(analysis, tmp_path / "events", to="tensorboard")
    document = json.loads(json.dumps(gradlog.analysis_document(analysis)))
    expected: dict[str, dict[str, list[tuple[int, float, float]]]] = {"run": {}, "window": {}, "step": {}}
    for (scope, name, per, quantity, argument, _, last), value in in_json(document).items():
        tag = tag_of(scope, name or None, quantity, argument)
        expected[per].setdefault(tag, []).append((10 * last, single(value), float(last)))
    assert sorted(path.name for path in (tmp_path / "events").iterdir()) == ["run", "step", "window"]
    for per, by_tag in expected.items():
        read = events(tmp_path / "events" / per)
        tags = {tag for tag in read.Tags()["scalars"] if not tag.startswith(("found_held_out_",))}
        assert tags == set(by_tag)
        for tag, points in by_tag.items():
            assert [(e.step, e.value, e.wall_time) for e in read.Scalars(tag)] == points
    gradlog.export(analysis, tmp_path / "again", to="tensorboard")
    for file in (tmp_path / "events").rglob("*tfevents*"):
        assert (tmp_path / "again" / file.relative_to(tmp_path / "events")).read_bytes() == file.read_bytes()


@pytest.mark.extras
def test_tensorboard_has_intervals_as_tags_and_no_infinity(
    analysis: gradlog.Analysis, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    ranks = tuple(dataclasses.replace(rank, rank=None, lower=3, upper=9) for rank in spectrum.rank)
    loose = dataclasses.replace(spectrum, method="sketch", rank=ranks, energy=1e300)
    changed = dataclasses.replace(analysis, total=dataclasses.replace(analysis.total, spectrum=loose))
    summary = gradlog.export(changed, tmp_path / "events", to="tensorboard")
    read = events(tmp_path / "events" / "run")
    assert [e.value for e in read.Scalars("rank_lower/0.1/total")] == [3.0]
    assert [e.value for e in read.Scalars("rank_upper/0.1/total")] == [9.0]
    # The energy, and shares of it that bound residuals.
    assert not {"rank/0.1/total", "increment_energy/total"} & set(read.Tags()["scalars"])
    assert ("", "3 values beyond float32") in summary.left_out


@pytest.mark.extras
def test_tensorboard_has_a_folder_for_each_of_several_runs(
    log: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    (folder / "a").mkdir()
    other = write(folder / "a" / "run.zarr")
    words = ["--rank", "none", "--windows", "2", "--to", "tensorboard", "-o", "events", "-q"]
    assert main(["export", str(log), str(other), *words]) == 0
    assert sorted(path.name for path in (folder / "events").iterdir()) == ["run", "run-2"]
    read = events(folder / "events" / "run-2" / "window")
    assert len(read.Scalars("kappa/one-step/total")) == 2
    capsys.readouterr()
    assert main(["export", str(log), *words]) == 2
    assert capsys.readouterr().err == (
        "gradmf: error: events: already there; choose another path or remove it\n"
    )
    assert main(["export", str(log), *words[:-3], "-o", "nowhere/events"]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.extras
def test_an_error_on_the_way_leaves_no_folder(analysis: gradlog.Analysis, folder: Path) -> None:
    pytest.importorskip("tensorboard")

    def runs() -> Iterator[gradlog.Analysis]:
        yield analysis
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        gradlog.export(runs(), "events", to="tensorboard")
    assert not list(folder.iterdir())


@pytest.mark.extras
@hostile
@given(names=several_names)
def test_parquet_and_tensorboard_keep_any_name(
    names: list[str], analysis: gradlog.Analysis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("tensorboard")
    place = tmp_path_factory.mktemp("names")
    named = renamed(analysis, names)
    gradlog.export(named, place / "run.parquet", to="parquet")
    found = parquet.read_table(place / "run.parquet").to_pylist()
    assert list(dict.fromkeys(line["tensor"] for line in found if line["scope"] == "tensor")) == names
    gradlog.export(named, place / "events", to="tensorboard")
    tags = set(events(place / "events" / "run").Tags()["scalars"])
    assert {f"energy/tensors/{name}" for name in names} <= tags
    assert "energy/total" in tags


@pytest.mark.parametrize("to", ["csv", *(pytest.param(to, marks=pytest.mark.extras) for to in TARGETS[1:])])
def test_names_that_are_no_unicode(to: str, analysis: gradlog.Analysis, tmp_path: Path) -> None:
    """Paths may hold any bytes."""
    odd = dataclasses.replace(
        analysis, run=dataclasses.replace(analysis.run, path=os.fsdecode(b"run-\xff.zarr"))
    )
    gradlog.export(renamed(odd, ["a\udcff", "b", "c"]), tmp_path / "out", to=to)
    if to == "csv":
        assert b"\nrun-\xff.zarr,tensor,a\xff," in (tmp_path / "out").read_bytes()
    elif to == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.read_table(tmp_path / "out")["tensor"].to_pylist().count("a\\udcff") > 1
    else:
        assert "energy/tensors/a\\udcff" in events(tmp_path / "out" / "run").Tags()["scalars"]
