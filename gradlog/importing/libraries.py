"""Libraries that only some sources need, loaded when one is met."""

from __future__ import annotations

from typing import Any

from ..libraries import load_library


def library(name: str, what: str) -> Any:
    """A module. what : that needs it. Raises UsageError, which names the extra, where it cannot be loaded."""
    return load_library(name, f"{what} needs", "pip install 'gradmf[import]'")
