"""`gradmf analyze` and `gradmf info` in this process: options, formats, several runs, files, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import click
import numpy as np
import pytest

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.commands.group import gradmf
from gradmf.cli.main import main
from gradmf.cli.options.computing import RANK_METHODS
from gradmf.cli.options.values import memory_size, row_range

FORMATS = ("table", "json", "jsonl", "csv", "markdown")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Paths of a log of noise, a shorter one, one with a NaN, one of uneven tensors, and of nothing."""
    folder = tmp_path_factory.mktemp("logs")
    rng = np.random.default_rng(7)

    def tensors(rows: int) -> dict[str, Any]:
        return {
            "layer.weight": rng.standard_normal((rows, 12, 5)).astype(np.float32),
            "layer.bias": rng.standard_normal((rows, 5)).astype(np.float32) / 10,
        }

    broken = tensors(20)
    broken["layer.bias"][13, 2] = np.nan
    paths = {
        "noise": write_store(folder / "noise.zarr", tensors(40), step=range(351, 391)),
        "short": write_store(folder / "short.zarr", tensors(25)),
        "nan": write_store(folder / "nan.zarr", broken),
        "ragged": write_store(
            folder / "ragged.zarr", {"a": np.ones((9, 4), "f4"), "b": np.ones((7, 4), "f4")}, marked=False
        ),
        "nothing": folder / "nothing.zarr",
    }
    return SimpleNamespace(**{name: str(path) for name, path in paths.items()})


