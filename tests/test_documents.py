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
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("tour", "memory", "decisions", "scale")),
]
"""Their commands run in the project's folder. Other tests run those of the rest."""


@pytest.mark.parametrize(
    "example",
    [example for place in SHOWN for example in examples(place.read_text())],
    ids=lambda e: e.command.split("\n")[0],
)
def test_documents_show_what_the_command_prints(example: Example) -> None:
    if "jq" in example.command and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    if "zarrs" in example.output and "gradmf" in example.command and not zarrs_is_installed():
        pytest.skip("zarrs is not installed")
    assert masked(run(example.command)) == masked(example.output)


@pytest.mark.parametrize("place", DOCUMENTS, ids=lambda place: place.name)
def test_links_lead_somewhere(place: Path) -> None:
    """To headings of the document itself, and to files."""
    text = place.read_text()
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\((?!http)([^)]*)\)", text):
        assert link in anchors or (place.parent / link.partition("#")[0]).exists(), link


def test_every_document_is_linked_from_the_readme() -> None:
    links = set(re.findall(r"\]\((docs/[^)#]*)", README))
    assert links >= {f"docs/{place.name}" for place in DOCUMENTS[1:]}
    assert len(README.splitlines()) <= 250


def test_readme_shows_outputs() -> None:
    shown = examples(README)
    assert any(example.command == "make demo" for example in shown)
    assert all(example.output for example in shown)


PYTHON = [
    block
    for place in (ROOT / "README.md", ROOT / "docs" / "tour.md", ROOT / "docs" / "log.md")
    for block in re.findall(r"```python\n(.*?)```", place.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("block", PYTHON)
def test_python_of_documents_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "sample_logs").symlink_to(ROOT / "sample_logs")
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_documents_name_options_that_exist() -> None:
    """By the commands' own help."""
    names = (
        "analyze", "advise", "bounds", "compare", "export", "import", "info", "merge", "plot", "rechunk",
        "report", "sketch",
    )  # fmt: skip
    shown = "".join(run(f"gradmf {command} --help") for command in names)
    for place in DOCUMENTS:
        for option in set(re.findall(r"`(--[a-z-]+)", place.read_text())):
            assert option in shown, f"{place.name}: {option}"


def test_the_benchmark_is_quoted() -> None:
    """The figures of the table in docs/memory.md stand in docs/benchmarks.md."""
    measured = [
        tuple(cell.strip() for cell in line.strip("| ").split("|")[1:4])
        for line in (ROOT / "docs" / "benchmarks.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    memory = (ROOT / "docs" / "memory.md").read_text()
    table = memory.split("| 1 GiB: N = 512", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    assert len(table) == 5
    for line in table:
        assert tuple(cell.strip() for cell in line.strip("| ").split("|")[1:4]) in measured
