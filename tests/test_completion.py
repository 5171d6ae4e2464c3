"""Completion: what gradmf answers, and what bash, zsh and fish make of it at a real prompt."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradmf.cli.commands.group import gradmf
from gradmf.cli.main import main
from gradmf.cli.options.computing import PREDICTORS
from gradmf.cli.terminal.shells import LINE, SHELLS, VARIABLE, WORD_BREAKS
from gradmf.gradlog import known_predictors, parse_predictor

PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with names that are hard on shells."""
    for name in (
        "runs/first.zarr",
        "runs/my run's.zarr",
        "runs/at 12:30.zarr",
        "runs/deep/a.zarr",
        ".hidden.zarr",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs" / "plain").mkdir()
    (tmp_path / "runs" / "plain" / "zarr.json").touch()
    (tmp_path / "runs" / "packed.zip").touch()
    (tmp_path / "runs" / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str, shell: str = "zsh"
) -> list[list[str]]:
    """Kind, value and description of each completion of a line."""
    monkeypatch.setenv(VARIABLE, f"{shell}_complete")
    monkeypatch.setenv(LINE, line)
    monkeypatch.setenv(WORD_BREAKS, " \t\n\"'><=;|&(:")
    assert main([]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return [reply.split("\t") for reply in out.splitlines() if reply]


def values(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str) -> list[str]:
    return [reply[1] for reply in answers(monkeypatch, capfd, line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gradmf ana", ["analyze"]),
        ("gradmf analyze --pred", ["--predictor"]),
        ("gradmf analyze --predictor ema:", ["ema:0.5", "ema:0.9", "ema:0.99"]),
        ("gradmf analyze x --rank inc", ["incremental"]),
        ("gradmf analyze --rank=inc", ["--rank=incremental"]),
        ("gradmf info --format js", ["json", "jsonl"]),
        ("gradmf completion ", ["bash", "fish", "zsh"]),
        ("gradmf analyze --epsilon 0.0", ["0.05", "0.01"]),
        ("gradmf no-such-command x", []),
        ("gradmf analyze --fail-if eff", ["effective_rank", "effective_rows"]),
        ("gradmf analyze --fail-if 'rank[0.0", ["rank[0.05]", "rank[0.01]"]),
        ("gradmf compare a b --epsilon 0.2 --fail-if 'rank", ["rank[0.2]"]),
        (
            "gradmf analyze --columns run,parti",
            [f"run,participation_ratio{end}" for end in ("", "_lower", "_upper")],
        ),
        ("gradmf info --columns sh", ["shape", "shards"]),
    ],
)
def test_words_are_completed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str, expected: list[str]
) -> None:
    assert values(monkeypatch, capfd, line) == expected


def test_every_command_and_its_options_are_offered(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = answers(monkeypatch, capfd, "gradmf ")
    assert {"analyze", "info", "completion"} <= {reply[1] for reply in commands}
    assert all(len(reply) == 3 for reply in commands)
    for _, command, _ in commands:
        monkeypatch.delenv(VARIABLE)
        assert main([command, "--help"]) == 0
        shown = capfd.readouterr().out
        for option in values(monkeypatch, capfd, f"gradmf {command} --"):
            assert option in shown


def test_predictors_offered_are_known_and_of_every_kind() -> None:
    for spec in PREDICTORS:
        assert parse_predictor(spec).spec == spec
    kinds = {spec.partition(":")[0] for spec in PREDICTORS}
    assert kinds == {shown.partition(":")[0] for shown in known_predictors()}


def test_runs_are_stores_and_folders(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], runs: Path
) -> None:
    assert answers(monkeypatch, capfd, "gradmf info ru") == [["open", "runs/"]]
    assert answers(monkeypatch, capfd, "gradmf info runs/first.zarr runs/") == [
        ["plain", r"runs/at\ 12:30.zarr"],
        ["open", "runs/deep/"],
        ["plain", "runs/first.zarr"],
        ["plain", r"runs/my\ run\'s.zarr"],
        ["plain", "runs/packed.zip"],
        ["plain", "runs/plain"],
    ]
    (runs / "runs" / "first.jsonl").touch()
    assert values(monkeypatch, capfd, "gradmf info runs/fi") == ["runs/first.zarr"]
    assert values(monkeypatch, capfd, "gradmf compare runs/fi") == ["runs/first.jsonl", "runs/first.zarr"]
    assert values(monkeypatch, capfd, "gradmf info .h") == [".hidden.zarr"]
    assert values(monkeypatch, capfd, f"gradmf info {runs}/runs/f") == [f"{runs}/runs/first.zarr"]
    monkeypatch.setenv("HOME", str(runs))
    assert values(monkeypatch, capfd, "gradmf info ~/runs/f") == ["~/runs/first.zarr"]
    assert values(monkeypatch, capfd, "gradmf info no/such/folder/") == []
    assert values(monkeypatch, capfd, 'gradmf info "runs/my r') == ["runs/my run's.zarr"]
    assert values(monkeypatch, capfd, r"gradmf info runs/my\ r") == [r"runs/my\ run\'s.zarr"]


def test_bash_gets_what_follows_a_colon(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], runs: Path
) -> None:
    assert [r[1] for r in answers(monkeypatch, capfd, "gradmf analyze --predictor ema:0.99", "bash")] == [
        "0.99"
    ]
    assert [r[1] for r in answers(monkeypatch, capfd, "gradmf analyze --rank=ex", "bash")] == ["exact"]
    assert (runs / "runs").is_dir()
    assert [r[1] for r in answers(monkeypatch, capfd, r"gradmf info runs/at\ 12:", "bash")] == ["30.zarr"]


