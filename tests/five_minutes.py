"""The five-minute path of the README: what a beginner pastes, run in an empty folder.

python tests/five_minutes.py README.md       # writes its outputs anew, where PyTorch is installed
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_SCRIPT = re.compile(r"^```python file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```console five minutes\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of the block, and the output that stands under it."""
    (block,) = _BLOCK.findall(text)
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        found.append((command, output))
    return found


def run(text: str, folder: Path) -> list[str]:
    """What the commands print, one after the other, beside the scripts of the document."""
    for name, script in _SCRIPT.findall(text):
        (folder / name).write_text(script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", "PYTHONUTF8": "1"}
    printed = []
    for command, _ in commands(text):
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, text=True, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = [line.rstrip() for line in done.stdout.splitlines()]
        printed.append("".join(f"{line}\n" for line in lines))
    return printed


def _rewritten(text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(text, Path(folder))
    parts = [f"$ {command}\n{out}" for (command, _), out in zip(commands(text), outputs, strict=True)]
    return _BLOCK.sub(lambda _: "```console five minutes\n" + "".join(parts) + "```", text)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(_rewritten(place.read_text()))
