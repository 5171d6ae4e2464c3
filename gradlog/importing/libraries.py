"""Libraries that only some sources need, loaded when one is met."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import UsageError, first_line

EXTRA = "pip install 'gradmf[import]'"


def library(name: str, what: str) -> Any:
    """A module. what : that needs it. Raises UsageError, which names the extra, where it cannot be loaded."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        told = "is not installed" if error.name == name else f"cannot be loaded ({first_line(error)})"
        raise UsageError(f"{what} needs the library {name}, which {told}: {EXTRA}") from error
