"""Run the commands that stand in a document, and hold (or write) the output that it shows for them.

A block of ```console holds commands behind `$ ` and, under each, what it prints. Times and rates differ
from run to run: they are masked before comparing.

    python tests/documents.py README.md          # rewrites the outputs in place
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMES = re.compile(r"\d+(\.\d+)? m?s\b")
_RATES = re.compile(r"\d+(\.\d+)? ([kMG]?B|bytes)/s\b")
_PRECISE = re.compile(r"\d+\.\d{9,}")


@dataclass(frozen=True)
class Example:
    """One command of a document and the output that stands under it."""

    command: str
    output: str


def examples(text: str) -> list[Example]:
    """The examples of all console blocks, in order. A command may go on after a backslash."""
    found = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.split("\n")
            length = 1
            while lines[length - 1].endswith("\\"):
                length += 1
            found.append(Example("\n".join(lines[:length]), "\n".join(lines[length:])))
    return found


def run(command: str) -> str:
    """What a command prints, on stdout and stderr, from the project's root, in a pipe of 80 columns."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "80",
        "PYTHONUTF8": "1",
    }
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # under `make test`, make would tell of its folders
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n" if done.stdout else ""


def masked(output: str) -> str:
    """The output with its times and rates struck out, and full precision cut to what processors share."""
    timeless = _RATES.sub("# B/s", _TIMES.sub("# s", output))
    return _PRECISE.sub(lambda number: f"{float(number.group()):.9g}", timeless)


def rewritten(text: str) -> str:
    """The document with every output replaced by what the command prints now."""

    def block(match: re.Match[str]) -> str:
        parts = [f"$ {e.command}\n{run(e.command)}" for e in examples(match.group(0))]
        return "```console\n" + "".join(parts) + "```"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(rewritten(path.read_text()))
