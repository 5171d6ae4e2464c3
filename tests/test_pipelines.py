"""docs/pipelines.md: every recipe runs, does what it says, and prints what stands under it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from documents import ROOT, masked
from recipes import Recipe, follow, sections

TEXT = (ROOT / "docs" / "pipelines.md").read_text()
SECTIONS = sections(TEXT)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def runs_of(path: Path) -> list[str]:
    return [json.loads(line)["run"]["path"] for line in lines(path)]


RUNS = ["runs/adamw.zarr", "runs/gd.zarr", "runs/sgd.zarr"]


def many_runs(folder: Path) -> None:
    assert runs_of(folder / "runs.jsonl") == RUNS
    assert {line.partition(",")[0] for line in lines(folder / "kappa.csv")} == {"run", *RUNS}
    written = sorted(path.name for path in (folder / "out").iterdir())
    assert written == ["adamw.jsonl", "gd.jsonl", "sgd.jsonl"]


def slurm(folder: Path) -> None:
    assert runs_of(folder / "runs.jsonl") == RUNS
    merged = json.loads((folder / "large.json").read_text())["total"]
    [alone] = [json.loads(line)["total"] for line in lines(folder / "out" / "1.jsonl")]
    assert merged["energy"] == pytest.approx(alone["energy"], rel=1e-12)
    for found, expected in zip(merged["spectrum"]["rank"], alone["spectrum"]["rank"], strict=True):
        # Sums of other order, and errors are differences of their logarithms.
        near = {"residual": 1e-12, "error": 1e-9, "freedom": 1e-9}
        assert found == expected | {
            name: pytest.approx(expected[name], rel=rel) for name, rel in near.items()
        }


def makefile(folder: Path) -> None:
    assert [line.partition("\t")[0] for line in lines(folder / "kappa.tsv")] == RUNS


DONE: dict[str, Callable[[Path], None]] = {
    "Many runs": many_runs,
    "A Slurm array": slurm,
    "A Makefile": makefile,
}


@pytest.mark.parametrize("title", SECTIONS)
def test_recipes_run_and_print_what_stands_under_them(title: str, tmp_path: Path) -> None:
    recipes = SECTIONS[title]
    for tool in ("jq", "make"):
        if shutil.which(tool) is None and any(tool in recipe.code.split() for recipe in recipes):
            pytest.skip(f"{tool} is not installed")

    def told(recipe: Recipe, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, f"{recipe.code}\n{done.stdout}"
        if recipe.output is not None:
            assert masked(done.stdout) == masked(recipe.output), recipe.code
            assert recipe.output

    follow(recipes, tmp_path, told)
    DONE.get(title, lambda _: None)(tmp_path)


def test_what_recipes_do_is_looked_at() -> None:
    assert set(DONE) <= set(SECTIONS)
    assert TEXT.count("```") == 2 * sum(len(found) for found in SECTIONS.values()) + 2 * TEXT.count("```text")
