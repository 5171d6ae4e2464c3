"""Compiled kernels are kept between processes: made once, checked when read, done without where need be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import numpy as np
from gradmf.kernels import fused_pass as f, pass_layout
history = pass_layout.new_history(3, 1, 0)
sums = np.zeros((2, pass_layout.sum_columns(0)))
block = np.array([[1, 2, 3], [2, 4, 6]], {dtype!r})
f.fused_pass(block, 0, 3, 0, history, 1, np.zeros(0), np.zeros((0, 2, 1)), sums, True)
print(sums[:, :3].tolist(), block.tolist(), "numba" in sys.modules)
"""
SMALL = """
import ctypes, sys, time
from pathlib import Path
from gradmf.kernels import machine_code

def compiled():
    global made
    made = True
    time.sleep({slow})
    return "twice", "define double @twice(double %x) {{\\n  %y = fadd double %x, %x\\n  ret double %y\\n}}"

made = False
address = machine_code.address_of("twice", [Path(machine_code.__file__)], compiled)
print(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(1.5), made)
"""
"""A function that takes no time to compile: how machine code is kept has nothing to do with what it is of."""
SUMS = [[14.0, 0.0, 0.0], [56.0, 28.0, 14.0]]
BLOCK = [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]


def run(cache: Path, dtype: str = "f4", **changed: str) -> bool:
    """Run the kernel in a process of its own; whether Numba was imported."""
    done = start(cache, SCRIPT.format(dtype=dtype), **changed)
    told, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    assert told.startswith(f"{SUMS} {BLOCK} ")
    return told.split()[-1] == "True"


def start(cache: Path, script: str, **changed: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **changed}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True, env=environment
    )


def compiles(cache: Path, **changed: str) -> bool:
    """Call a small function in a process of its own; whether it was compiled there."""
    done = start(cache, SMALL.format(slow=0), **changed)
    told, errors = done.communicate(timeout=120)
    assert done.returncode == 0, errors
    assert told.startswith("3.0 ")
    return told.split()[-1] == "True"


def objects(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.o"))


def test_later_processes_do_without_numba(tmp_path: Path) -> None:
    assert run(tmp_path)
    assert not run(tmp_path)
    assert len(objects(tmp_path)) == 1
    assert not list(tmp_path.rglob("*.nbi"))  # it would not see changes of constants in other modules


@pytest.mark.slow
def test_each_type_of_blocks_has_machine_code_of_its_own(tmp_path: Path) -> None:
    assert run(tmp_path)
    assert run(tmp_path, "f8")
    assert len(objects(tmp_path)) == 2
    assert not run(tmp_path, "f8")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no-lines"])
def test_a_damaged_object_file_is_made_again(tmp_path: Path, damage: str) -> None:
    compiles(tmp_path)
    (path,) = objects(tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes({"cut": whole[:-100], "flipped": flipped, "empty": b"", "no-lines": b"abc"}[damage])
    assert compiles(tmp_path)
    assert not compiles(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The other ways in which there is no place for them are those of test_no_home.py."""
    (tmp_path / "file").write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    assert compiles(tmp_path / "file" / "cache", TMPDIR=str(temporary))
    assert not compiles(tmp_path / "file" / "cache", TMPDIR=str(temporary))
    assert len(list(temporary.glob("gradmf-*/numba-*/*.o"))) == 1


def test_an_object_file_that_others_can_write_is_made_again(tmp_path: Path) -> None:
    compiles(tmp_path)
    (path,) = objects(tmp_path)
    path.chmod(0o666)
    assert compiles(tmp_path)
    assert not compiles(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_processes_that_start_together(tmp_path: Path) -> None:
    processes = [start(tmp_path, SMALL.format(slow=0.5)) for _ in range(8)]
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, told
    assert len(objects(tmp_path)) == 1
    assert sum(text.endswith("True\n") for text, _ in told) == 1


def test_without_the_jit(tmp_path: Path) -> None:
    assert run(tmp_path, NUMBA_DISABLE_JIT="1")
    assert not objects(tmp_path)
