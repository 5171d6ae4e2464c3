"""CONTRIBUTING.md's recipe for a new output format, followed to the letter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_store
from guide import python_blocks, section

(MODULE,) = python_blocks("Adding an output format")
(LINE,) = re.findall(r"^    (\"tsv\": .*)$", section("Adding an output format"), re.MULTILINE)
PROGRAM = """
import sys
from gradmf.cli import formats
from gradmf.cli.formats.rendering import FORMATS, Format
formats.__path__.append(sys.argv[1])
FORMATS.update({%s})
from gradmf.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with a name that is hard on columns."""
    rng = np.random.default_rng(5)
    return write_store(tmp_path / "run\tof é.zarr", {"w": rng.standard_normal((6, 5)).astype("f4")})


def shown(tmp_path: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What the command line does with the format added as the recipe says."""
    folder = tmp_path / "formats"
    folder.mkdir(exist_ok=True)
    (folder / "as_tsv.py").write_text(MODULE)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM % LINE.strip(), folder, *words],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def leaf(document: Any, place: str) -> Any:
    """The value of a document at a place."""
    for name in place.split("/")[1:]:
        document = document[int(name)] if isinstance(document, list) else document[json.loads(f'"{name}"')]
    return document


def test_a_format_is_one_module_and_one_line(tmp_path: Path, log: Path) -> None:
    done = shown(tmp_path, "analyze", log, "--format", "tsv", "--steps")
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    whole = shown(tmp_path, "analyze", log, "--format", "json")
    document = json.loads(whole.stdout)
    assert json.loads(found["/run/path"]) == str(log)
    several = shown(tmp_path, "analyze", log, log, "--format", "tsv").stdout
    assert f"/1/run/path\t{json.dumps(str(log))}\n" in several
    assert json.loads(found["/total/predictors/0/predictor"]) == "zero"
    for place, value in found.items():
        if not place.startswith("/cost"):
            assert json.loads(value) == leaf(document, place), place
    assert sum(place.startswith("/steps/grad_norm/") for place in found) == 6


def test_it_goes_with_every_command_and_option_for_its_kind(tmp_path: Path, log: Path) -> None:
    for words in (
        ["info", log], ["bounds", log, "--curves"], ["advise", log], ["compare", log, log],
        ["analyze", log, "--plan"], ["analyze", log, "--search", "--tensor-steps"],
    ):  # fmt: skip
        done = shown(tmp_path, *words, "--format", "tsv", "-o", tmp_path / "out.tsv")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert (tmp_path / "out.tsv").read_text(encoding="utf-8").count("\n") > 5
    held = shown(tmp_path, "analyze", log, "--format", "tsv", "--fail-if", "energy > 0")
    assert held.returncode == 3
    assert "|tsv]" in shown(tmp_path, "analyze", "--help").stdout.replace("\n", "")
    refused = shown(tmp_path, "analyze", log, "--format", "tsv", "--columns", "run")
    assert (refused.returncode, refused.stdout) == (2, "")
