"""--columns of csv, and -o: whole files, their rights, and what stays when something fails."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_render_report import made_analysis, made_description

from conftest import write_store
from gradmf.cli.formats import as_csv
from gradmf.cli.main import main
from gradmf.cli.terminal import output
from gradmf.gradlog import Settings, Vocabulary

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    noise = np.random.default_rng(5).standard_normal((12, 4, 3)).astype(np.float32)
    return str(write_store(tmp_path_factory.mktemp("logs") / "a.zarr", {"w": noise, "v": noise[:, 0]}))


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_the_columns_are_known_before_anything_is_read() -> None:
    analysis = made_analysis()
    specs = [predictor.predictor for predictor in analysis.total.predictors]
    [header, *_] = table("".join(as_csv.write_analyses([analysis])))
    assert tuple(header) == as_csv.analysis_columns(specs, analysis.settings.epsilons)
    [header, *_] = table("".join(as_csv.write_descriptions([made_description()])))
    assert tuple(header) == as_csv.DESCRIPTION_COLUMNS


def test_columns_come_in_the_order_asked_for(run: Run, log: str) -> None:
    everything = table(run("analyze", log, "--format", "csv", "--predictor", "ema:0.50")[1])
    assert everything[0][7:11] == [f"{q}[zero]" for q in ("path_length", "kappa", "scaled_kappa", "scale")]
    code, out, err = run(
        "analyze", log, "--format", "csv", "--predictor", "ema:0.50",
        "--columns", "rank[0.05], kappa[*],run,kappa[zero]",
    )  # fmt: skip
    assert (code, err) == (0, "")
    names = ["rank[0.05]", "kappa[zero]", "kappa[ema:0.5]", "run"]
    wanted = [everything[0].index(name) for name in names]
    assert table(out) == [[row[at] for at in wanted] for row in everything]


def test_columns_of_info(run: Run, log: str) -> None:
    assert run("info", log, "--format", "csv", "--columns", "tensor,rows")[1] == "tensor,rows\nv,12\nw,12\n"


def test_help_lists_the_columns(run: Run) -> None:
    known = Vocabulary.of(Settings())
    code, out, _ = run("analyze", "no-such-run", "--columns", "help")
    assert (code, out.splitlines()) == (0, list(as_csv.analysis_columns(known.predictors, known.epsilons)))
    assert run("info", "no-such-run", "--columns", "help")[1].splitlines() == list(as_csv.DESCRIPTION_COLUMNS)


@pytest.mark.parametrize(
    ("command", "asked", "told"),
    [
        ("analyze", "run,kapa[one-step]", "no column 'kapa[one-step]'; near are kappa[one-step]"),
        ("analyze", "kappa[ema:0.7]", "near are kappa[ema:0."),
        ("analyze", "kappa.one-step.", "no column"),
        ("analyze", "nothing*", "no column 'nothing*'. --columns help"),
        ("info", "kappa[one-step]", "no column 'kappa[one-step]'"),
    ],
)
def test_an_unknown_column_is_told_before_anything_is_read(
    run: Run, command: str, asked: str, told: str
) -> None:
    code, out, err = run(command, "no-such-run", "--format", "csv", "--columns", asked)
    assert (code, out) == (2, "")
    assert told in err
    assert "no-such-run" not in err


def test_columns_are_of_csv(run: Run) -> None:
    assert (
        "goes with --format csv, not with json" in run("info", "x", "--format", "json", "--columns", "run")[2]
    )


def test_a_new_file_has_the_rights_that_the_umask_leaves(log: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    subprocess.run(
        ["sh", "-c", f"umask 027; exec '{sys.executable}' -m gradmf info '{log}' -o '{out}'"], check=True
    )
    assert out.stat().st_mode & 0o777 == 0o640


def test_a_part_keeps_the_rights_of_the_file_before(run: Run, log: str, tmp_path: Path) -> None:
    out = tmp_path / "part.1"
    out.write_text("before")
    out.chmod(0o604)
    assert run("analyze", log, "--part", "1/1", "-o", out)[0] == 0
    assert out.stat().st_mode & 0o777 == 0o604
    assert run("merge", out, "--format", "csv", "--columns", "rows")[1] == "rows\n12\n12\n12\n"


def test_a_file_is_on_disk_before_it_has_its_name(
    run: Run, log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")
    synced: list[tuple[int, str]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_size, out.read_text()))

    monkeypatch.setattr(output.os, "fsync", watched)
    assert run("info", log, "--format", "csv", "-o", out)[0] == 0
    assert synced == [(out.stat().st_size, "before")]


def test_a_file_that_cannot_be_finished_leaves_the_one_before(
    run: Run, log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.os, "fsync", full)
    code, _, err = run("info", log, "--format", "csv", "-o", out)
    assert (code, err) == (1, f"gradmf: error: {out}: No space left on device\n")
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
