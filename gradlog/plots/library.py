"""matplotlib: loaded where something is drawn, and never to analyze."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import UsageError, first_line

EXTRA = "pip install 'gradmf[plot]'"


def load(name: str = "matplotlib") -> Any:
    """A module of matplotlib. Raises UsageError, which names the extra, where it cannot be loaded."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name in ("matplotlib", name)
        told = "is not installed" if missing else f"cannot be loaded ({first_line(error)})"
        raise UsageError(f"figures need the library matplotlib, which {told}: {EXTRA}") from error
