"""Blocks of the README that a reader pastes, one after the other in one folder: a shell a block.

python tests/pasted.py README.md       # writes their outputs anew, where what they need is installed
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_SCRIPT = re.compile(r"^```python file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```console pasted\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+|(?<= -p )\d+|(?<=--port )\d+")
_MARK = "--- the next command ---"


def commands(text: str) -> list[list[tuple[str, str]]]:
    """Of each block its commands, and the output that stands under each."""
    blocks = []
    for block in _BLOCK.findall(text):
        found = []
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
        blocks.append(found)
    return blocks


def run(text: str, folder: Path) -> list[list[str]]:
    """What the commands print, beside the scripts of the document.

    Servers of a block end with it. They listen on free ports, and what is printed tells those of the text.
    """
    for name, script in _SCRIPT.findall(text):
        (folder / name).write_text(script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", "PYTHONUTF8": "1"}
    printed = []
    for block in commands(text):
        lines = [line for command, _ in block for line in (command, f"echo '{_MARK}'")]
        script = "\n".join(lines)
        ports = {port: str(_free_port()) for port in sorted(set(_PORT.findall(script)))}
        script = _PORT.sub(lambda found, used=ports: used[found[0]], script)
        with subprocess.Popen(
            ["bash", "-c", script], cwd=folder, env=environment, text=True, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        ) as shell:  # fmt: skip
            assert shell.stdout is not None
            told = ""
            while told.count(f"{_MARK}\n") < len(block) and (line := shell.stdout.readline()):
                told += line
            os.killpg(shell.pid, signal.SIGTERM)
        for port, used in ports.items():
            told = told.replace(f":{used}", f":{port}")
        outputs = told.split(f"{_MARK}\n")[: len(block)]
        printed.append(["".join(f"{line.rstrip()}\n" for line in output.splitlines()) for output in outputs])
    return printed


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _rewritten(text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        outputs = iter(run(text, Path(folder)))
    blocks = iter(commands(text))

    def anew(_: re.Match[str]) -> str:
        parts = [f"$ {command}\n{out}" for (command, _), out in zip(next(blocks), next(outputs), strict=True)]
        return "```console pasted\n" + "".join(parts) + "```"

    return _BLOCK.sub(anew, text)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(_rewritten(place.read_text()))
