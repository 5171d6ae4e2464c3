"""The lowest versions that pyproject.toml allows, one requirement a line, for `pip install --constraint`."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirement: str) -> str:
    """name==1.2 of "name>=1.2". Raises ValueError where a requirement names no lowest version."""
    name, separator, version = requirement.partition(">=")
    if not separator or not version.replace(".", "").isdigit():
        raise ValueError(f"{PROJECT.name}: no lowest version in '{requirement}'")
    return f"{name.strip()}=={version}"


if __name__ == "__main__":
    for dependency in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
        print(lowest(dependency))
