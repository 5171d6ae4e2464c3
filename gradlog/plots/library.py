"""matplotlib: loaded where something is drawn."""

from __future__ import annotations

from typing import Any

from ..libraries import load_library


def load(name: str = "matplotlib") -> Any:
    """A module of matplotlib. Raises UsageError, which names the extra, where it cannot be loaded."""
    return load_library(name, "figures need", "pip install 'gradmf[plot]'")
