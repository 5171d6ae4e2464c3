"""Libraries that make a page: loaded where one is made."""

from __future__ import annotations

from typing import Any

from ..libraries import load_library


def load(name: str) -> Any:
    """A module of a library. Raises UsageError, which names the extra, where it cannot be loaded."""
    return load_library(name, "reports need", "pip install 'gradmf[report]'")
