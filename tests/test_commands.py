"""docs/commands.md says what --help says, every command has help with two examples, and the examples run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from import_sources import write_safetensors

from commands import commands, examples, reference
from documents import ROOT, run

COMMANDS = commands()
TEXT = (ROOT / "docs" / "commands.md").read_text()


def test_the_reference_is_what_the_commands_say() -> None:
    assert reference() == TEXT, "python tests/commands.py docs/commands.md writes it anew"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_the_options_of_help(name: str) -> None:
    shown = run(f"gradmf {name} --help")
    section = TEXT.partition(f"## gradmf {name}\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE)
    listed = re.findall(r"^  (-.*?)(?:  |$)", shown.partition("Options:")[2], re.MULTILINE)
    assert [option.replace("\\|", "|") for option in table] == listed
    written, said = (set(re.sub(r"[|`\\]", " ", text).split()) for text in (section, shown))
    assert said - written == {"Usage:", "Options:", "Examples:"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert command.short_help
    assert command.short_help.endswith(".")
    assert len(examples(command)) == 2
    for example in examples(command):
        assert f"gradmf {name} " in example
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.rstrip("]").strip(), option.name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples speak of: runs, a reference, parts of a run, gradients, checkpoints."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "runs").mkdir()
    (folder / "parts").mkdir()
    logs = {"run": "mlp-gd", "run2": "mlp-sgd", "reference": "mlp-gd", "new": "mlp-sgd",
            "runs/a": "mlp-gd", "runs/b": "mlp-sgd"}  # fmt: skip
    for name, sample in logs.items():
        shutil.copytree(ROOT / "sample_logs" / f"{sample}.zarr", folder / f"{name}.zarr")
    (folder / "gradients").mkdir()
    for step in range(4):
        weights = {"w": np.sin(np.arange(12.0) * (step + 1)).astype("f4")}
        np.savez(folder / "gradients" / f"step-{step}.npz", **weights)
        write_safetensors(folder / "checkpoints" / f"checkpoint-{step}" / "model.safetensors", weights)
    for part in (1, 2):
        gradmf = [sys.executable, "-m", "gradmf", "analyze", "run.zarr", "--part", f"{part}/2"]
        subprocess.run([*gradmf, "-o", f"parts/run.{part}"], cwd=folder, check=True)
    return folder


EXAMPLES = [
    # Figures need matplotlib, reports Jinja2 too, and Parquet pyarrow.
    pytest.param(
        example,
        marks=pytest.mark.extras if re.search("gradmf (plot|report|export .*parquet)", example) else (),
    )
    for command in COMMANDS.values()
    for example in examples(command)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_help_runs(example: str, folder: Path) -> None:
    if "jq" in example.split() and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    written = re.search(r"(?:-o|>) (\S+)", example)
    shown = (folder / written[1]).stat().st_size if written and "$" not in written[1] else len(done.stdout)
    assert shown or example.startswith("eval ")
