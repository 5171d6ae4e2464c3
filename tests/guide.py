"""The recipes of CONTRIBUTING.md: tests follow them to the letter."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


def section(title: str) -> str:
    """The text under a heading."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)
    return str(text)


def python_blocks(title: str) -> list[str]:
    """The Python in a section."""
    return re.findall(r"```python\n(.*?)```", section(title), re.DOTALL)
