"""What the README has a reader paste, with a real training run, server and cluster: not the clock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from documents import ROOT, masked
from pasted import commands, run

pytestmark = pytest.mark.extras

_NUMBER = re.compile(r"\d[\d,]*\.?\d*(?:e[-+]\d+)?")


def test_what_a_reader_pastes(tmp_path: Path) -> None:
    """Processors round differently, and training carries that on: three digits are held."""
    text = (ROOT / "README.md").read_text()
    for block, printed in zip(commands(text), run(text, tmp_path), strict=True):
        for (command, shown), found in zip(block, printed, strict=True):
            lines = [masked(output).splitlines() for output in (shown, found)]
            assert [_NUMBER.sub("#", _drawn(line)) for line in lines[0]] == [
                _NUMBER.sub("#", _drawn(line)) for line in lines[1]
            ], command
            for mine, other in zip(*lines, strict=True):
                numbers = [
                    [float(n.replace(",", "")) for n in _NUMBER.findall(line)] for line in (mine, other)
                ]
                assert numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=0.02), command


def _drawn(line: str) -> str:
    """Without what a number in the last digit may move: columns' widths, and lines of characters."""
    return re.sub(r"[▁-█]+", "~", re.sub(r" +", " ", line))