def test_a_file_is_left_to_the_shell(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert answers(monkeypatch, capfd, "gradmf info x -o out") == [["file", "out"]]


@pytest.mark.parametrize("shell", sorted(SHELLS))
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gradmf ", ([], "")),
        ("gradmf info a", (["info"], "a")),
        ("gradmf info 'a b' ", (["info", "a b"], "")),
        ("gradmf info 'a b", (["info"], "a b")),
        ("gradmf analyze --predictor ema:0.", (["analyze", "--predictor"], "ema:0.")),
    ],
)
def test_lines_are_split_at_the_cursor(
    monkeypatch: pytest.MonkeyPatch, shell: str, line: str, words: tuple[list[str], str]
) -> None:
    monkeypatch.setenv(LINE, line)
    assert SHELLS[shell](gradmf, {}, "gradmf", VARIABLE).get_completion_args() == words


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_the_script_of_a_shell_is_that_of_its_class(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], shell: str
) -> None:
    assert main(["completion", shell]) == 0
    script = capfd.readouterr().out
    assert script == SHELLS[shell](gradmf, {}, "gradmf", VARIABLE).source()
    monkeypatch.setenv(VARIABLE, f"{shell}_source")  # as with every other program of click's
    assert main([]) == 0
    assert capfd.readouterr().out.rstrip("\n") == script.rstrip("\n")  # click before 8.2 ends the line again


def test_completing_imports_nothing_heavy(runs: Path) -> None:
    script = (
        "import sys; from gradmf.cli.main import main; main([]); "
        "heavy = {'numpy', 'zarr', 'numba', 'rich'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    for line in ("gradmf ", "gradmf analyze --", "gradmf analyze --predictor ", f"gradmf info {runs}/runs/"):
        environment = {**os.environ, VARIABLE: "bash_complete", LINE: line}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


STARTED = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
PREPARED = {
    "bash": "source ./script",
    "zsh": "autoload -Uz compinit && compinit -u -D; bindkey -e; source ./script",
    "fish": "source ./script",
}


def at_prompt(shell: str, typed: str, folder: Path) -> str:
    """The words that a shell's prompt holds once `typed` has been typed, each in angle brackets."""
    (folder / "script").write_text(SHELLS[shell](gradmf, {}, "gradmf", VARIABLE).source())
    controller, terminal = pty.openpty()
    environment = {
        **os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "TERM": "xterm",
        "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "PS1": "> ",
    }  # fmt: skip
    process = subprocess.Popen(
        STARTED[shell], stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder, env=environment,
        start_new_session=True, preexec_fn=lambda: _control(terminal),
    )  # fmt: skip
    os.close(terminal)
    try:
        os.write(controller, f"{PREPARED[shell]}; echo rea''dy\r".encode())
        _read_until(controller, "ready")
        # To the beginning of what stands there, a command that shows the words, and on its way.
        os.write(controller, f"{typed}\x01printf '<%s>' \x05; echo do''ne\r".encode())
        text = _read_until(controller, "done")
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    return text.replace("\r", "").rpartition("<gradmf>")[2].partition("done")[0]


def _control(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _read_until(controller: int, mark: str, patience: int = 300) -> str:
    """What comes up to `mark`. patience : fifths of a second in which nothing comes; a halt is none"""
    got = b""
    while mark.encode() not in got:
        if not select.select([controller], [], [], 0.2)[0]:
            patience -= 1
            assert patience > 0, got.decode(errors="replace")
            continue
        piece = os.read(controller, 65536)
        got += piece
        if b"\x1b[c" in piece or b"\x1b[0c" in piece:  # fish asks what terminal this is
            os.write(controller, b"\x1b[?62c")
    return got.decode(errors="replace")


@pytest.mark.parametrize("shell", sorted(STARTED))
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("gradmf ana\t", "<analyze>"),
        ("gradmf analyze --predi\tema-d\t", "<analyze><--predictor><ema-debiased:0.9>"),
        ("gradmf analyze --predictor ema-debiased:0\t", "<analyze><--predictor><ema-debiased:0.9>"),
        ("gradmf info ru\tfi\t--truncate", "<info><runs/first.zarr><--truncate>"),
        ("gradmf info runs/my\t--truncate", "<info><runs/my run's.zarr><--truncate>"),
        ("gradmf info runs/at\\ 12:\t", "<info><runs/at 12:30.zarr>"),
        ("gradmf info -o runs/not\t", "<info><-o><runs/notes.txt>"),
    ],
)
def test_at_a_real_prompt(shell: str, typed: str, expected: str, runs: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert at_prompt(shell, typed, runs) == expected
