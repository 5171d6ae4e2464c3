"""docs/importing.md: every block runs, and prints what stands under it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from documents import ROOT, masked
from recipes import Recipe, follow, sections

SECTIONS = sections((ROOT / "docs" / "importing.md").read_text())


@pytest.mark.parametrize("title", SECTIONS)
def test_blocks_run_and_print_what_stands_under_them(title: str, tmp_path: Path) -> None:
    def told(recipe: Recipe, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stdout
        if recipe.output is not None:
            assert masked(done.stdout) == masked(recipe.output)

    recipes = SECTIONS[title]
    loop = next(recipe for recipe in SECTIONS["Files of gradients"] if recipe.file)
    follow([loop, *recipes], tmp_path, told)


def test_blocks_are_found() -> None:
    assert list(SECTIONS) == ["Files of gradients", "One array of all rows", "Checkpoints"]
