"""Peak memory of whole commands that follow subspaces, on logs of four times what they are given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import foreign_store, walk
from test_memory import MB, ZSTD, assert_within, large_store

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from /proc")
MEMORY = 64 * MB
SCRIPT = """
import sys
from gradmf.cli.main import main
code = main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def peak(folder: Path, *words: str | Path) -> int:
    """Peak bytes of a process that runs the command."""
    options = ["--threads", "2", "-q", "--format", "json", "-o", folder / "out.json", "--memory", "64M"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words, *options], capture_output=True, text=True, check=True
    )
    return int(done.stdout) << 10


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 268 MB."""
    return large_store(tmp_path_factory.mktemp("large") / "run.zarr", 256, 262_144, (64, 8192), **ZSTD)


COMMANDS: dict[str, Callable[[Path], list[str | Path]]] = {
    "compare": lambda path: ["compare", path, path],
    "exact": lambda path: ["analyze", path, "--rank", "exact"],
    "none": lambda path: ["analyze", path, "--rank", "none"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_memory_is_kept_to(command: str, large: Path, tmp_path: Path) -> None:
    small = foreign_store(tmp_path / "small.zarr", {"w": walk(40, (10,), 1)})
    words = COMMANDS[command]
    base = peak(tmp_path, *words(small), "--subspace", "8")
    assert_within(peak(tmp_path, *words(large), "--subspace", "8"), MEMORY, base)
