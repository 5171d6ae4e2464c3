"""The documents tell the truth: their commands run, and print what stands under them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documents import ROOT, Example, examples, masked, run
from gradmf.gradlog.logs.store import zarrs_is_installed

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("example", examples(README), ids=lambda e: e.command.split("\n")[0])
def test_readme_shows_what_the_command_prints(example: Example) -> None:
    if "jq" in example.command and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    if "zarrs" in example.output and "gradmf" in example.command and not zarrs_is_installed():
        pytest.skip("zarrs is not installed")
    assert masked(run(example.command)) == masked(example.output)


DECISIONS = (ROOT / "docs" / "decisions.md").read_text()


@pytest.mark.parametrize("example", examples(DECISIONS), ids=lambda e: e.command.split("\n")[0])
def test_decisions_are_what_the_command_prints(example: Example) -> None:
    if "jq" in example.command and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    assert masked(run(example.command)) == masked(example.output)


def test_links_lead_somewhere() -> None:
    """To headings of the README itself, and to files."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\((?!http)([^)]*)\)", README)
    assert links
    for link in links:
        assert link in anchors or (ROOT / link).is_file(), link
    assert {"#a-gate-for-ci", "#one-log-over-several-machines", "#numbers-with-jq"} <= set(links)


def test_readme_shows_outputs() -> None:
    shown = examples(README)
    assert any(example.command == "make demo" for example in shown)
    assert all(example.output for example in shown)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_readme_python_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "sample_logs").symlink_to(ROOT / "sample_logs")
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_readme_names_every_option() -> None:
    """Options that the README mentions exist, by the command's own help."""
    shown = "".join(run(f"gradmf {command} --help") for command in ("analyze", "advise", "compare", "info"))
    for option in set(re.findall(r"`(--[a-z-]+)", README)):
        assert option in shown, option


def test_readme_quotes_the_benchmark() -> None:
    """The figures of the README's table stand in docs/benchmarks.md."""
    measured = [
        tuple(cell.strip() for cell in line.strip("| ").split("|")[1:4])
        for line in (ROOT / "docs" / "benchmarks.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    table = README.split("| 1 GiB: N = 512", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    assert len(table) == 5
    for line in table:
        assert tuple(cell.strip() for cell in line.strip("| ").split("|")[1:4]) in measured
