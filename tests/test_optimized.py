"""Python without assertions (-O) and without docstrings (-OO): the same program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gradmf import gradlog
from gradmf.cli.commands.group import _COMMANDS

ROOT = Path(__file__).parent.parent
LOG = ROOT / "sample_logs" / "mlp-gd.zarr"
HELP = f"""
from gradmf.cli.main import main
for words in ([], *([name] for name in {_COMMANDS!r})): main([*words, "--help"])
"""


def output(*arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_help_says_the_same() -> None:
    told = output("-OO", "-c", HELP)
    assert told == output("-c", HELP)
    assert "How predictable were a training run's gradients" in told


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_commands_do_the_same(flag: str) -> None:
    for words in (("info",), ("analyze", "--rank", "none")):
        command = ("-m", "gradmf", *words, LOG, "--format", "csv")
        assert output(flag, *command) == output(*command)


def test_what_is_asked_of_the_library_is_checked() -> None:
    with pytest.raises(gradlog.UsageError, match="name no subspace"):
        gradlog.relate(LOG, LOG, [range(3)] * 2, gradlog.Settings())
    analysis = gradlog.analyze(LOG, gradlog.Settings(rank="none"))
    rule = gradlog.Rule("kappa", "one-step", "worse")
    with pytest.raises(gradlog.UsageError, match=r"'kappa\[one-step\] worse' is a rule of comparisons"):
        gradlog.judge(analysis, [rule])
