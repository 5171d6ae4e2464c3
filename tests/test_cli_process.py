"""The command as a process: pipes, encodings, signals, stdin, what it imports."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from conftest import write_store

GRADMF = [sys.executable, "-m", "gradmf"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of noise with names beyond ASCII."""
    rng = np.random.default_rng(3)
    tensors = {f"bloc.é.{'x' * 70}.{i}": rng.standard_normal((30, 6)).astype(np.float32) for i in range(3)}
    return write_store(tmp_path_factory.mktemp("logs") / "bruit-é.zarr", tensors)


def environment(**changed: str) -> dict[str, str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")
    }
    return {**kept, "PYTHONIOENCODING": "utf-8", **changed}


def run(*arguments: str | Path, stdin: str = "", **changed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GRADMF, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env=environment(**changed),
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["analyze", "--help"], ["analyze", "x", "--epsilon", "2"]])
def test_help_and_wrong_usage_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from gradmf.cli.main import main; "
        f"main({arguments!r}); heavy = {{'numpy', 'zarr', 'numba', 'rich'}} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["analyze", "LOG", "LOG"], ["info", "LOG", "--format", "csv"]]
)
def test_a_closed_pipe_ends_quietly(log: Path, arguments: list[str], unbuffered: str) -> None:
    process = subprocess.Popen(
        [*GRADMF, *(str(log) if word == "LOG" else word for word in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED=unbuffered),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        told = process.stderr.read()
    assert (process.wait(60), told) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line(log: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*GRADMF, "info", str(log)], stdout=full, stderr=subprocess.PIPE, encoding="utf-8", timeout=60
        )
    assert (done.returncode, done.stderr) == (1, "gradmf: error: standard output: No space left on device\n")
    done = run("info", log, "-o", "/dev/full")
    assert (done.returncode, done.stderr) == (1, "gradmf: error: /dev/full: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["info", "--help"], ["--version"], ["completion", "bash"]])
def test_text_that_cannot_be_written_is_one_line(words: list[str]) -> None:
    for closed, reason in ((False, "No space left on device"), (True, "it is closed")):
        done = in_shell([*GRADMF, *words], ">&-" if closed else ">/dev/full")
        assert (done.returncode, done.stderr) == (1, f"gradmf: error: standard output: {reason}\n")


def in_shell(
    command: Sequence[str | Path], redirected: str = "", *, before: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The command with streams as the shell's words make them, after what `before` does."""
    line = f"{before}\n{shlex.join(map(str, command))} {redirected}"
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, encoding="utf-8", env=environment(), cwd=cwd, timeout=60
    )


def test_closed_streams(log: Path, tmp_path: Path) -> None:
    info = [*GRADMF, "info", log, "--format", "csv"]
    expected = in_shell(info).stdout
    done = in_shell(info, ">&-")
    assert (done.returncode, done.stderr) == (1, "gradmf: error: standard output: it is closed\n")
    done = in_shell(info, "2>&- <&-")
    assert (done.returncode, done.stdout) == (0, expected)
    # No file takes the number of a stream that others write to.
    done = in_shell([*info, log / "none", "-o", tmp_path / "out.csv"], ">&- 2>&- <&-")
    assert (done.returncode, (tmp_path / "out.csv").read_text()) == (1, expected)
    done = in_shell([*GRADMF, "info", log / "none"], "2>&-")
    assert (done.returncode, done.stdout) == (1, "")
    for words in (["info", "-"], ["merge", "-"], ["bounds", "-"]):
        done = in_shell([*GRADMF, *words], "<&-")
        assert (done.returncode, done.stderr) == (1, "gradmf: error: standard input: it is closed\n")


def test_a_stdin_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    # A file that is open for writing only.
    done = in_shell([*GRADMF, "info", "-", "-o", tmp_path / "out"], f"0>{shlex.quote(str(tmp_path))}/in")
    assert done.returncode == 1
    assert done.stderr.startswith("gradmf: error: standard input: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["info", "run.zarr"], "run.zarr: no such file or directory (the working directory is gone)"),
        (["analyze", "../x.zarr"], "../x.zarr: no such file or directory (the working directory is gone)"),
        (["info", "/x.zarr"], "/x.zarr: no such file or directory"),
        (["info", "LOG", "-o", "x"], "x: No such file or directory (the working directory is gone)"),
        (
            ["sketch", "LOG", "x", "--dim", "64"],
            "x: No such file or directory (the working directory is gone)",
        ),
        (["info", "LOG", "-o", "OUT"], ""),
    ],
)
def test_a_working_directory_that_is_gone(log: Path, tmp_path: Path, words: list[str], told: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    named = {"LOG": log, "OUT": tmp_path / "out"}
    command = [*GRADMF, *(named.get(word, word) for word in words)]
    done = in_shell(command, before=f"rmdir {shlex.quote(str(gone))}", cwd=gone)
    assert done.stderr == (f"gradmf: error: {told}\n" if told else "")
    assert done.returncode == (1 if told else 0)


@pytest.mark.parametrize("words", [["info", "LOG", "-o", "OUT"], ["sketch", "LOG", "OUT", "--dim", "64"]])
@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_place_without_room_or_rights_is_named(
    log: Path, tmp_path: Path, words: list[str], how: str
) -> None:
    """A limit on the size of files stands for a full disk: root writes wherever there is room."""
    if how == "closed" and os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    out = tmp_path / "out"
    command = [*GRADMF, *(str({"LOG": log, "OUT": out}.get(word, word)) for word in words)]
    tmp_path.chmod(0o500 if how == "closed" else 0o700)
    done = in_shell(command, before="ulimit -f 0" if how == "full" else "")
    tmp_path.chmod(0o700)
    reason = "File too large" if how == "full" else "Permission denied"
    assert (done.returncode, done.stderr) == (1, f"gradmf: error: {out}: {reason}\n")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_in_nobodys_way(log: Path, tmp_path: Path) -> None:
    """In a container, every process has the number of the one before."""
    script = (
        "import os, sys, pathlib; out = pathlib.Path(sys.argv[-1]); "
        "out.with_name(f'.{out.name}.{os.getpid()}.tmp').touch(); "
        "from gradmf.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", script, "info", str(log), "-o", str(tmp_path / "out")]
    assert subprocess.run(command, env=environment(), timeout=60).returncode == 0
    assert (tmp_path / "out").stat().st_size


def test_run_paths_from_stdin(log: Path) -> None:
    done = run("info", "-", "--format", "json", stdin=f"\n{log}\n\n{log}/none\n{log}\r\n")
    assert done.returncode == 1
    assert [document["path"] for document in json.loads(done.stdout)] == [str(log)] * 2
    assert done.stderr == f"gradmf: error: {log}/none: no such file or directory\n"
    done = run("info", "-", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert done.stderr == "gradmf: warning: no run paths on standard input\n"


def test_an_ascii_stdout_takes_everything(log: Path) -> None:
    table = run("analyze", log, PYTHONIOENCODING="ascii")
    assert (table.returncode, table.stderr) == (0, "")
    assert table.stdout.isascii()
    assert r"bloc.\xe9." in table.stdout
    document = run("analyze", log, "--format", "json", PYTHONIOENCODING="ascii").stdout
    assert document.isascii()
    assert json.loads(document)["run"]["path"] == str(log)
    assert "é" in run("analyze", log, "--format", "json").stdout


def test_a_path_that_is_no_utf8_makes_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [*GRADMF, "info", "-"],
        input=os.fsencode(tmp_path) + b"/r\xff.zarr",
        capture_output=True,
        env=environment(),
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(b"r\\udcff.zarr: no such file or directory\n")


def test_damaged_metadata_makes_no_traceback(tmp_path: Path) -> None:
    arrays = {f"tensor.{position}": np.ones((4, 3), "f4") for position in range(20)}
    log = write_store(tmp_path / "run.zarr", arrays)
    for metadata in log.glob("grads/*/zarr.json"):
        metadata.write_text(metadata.read_text().replace('"bytes"', '"unheard-of"'))
    done = run("analyze", log)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) <= 2
    assert str(log) in done.stderr


@pytest.mark.parametrize("to_file", [False, True])
def test_an_interrupt_ends_quietly_and_leaves_nothing(log: Path, tmp_path: Path, to_file: bool) -> None:
    # It waits for another path when the interrupt comes: the first run is surely done.
    process = subprocess.Popen(
        [*GRADMF, "info", "-", "--format", "jsonl", *(["-o", str(tmp_path / "out")] if to_file else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        # The error of a path that is not there tells that work has begun.
        process.stdin.write(f"{log}\n{tmp_path}/none\n")
        process.stdin.flush()
        assert "none" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == ""
        assert bool(process.stdout.read()) != to_file
    assert not list(tmp_path.iterdir())


def on_terminal(*arguments: str | Path, columns: int = 80, script: str = "", **changed: str) -> str:
    """What a terminal of that width gets from stdout and stderr."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-c", script] if script else GRADMF
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env=environment(COLUMNS=str(columns), **{"TERM": "xterm-256color", **changed}),
    )
    os.close(terminal)
    got = bytearray()
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:
            break
        if not piece:
            break
        got += piece
    os.close(controller)
    assert process.wait(60) == 0
    return got.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colour_and_fitting_lines(log: Path) -> None:
    text = on_terminal("analyze", log)
    assert "\x1b[1m" in text
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert any("…" in line for line in lines)
    assert any("───" in line for line in lines)


@pytest.mark.parametrize("how", ["NO_COLOR", "TERM", "--no-color"])
def test_colour_can_be_switched_off(log: Path, how: str) -> None:
    text = on_terminal(
        "info", log, *(["--no-color"] if how == "--no-color" else []),
        **{"NO_COLOR": {"NO_COLOR": "1"}, "TERM": {"TERM": "dumb"}}.get(how, {}),
    )  # fmt: skip
    assert "\x1b" not in text
    assert max(map(cell_len, text.splitlines())) <= 80
    assert ("───" in text) == (how != "TERM")


def test_progress_shows_on_a_terminal_only_and_goes_away(log: Path) -> None:
    impatient = (
        "import sys; from gradmf.cli.terminal import progress; progress.PATIENCE = 0; "
        "from gradmf.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    text = on_terminal("analyze", log, "-o", os.devnull, script=impatient)
    assert "100%" in text
    assert text.endswith("\x1b[2K")
    assert on_terminal("analyze", log, "-q", "-o", os.devnull, script=impatient) == ""
    assert on_terminal("analyze", log, "-o", os.devnull, script=impatient, TERM="dumb") == ""


def test_results_into_a_pipe_by_name(log: Path) -> None:
    done = run("info", log, "--format", "csv", "-o", "/dev/stdout")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("run,tensor,")


def test_a_place_that_takes_no_file_is_named(log: Path) -> None:
    done = run("info", log, "-o", "/proc/results")
    assert done.returncode == 1
    assert done.stderr.startswith("gradmf: error: /proc/results: ")
    assert done.stderr.count("\n") == 1


def test_a_gate_without_results_does_not_pass() -> None:
    done = run("analyze", "-", "--fail-if", "kappa[one-step] > 2")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        "gradmf: violated: no rule can be decided: there is no result to hold it against"
    )


def test_a_fault_in_the_first_hides_no_other(log: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{", encoding="utf-8")
    done = run("bounds", damaged, log, "--format", "json")
    assert done.returncode == 1
    assert done.stderr.startswith(f"gradmf: error: {damaged}, line 1: ")
    assert len(json.loads(done.stdout)) == 1


def test_results_from_one_file_are_a_list_where_it_holds_several(log: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    assert run("analyze", log, log, "--format", "jsonl", "--steps", "-o", held).returncode == 0
    for command in ("advise", "bounds"):
        assert len(json.loads(run(command, held, "--format", "json").stdout)) == 2


def test_a_wrong_command_gets_the_near_one() -> None:
    done = run("analyse", "run.zarr")
    assert done.returncode == 2
    assert done.stderr == "gradmf: error: no command 'analyse': did you mean analyze?\ntry 'gradmf --help'\n"


def test_parts_by_stdin_and_a_folder_of_parts(log: Path, tmp_path: Path) -> None:
    for part in ("1/2", "2/2"):
        assert run("analyze", log, "--part", part, "-o", tmp_path / f"part.{part[0]}").returncode == 0
    done = run("merge", "-", "--format", "json", stdin=f"{tmp_path}/part.2\n{tmp_path}/part.1\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["run"]["path"] == str(log)
    done = run("merge", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"gradmf: error: {tmp_path}: a folder: give the part files themselves, such as {tmp_path}/*\n"
    )
    done = run("merge", log)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gradmf: error: {log}: a Zarr store: give what gradmf analyze RUN --part ")
