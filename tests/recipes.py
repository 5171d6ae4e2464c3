"""Run the recipes of a document, and hold (or write) the outputs that it shows.

A block of ```bash is run from a folder whose `runs/` holds logs, a block with `file=NAME` behind its language
is written to NAME there before, and a block of ```text right under another holds what that prints. The blocks
under one heading share a folder.

    python tests/recipes.py docs/pipelines.md          # rewrites the outputs in place
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from documents import ROOT, masked

_OUTPUT = r"(?:\n```text\n(.*?)^```$)?"
_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$" + _OUTPUT, re.MULTILINE | re.DOTALL)
_RUNS = {"gd": "mlp-gd", "sgd": "mlp-sgd", "adamw": "charlm-adamw"}
# Does what an array job does, one task after another.
_SBATCH = """\
#!/bin/bash
[ "$1" = --wait ] || exit 2
[[ "$2" =~ ^--array=1-([0-9]+)$ ]] || exit 2
export SLURM_ARRAY_TASK_COUNT=${BASH_REMATCH[1]} SLURM_CPUS_PER_TASK=2
for ((task = 1; task <= SLURM_ARRAY_TASK_COUNT; task++)); do
    SLURM_ARRAY_TASK_ID=$task bash -euo pipefail "${@:3}" || exit
done
"""


@dataclass(frozen=True)
class Recipe:
    """A block: `file` is the name that it goes by, or None for commands; `output` what stands under it."""

    code: str
    file: str | None
    output: str | None


def sections(text: str) -> dict[str, list[Recipe]]:
    """The blocks under each heading that has some to run."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        blocks = [Recipe(m[3], m[2], m[4]) for m in _BLOCK.finditer(section) if m[1] == "bash" or m[2]]
        if blocks:
            found[section.partition("\n")[0]] = blocks
    return found


def environment(folder: Path) -> dict[str, str]:
    """For commands in `folder`: gradmf and an sbatch on the path, 80 columns."""
    tools = folder / ".tools"
    tools.mkdir()
    (tools / "sbatch").write_text(_SBATCH)
    (tools / "sbatch").chmod(0o755)
    path = os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"]))
    of_make = (
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "MAKEOVERRIDES",
    )
    # Under `make test`, a make within would tell of its folders.
    kept = {name: value for name, value in os.environ.items() if name not in of_make}
    return {**kept, "PATH": path, "COLUMNS": "80", "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}


def prepare(folder: Path) -> None:
    """`runs/` with copies of the sample logs."""
    for name, sample in _RUNS.items():
        shutil.copytree(ROOT / "sample_logs" / f"{sample}.zarr", folder / "runs" / f"{name}.zarr")


def run(code: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run commands as a careful script would: the first that fails ends it. stderr goes where stdout does."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=folder, env=environment, text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def follow(
    recipes: list[Recipe], folder: Path, told: Callable[[Recipe, subprocess.CompletedProcess[str]], None]
) -> None:
    """Do what one section says, and tell of every block that was run."""
    prepare(folder)
    held = environment(folder)
    for recipe in recipes:
        if recipe.file is not None:
            (folder / recipe.file).write_text(recipe.code)
        else:
            told(recipe, run(recipe.code, folder, held))


def rewritten(text: str) -> str:
    """The document with every output replaced by what is printed now."""
    for recipes in sections(text).values():
        printed = {}
        with tempfile.TemporaryDirectory() as folder:
            follow(recipes, Path(folder), lambda recipe, done, to=printed: to.update({recipe: done.stdout}))
        for recipe, output in printed.items():
            if recipe.output is not None and masked(output) != masked(recipe.output):
                old = f"{recipe.code}```\n```text\n{recipe.output}```"
                text = text.replace(old, f"{recipe.code}```\n```text\n{output}```")
    return text


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(rewritten(path.read_text()))