class Ran:
    """What a command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str | Path) -> Ran:
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capfd.readouterr())

    return call


def strict_json(text: str) -> Any:
    def refuse(name: str) -> NoReturn:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("command", ["analyze", "info"])
def test_every_format_leaves_stderr_empty(run: Any, logs: SimpleNamespace, command: str, format: str) -> None:
    ran = run(command, logs.noise, "--format", format)
    assert (ran.code, ran.err) == (0, "")
    assert logs.noise in ran.out
    assert ran.out.endswith("\n")
    assert "\x1b" not in ran.out


def test_json_is_the_document(run: Any, logs: SimpleNamespace) -> None:
    document = strict_json(run("analyze", logs.noise, "--format", "json").out)
    analysis = gradlog.analyze(logs.noise)
    assert document == gradlog.analysis_document(analysis, findings=gradlog.find(analysis))
    assert document["steps"]["step"][-1] == 390


def test_formats_agree(run: Any, logs: SimpleNamespace) -> None:
    document = strict_json(run("analyze", logs.noise, "--format", "jsonl").out)
    assert "steps" not in document
    total, *tensors = csv.DictReader(io.StringIO(run("analyze", logs.noise, "--format", "csv").out))
    assert [row["tensor"] for row in tensors] == [tensor["name"] for tensor in document["tensors"]]
    for row, scope in zip((total, *tensors), (document["total"], *document["tensors"]), strict=True):
        for result in scope["predictors"]:
            assert float(row[f"kappa[{result['predictor']}]"]) == result["kappa"]
        for rank in scope["spectrum"]["rank"]:
            assert int(row[f"rank[{rank['epsilon']}]"]) == rank["rank"]
        assert float(row["stable_rank"]) == scope["spectrum"]["stable_rank"]


def test_steps_go_with_json_lines(run: Any, logs: SimpleNamespace) -> None:
    with_steps = run("analyze", logs.noise, "--format", "jsonl", "--steps")
    assert with_steps.out.count("\n") == 1
    assert len(strict_json(with_steps.out)["steps"]["cosine"]) == 40
    ran = run("analyze", logs.noise, "--steps")
    assert (ran.code, ran.out) == (2, "")
    assert "--steps goes with --format jsonl" in ran.err


def test_options_reach_the_settings(run: Any, logs: SimpleNamespace) -> None:
    ran = run(
        "analyze", logs.noise, "--format", "json",
        "--rows", "-20:", "--tensor", "layer.*", "--exclude", "*.bias",
        "--predictor", "mean:3", "--predictor", "ema-debiased:0.5", "--epsilon", "0.2", "--epsilon", "0",
        "--rank", "sketch", "--nonfinite", "drop", "--truncate", "--strict", "--threads", "2",
        "--sketch-dim", "256", "--seed", "3", "--gradients", "*", "--repeated", "last",
    )  # fmt: skip
    document = strict_json(ran.out)
    assert document["settings"] == {
        "predictors": ["mean:3", "ema-debiased:0.5"],
        "epsilons": [0.2, 0.0],
        "rank": "sketch",
        "tensors": ["layer.*"],
        "exclude": ["*.bias"],
        "rows": [-20, None],
        "nonfinite": "drop",
        "repeated": "last",
        "truncate": True,
        "gradients": ["*"],
        "strict": True,
        "sketch_dim": 256,
        "seed": 3,
        "project": None,
    }
    assert document["run"]["rows"] == 20
    assert [tensor["name"] for tensor in document["tensors"]] == ["layer.weight"]
    assert [rank["epsilon"] for rank in document["total"]["spectrum"]["rank"]] == [0.2, 0.0]


def test_resources_reach_the_analysis(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    seen: dict[str, Any] = {}

    def analyze(run: str, settings: gradlog.Settings, **given: Any) -> NoReturn:
        seen.update(given, run=run, settings=settings)
        raise gradlog.DataError("enough")

    monkeypatch.setattr(gradlog, "analyze", analyze)
    ran = run("analyze", "x", "--memory", "1.5GiB", "--threads", "3")
    assert (ran.code, ran.out, ran.err) == (1, "", "gradmf: error: x: enough\n")
    assert (seen["memory"], seen["threads"], seen["progress"]) == (3 << 29, 3, None)
    run("analyze", "x")
    assert (seen["memory"], seen["threads"]) == (1 << 30, None)
    assert seen["settings"] == gradlog.Settings()


def test_help_states_the_defaults_that_hold() -> None:
    with click.Context(gradmf) as context:
        command = gradmf.get_command(context, "analyze")
    assert command is not None
    helps = {option.name: option.help for option in command.params if isinstance(option, click.Option)}
    defaults = gradlog.Settings()
    assert f"[default: {', '.join(defaults.predictors)}]" in (helps["predictor"] or "")
    assert f"[default: {', '.join(map(str, defaults.epsilons))}]" in (helps["epsilon"] or "")
    for shown in gradlog.known_predictors():
        assert shown == "zero" or shown in (helps["predictor"] or "")


@pytest.mark.parametrize("method", RANK_METHODS)
def test_every_rank_method_offered_is_known(run: Any, logs: SimpleNamespace, method: str) -> None:
    document = strict_json(run("analyze", logs.noise, "--format", "json", "--rank", method).out)
    assert (document["total"]["spectrum"] is None) == (method == "none")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512M", 512 << 20), ("1GiB", 1 << 30), ("1gb", 1 << 30), ("1.5 K", 1536), ("2T", 2 << 40)],
)
def test_memory_sizes(text: str, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize(
    ("text", "rows"), [("10:20", (10, 20)), (":20", (None, 20)), ("-5:", (-5, None)), (":", (None, None))]
)
def test_row_ranges(text: str, rows: tuple[int | None, int | None]) -> None:
    assert row_range(text) == rows


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--epsilon", "1"], "at least 0 and below 1"),
        (["--epsilon", "nan"], "at least 0 and below 1"),
        (["--epsilon", "much"], "at least 0 and below 1"),
        (["--rows", "5"], "100:200"),
        (["--rows", "1:2:3"], "100:200"),
        (["--memory", "lots"], "512M, 1G or 1.5GiB"),
        (["--memory", "0"], "512M, 1G or 1.5GiB"),
        (["--threads", "0"], "x>=1"),
        (["--rank", "best"], "'auto', 'exact', 'incremental', 'sketch', 'none'"),
        (["--format", "yaml"], "'table', 'json', 'jsonl', 'csv', 'markdown'"),
        (["--nonfinite", "keep"], "'fail', 'drop'"),
        (["-o", "/nowhere/at/all.txt"], "no folder '/nowhere/at'"),
        (["-o", "."], "is a folder"),
        (["--predictor", "oracle"], "one-step, ema:B"),
        (["--predictor", "ema:1.5"], "ema:1.5"),
    ],
)
def test_wrong_usage_is_told_once_and_before_any_run(run: Any, arguments: list[str], allowed: str) -> None:
    ran = run("analyze", "no-such-run", "nor-this", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert allowed in ran.err
    assert ran.err.startswith("gradmf: error: ")
    assert "no-such-run" not in ran.err
    assert ran.err.count("\n") <= 2


def test_a_command_is_needed_and_must_exist(run: Any) -> None:
    assert run("analyze").code == 2
    assert "no command 'analyse'" in run("analyse").err
    assert "gradmf analyze run.zarr" in run("--help").out


def test_version(run: Any) -> None:
    assert run("--version").out == f"gradmf {gradlog.__version__}\n"


@pytest.mark.parametrize("command", ["analyze", "info", "merge"])
def test_help_has_two_examples(run: Any, command: str) -> None:
    ran = run(command, "-h")
    assert ran.code == 0
    assert (
        len(re.findall(rf"^  +.*gradmf {command} .*$", ran.out.partition("Examples:")[2], re.MULTILINE)) == 2
    )


def test_one_failing_run_does_not_stop_the_others(run: Any, logs: SimpleNamespace) -> None:
    ran = run("analyze", logs.noise, logs.nan, logs.nothing, logs.noise, "--format", "jsonl")
    assert ran.code == 1
    assert [strict_json(line)["run"]["path"] for line in ran.out.splitlines()] == [logs.noise] * 2
    first, second = ran.err.splitlines()
    assert logs.nan in first
    assert "layer.bias" in first
    assert second == f"gradmf: error: {logs.nothing}: no such file or directory"


def test_the_largest_exit_code_wins(run: Any, logs: SimpleNamespace) -> None:
    ran = run("analyze", logs.noise, logs.short, logs.nothing, "--rows", "30:", "--format", "csv")
    assert ran.code == 2
    assert ran.out.count("\n") == 4
    assert len(ran.err.splitlines()) == 2


def test_several_runs_are_a_list_also_when_some_fail(run: Any, logs: SimpleNamespace) -> None:
    for command in ("analyze", "info"):
        documents = strict_json(run(command, logs.noise, logs.short, "--format", "json").out)
        assert len(documents) == 2
        assert len(strict_json(run(command, logs.noise, logs.nothing, "--format", "json").out)) == 1
        assert strict_json(run(command, logs.nothing, logs.nothing, "--format", "json").out) == []
        assert run(command, logs.nothing, "--format", "json").out == ""
        assert run(command, logs.nothing, logs.nothing, "--format", "csv").out == ""


def test_several_runs_have_one_csv_header_and_a_heading_each(run: Any, logs: SimpleNamespace) -> None:
    rows = list(csv.DictReader(io.StringIO(run("analyze", logs.noise, logs.short, "--format", "csv").out)))
    assert [row["run"] for row in rows] == [logs.noise] * 3 + [logs.short] * 3
    table = run("analyze", logs.noise, logs.short).out
    assert table.startswith(f"{logs.noise}\n")
    assert f"\n\n{logs.short}\n" in table
    assert run("analyze", logs.noise, logs.short, "--format", "markdown").out.count("\n## ") == 1


def test_warnings_are_told_in_every_format_and_name_the_run_of_several(
    run: Any, logs: SimpleNamespace
) -> None:
    for format in FORMATS:
        ran = run("analyze", logs.ragged, "--truncate", "-q", "--format", format)
        assert ran.code == 0
        assert re.fullmatch(r"gradmf: warning: tensor 'b' has 7 rows.*\n", ran.err)
    ran = run("analyze", logs.ragged, logs.noise, "--truncate", "--format", "csv")
    assert ran.err.startswith(f"gradmf: warning: {logs.ragged}: tensor 'b'")


def test_quiet_leaves_out_the_explanation_only(run: Any, logs: SimpleNamespace) -> None:
    loud, quiet = run("analyze", logs.noise).out, run("analyze", logs.noise, "-q").out
    assert "possible directions" in loud
    assert "possible directions" not in quiet
    assert "Path length" in quiet


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_holds_what_stdout_would(run: Any, logs: SimpleNamespace, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    ran = run("info", logs.noise, logs.short, "--format", format, "-o", out)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert out.read_text() == run("info", logs.noise, logs.short, "--format", format).out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_stays_as_it_was_when_all_fails(run: Any, logs: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run("analyze", logs.nothing, "--format", "json", "-o", out).code == 1
    assert not list(tmp_path.iterdir())
    out.write_text("before")
    assert run("analyze", logs.nothing, logs.nan, "--format", "json", "-o", out).code == 1
    assert out.read_text() == "before"
    assert run("analyze", logs.nothing, logs.short, "--format", "json", "-o", out).code == 1
    assert len(strict_json(out.read_text())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_file_is_replaced_through_a_link_and_keeps_its_rights(
    run: Any, logs: SimpleNamespace, tmp_path: Path
) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    out.write_text("before")
    out.chmod(0o640)
    link.symlink_to(out)
    assert run("info", logs.noise, "-o", link).code == 0
    assert link.is_symlink()
    assert "Tensors" in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o640


def test_a_device_is_not_replaced(run: Any, logs: SimpleNamespace) -> None:
    assert run("info", logs.noise, "-o", os.devnull).code == 0
    assert not Path(os.devnull).is_file()


def test_dash_as_file_is_stdout(run: Any, logs: SimpleNamespace) -> None:
    assert "Tensors" in run("info", logs.noise, "-o", "-").out


def test_a_fault_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def analyze(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(gradlog, "analyze", analyze)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["analyze", "x"])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MemoryError("Unable to allocate 8 TiB"), 2, "x: out of memory (Unable to allocate 8 TiB)"),
        (PermissionError(13, "Permission denied", "x/zarr.json"), 1, "x/zarr.json: Permission denied"),
        (gradlog.MemoryLimitError("x: needs 8 TiB; try --rows"), 2, "x: needs 8 TiB; try --rows"),
        (gradlog.StoreNotFoundError("gone\x1b[31m"), 1, r"x: gone\x1b[31m"),
    ],
)
def test_other_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, run: Any, error: Exception, code: int, said: str
) -> None:
    def analyze(*_: Any, **__: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(gradlog, "analyze", analyze)
    ran = run("analyze", "x")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(f"gradmf: error: {said}")
    assert ran.err.count("\n") == 1


def test_info_reads_no_gradients(run: Any, tmp_path: Path) -> None:
    log = write_store(tmp_path / "run.zarr", {"w": np.ones((8, 4), "f4")}, chunks={"w": (4, 4)})
    for chunk in (log / "grads" / "w" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    ran = run("info", log, "--format", "json")
    assert ran.code == 0
    [tensor] = strict_json(ran.out)["tensors"]
    assert (tensor["chunks"], tensor["expected_chunks"], tensor["absent_chunks"]) == ([4, 4], 2, 0)
    assert run("analyze", log).code == 1
