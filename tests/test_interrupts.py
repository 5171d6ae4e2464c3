"""Signals that ask the process to end, at every stage of its life: no traceback, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import write_store

START = """
import atexit, os, signal, sys, time
def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    for _ in range(1000): pass  # a handler runs between two steps of the interpreter
{before}
from gradmf.cli.main import main
sys.exit(main())
"""
AT_IMPORT = """
class Sender:
    def find_spec(self, name, path, target=None):
        if name == {module!r}: send()
sys.meta_path.insert(0, Sender())
"""
AT_RUN = """
from gradmf.cli.commands.batch import Batch
def attempt(*_):
{body}
Batch.attempt = attempt
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    tensors = {name: rng.standard_normal((20, 9, 9)).astype("f4") for name in ("a", "b")}
    return write_store(tmp_path_factory.mktemp("logs") / "run.zarr", tensors)


def started(before: str, *arguments: str | Path, heeded: bool = True) -> subprocess.Popen[str]:
    # Where the tests run in the background, shells have told their children to ignore interrupts.
    handler = signal.default_int_handler if heeded else signal.SIG_IGN
    return subprocess.Popen(
        [sys.executable, "-c", START.format(before=before), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )


def run(before: str, *arguments: str | Path, heeded: bool = True) -> tuple[int, str]:
    """The exit code, and what was said on stderr."""
    with started(before, *arguments, heeded=heeded) as process:
        _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.parametrize(
    "module",
    [
        "gradmf.cli.terminal.interrupts", "gradmf.cli.terminal.terminal", "gradmf.cli.commands.analyze",
        "numpy", "numpy.exceptions", "zarr", "numcodecs.blosc", "llvmlite.binding",
    ],
)  # fmt: skip
def test_while_libraries_load(log: Path, module: str) -> None:
    assert run(AT_IMPORT.format(module=module), "analyze", log) == (130, "")


def test_in_a_finalizer_whose_exceptions_are_lost(log: Path) -> None:
    body = """
    class Finalized:
        def __del__(self): send()
    Finalized()
    time.sleep(30)
"""
    assert run(AT_RUN.format(body=body), "info", log) == (130, "")


def test_while_the_interpreter_ends(log: Path) -> None:
    """All is done by then: that the interrupt came too late is no fault."""
    assert run("atexit.register(send)", "info", log) == (0, "")
    assert run("atexit.register(send)", "info", log / "none")[0] == 1


def test_a_fault_on_the_way_out_is_not_told(log: Path) -> None:
    body = """
    try: send()
    except KeyboardInterrupt: raise ValueError("an error made of the interrupt")
"""
    assert run(AT_RUN.format(body=body), "info", log) == (130, "")


@pytest.mark.parametrize(("patience", "told"), [(60, "tidied\n"), (0, "")])
def test_a_second_one_ends_it_unless_it_belongs_to_the_first(log: Path, patience: int, told: str) -> None:
    body = f"""
    from gradmf.cli.terminal import interrupts
    interrupts._ONE_GESTURE_SECONDS = {patience}
    try: send()
    finally:
        send()
        print("tidied", file=sys.stderr)
"""
    assert run(AT_RUN.format(body=body), "info", log) == (130, told)


def test_it_is_ignored_where_the_shell_says_so(log: Path) -> None:
    assert run("atexit.register(send); send()", "info", log, heeded=False) == (0, "")


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_no_half_of_a_file_stays(log: Path, tmp_path: Path, name: str, code: int) -> None:
    out = tmp_path / "out.json"
    out.write_text("as it was")
    before = f"os.fsync = lambda _: send(signal.{name})"
    assert run(before, "info", log, "--format", "json", "-o", out) == (code, "")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert out.read_text() == "as it was"


@pytest.mark.parametrize("made", ["b/zarr.json", "c/0/0/0", "step/c/0"])
def test_no_half_of_a_sketch_stays(log: Path, tmp_path: Path, made: str) -> None:
    before = f"""
import zarr.storage
put = zarr.storage.LocalStore.set
async def slow_set(self, key, value, *rest):
    if key.endswith({made!r}): os.kill(os.getpid(), signal.SIGINT); time.sleep(0.02)
    await put(self, key, value, *rest)
zarr.storage.LocalStore.set = slow_set
"""
    assert run(before, "sketch", log, tmp_path / "sketch.zarr", "--dim", "64") == (130, "")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_has_just_been_made_goes(log: Path, tmp_path: Path) -> None:
    before = """
from pathlib import Path
mkdir = Path.mkdir
def mkdir_and_send(self, *rest, **others):
    mkdir(self, *rest, **others)
    if self.name.endswith(".tmp"): send()
Path.mkdir = mkdir_and_send
"""
    assert run(before, "sketch", log, tmp_path / "sketch.zarr", "--dim", "64") == (130, "")
    assert not list(tmp_path.iterdir())


def check_at(seconds: float, log: Path, *words: str) -> None:
    with started("", words[0], log, *words[1:]) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert f"{os.sep}cli{os.sep}" not in told, told
    if process.returncode not in (0, 130) or told:
        # Nothing of this project had a say yet: the interpreter itself was starting.
        assert process.returncode in (-signal.SIGINT, 1), told


@pytest.mark.parametrize("milliseconds", range(5, 400, 50))
def test_at_any_time(log: Path, milliseconds: int) -> None:
    check_at(milliseconds / 1000, log, "analyze")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("analyze",), ("info",), ("bounds",), ("advise",)], ids=lambda w: w[0])
def test_at_every_time(log: Path, words: tuple[str, ...]) -> None:
    for milliseconds in range(5, 600, 5):
        check_at(milliseconds / 1000, log, *words)
