"""Stores of tools for data attribution, told by their files: a row of gradients a training example.

Path lengths and increments take rows in the order of training, which examples have none of.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_LOGIX = re.compile(r"(.*_)?rank_\d+_chunk_\d+\.mmap")


def example_store(path: str | os.PathLike[str]) -> str | None:
    """Why a folder, or a file of one, is no log: whose store it is; None where it is none of those known."""
    place = Path(path)
    folder = place if place.is_dir() else place.parent
    if not place.is_dir() and place.suffix not in (".mmap", ".bin"):
        return None
    tool = _tool(folder)
    if tool is None:
        return None
    return (
        f"a store of {tool}: its rows are training examples, not steps, and path lengths of those mean "
        "nothing; log the gradients of steps"
    )


def _tool(folder: Path) -> str | None:
    try:
        names = {entry.name for entry in os.scandir(folder)}
        inside = {
            name for entry in os.scandir(folder) if entry.is_dir() for name in ("grads.mmap",)
            if os.path.lexists(os.path.join(entry.path, name))  # noqa: PTH118 (fast)
        }  # fmt: skip
    except OSError:
        return None
    if "grads.mmap" in names or ("metadata.json" in names and inside):
        return "TRAK"
    if {"gradients.bin", "info.json"} <= names:
        return "bergson"
    if any(_LOGIX.fullmatch(name) for name in names):
        return "LogIX"
    return None
